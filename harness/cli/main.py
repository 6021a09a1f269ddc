"""The command line: `harness run`, plan, list, show, new, check, score, compare, calibrate, sensitivity, anneal,
ladder, curvature, report, watch, status, verify, publish, merge, data, doctor.

The module of a command is imported when it is called, so that help appears at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from harness import __version__
from harness.cli.parser import print_error
from harness.errors import ConfigError, HarnessError, of_machine, suggest

INTERRUPTED = 130

COMMANDS = {
    "run": "run",
    "plan": "plan",
    "list": "listing",
    "show": "show",
    "new": "new",
    "check": "check",
    "score": "score",
    "report": "report",
    "compare": "compare",
    "calibrate": "calibrate",
    "sensitivity": "sensitivity",
    "anneal": "anneal",
    "ladder": "ladder",
    "curvature": "curvature",
    "watch": "watch",
    "status": "status",
    "verify": "verify",
    "publish": "publish",
    "merge": "merge",
    "data": "data",
    "doctor": "doctor",
}
"""The module of each command, which holds `parser()`, and `call(args)` that returns the exit code."""

HELP = """\
usage: harness COMMAND ...

Does your optimizer really train faster? Run submissions on fixed workloads and score their time to a validation target.

commands:
  run          run submissions, then show the scores
  plan         write the trials of a run to a file, for another machine
  list         list the submissions, workloads, suites and rules that are found
  show         show one of them
  new          write a submission to start from
  check        check a submission before it is run
  score        score run folders
  report       make a page of scores, curves and records
  compare      say in a few lines how two submissions compare
  calibrate    one configuration for all workloads: what it costs
  sensitivity  final metrics against the learning rate
  anneal       predict the final loss under a schedule from runs under others
  ladder       speed-ups over widths of a model and amounts of data
  curvature    how sharp the minimum is in which each run ended
  watch        watch a campaign that runs elsewhere
  status       tell how jobs stand that were submitted to a cluster
  verify       find out whether records hold; train them again
  publish      pack records, programs and sources in one file
  merge        join packs of one machine
  data         get the data sets that workloads need
  doctor       look at this machine; measure its baseline

examples:
  harness run adamw nadamw        compare two optimizers on the demo suite
  harness run                     run what is new in ./submissions
  harness new mine                write ./submissions/mine; `harness check mine` looks at it
  harness score                   show the scores again

`harness COMMAND --help` shows more. Everywhere: --debug shows tracebacks, --version the version.
Exit codes: 0 done (a missed target is a result too), 1 a trial failed, or the machine (a full disk), or check has
findings, 2 bad input, 3 data missing, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 (a trial failed), 2 (usage), 3 (data missing) or 130."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words and words[0] != "check"  # which has one of its own
    try:
        code = _dispatch([word for word in words if word != "--debug" or words[0] == "check"])
        sys.stdout.flush()
    except HarnessError as error:
        print_error(error, debug)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; type the same again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `harness list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        problem = of_machine(error)
        problem.__cause__ = error
        print_error(problem, debug)
        return problem.exit_code
    return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if words[0] == "--version":
        print(f"harness {__version__}")
        return 0
    name, *rest = words
    if name not in COMMANDS:
        what = "option" if name.startswith("-") else "command"
        raise ConfigError(f"unknown {what} '{name}'; {suggest(name, COMMANDS, 'commands')}")
    command = importlib.import_module(f"harness.cli.{COMMANDS[name]}")
    parser = command.parser()
    args, unknown = parser.parse_known_intermixed_args(rest)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ConfigError(f"harness {name}: unknown argument '{unknown[0]}'; {suggest(unknown[0], flags, 'options')}")
    code: int = command.call(args)
    return code
