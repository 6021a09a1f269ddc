"""The command line: `harness run | plan | list | show | new | check | score | data | doctor`.

Each command imports what it needs when it is called, so that help appears at once; jax is left to the worker.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness import __version__
from harness.errors import ConfigError, HarnessError, RunFolderError, suggest

if TYPE_CHECKING:
    from harness.launch import devices
    from harness.plan import Plan, PlannedTrial
    from harness.records import Trial

INTERRUPTED = 130

RUN_HELP = """\
SUBMISSION is the name of a folder in ./submissions, or a path to one. With none named, every submission that is found
runs whose trials are not finished: so put a folder there and type `harness run`. Finished trials are not run again;
interrupted ones go on where they were.

examples:
  harness run adamw nadamw                      compare two on the demo suite
  harness run ./my_optimizer workload=lm_grammar
  harness run adamw workload=lm_grammar,resnet_digits seed=1
  harness run adamw hp.learning_rate=0.003      another hyperparameter
  harness run adamw muon rules=tuned            for results: tuned, then 6 fresh seeds, with intervals
  harness run adamw rules=speedrun steps=600    are 600 steps enough? 8 runs, and a test of their mean
  harness run adamw stop=horizon clock=wall     to the last step; rank by wall time
  harness run adamw max_steps=20 out=/tmp/runs  a smoke test
  harness run adamw variant=wide                the same tasks with wider models: held-out variants, not scored
  harness run --dry-run                         what would run, and how long

keys: suite, rules, device (files below configs/), workload, variant, seed, out, hp.NAME, max_steps, checkpoint_s,
hang_s, retry, tensorboard, stop, clock, studies, trials, steps, and fields of the groups, as in rules.budget_factor=2
"""

PLAN_HELP = """\
examples:
  harness plan adamw muon suite=gpu device=h200 stop=horizon -o plan.json
  python -m harness.worker plan.json --out runs       on the other machine, in a copy of the project's folder
  harness score runs                                  wherever the run folders end up

The words are those of `harness run`; device=cpu, gpu or h200 must be named. The other machine needs jax, flax, optax,
orbax-checkpoint, scipy and PyYAML, no Hydra, and the data (HARNESS_DATA names their folder). Submissions and workloads
are looked for by name there and must have the same sources. Finished trials are not run again, so an interrupted plan
goes on.
"""

SCORE_HELP = """\
examples:
  harness score                               all runs in ./runs
  harness score runs/lm_grammar               those of one workload
  harness score --clock cpu --baseline adamw  by processor time; speed-ups over adamw
  harness score results/cpu                   published records, as the leaderboard has them
  harness score results/cpu/demo-tuned.jsonl runs   your own runs among published ones of the same machine
  harness score --json                        for programs; --csv scores.csv for spreadsheets
  harness score --format algoperf logs.tar.gz --targets workload_targets_v05.json

With 6 studies or more an interval stands beside each number, with 2 to 5 the range of the studies; pairs are told apart
by a test. AlgoPerf's logs are scored by its written rules, with --algoperf-compat by the arithmetic of its code, which
the published boards were made with. harness/scoring/README.md has the rules, the statistics and the JSON.
"""

CHECK_HELP = """\
Reads the folder (metadata, size, forbidden doings), then trains it in a process of its own on toys: a linear regression
and a copy of each family of models with one layer of width 16. Looks at the contract of harness/api.py, search space,
determinism and resumption. Each finding says what to do. Exit code 0: all passed; 1: there are findings.

examples:
  harness check mine
  harness check ./my_optimizer
  harness check adamw muon --json
"""

NEW_HELP = """\
Writes submission.py, submission.yaml and README.md into ./submissions/NAME, or into the folder at a path. They work as
they are: Nesterov AdamW as an optax chain; with --full an Algorithm with init, step and eval_variables, which is
evaluated at an average of its parameters.

examples:
  harness new mine && harness check mine && harness run mine workload=quadratic stop=horizon
  harness new mine --full
"""

DATA_HELP = """\
list shows what there is and how it stands; get downloads and prepares, once; verify hashes everything anew.

examples:
  harness data list
  harness data get cifar10                      from its public address
  harness data get cifar10 --mirror DIR         from DIR/cifar10/cifar-10-python.tar.gz (or .tar.xz), without a network
  harness data get --all --mirror https://example.org/mirror
  harness data verify

A get that is interrupted goes on where it was. Prepared sets lie in `data` of the cache folder
(~/.cache/training-harness), or in the folder that the environment variable HARNESS_DATA names.
"""

DOCTOR_HELP = """\
examples:
  harness doctor                             look at the machine, the packages and the folders
  harness doctor --calibrate                 measure the baseline's step time, which the budgets are made of
  harness doctor --calibrate workload=lm_grammar device=gpu
"""

HELP = """\
usage: harness COMMAND ...

Does your optimizer really train faster? Run submissions on fixed workloads and score their time to a validation target.

commands:
  run      run submissions, then show the scores
  plan     write the trials of a run to a file, for another machine
  list     list the submissions, workloads, suites and rules that are found
  show     show one of them
  new      write a submission to start from
  check    check a submission before it is run
  score    score run folders
  data     get the data sets that workloads need
  doctor   look at this machine; measure its baseline

examples:
  harness run adamw nadamw        compare two optimizers on the demo suite
  harness run                     run what is new in ./submissions
  harness new mine                write ./submissions/mine; `harness check mine` looks at it
  harness score                   show the scores again

`harness COMMAND --help` shows more. Everywhere: --debug shows tracebacks, --version the version.
Exit codes: 0 done (a missed target is a result too), 1 a trial failed or check has findings, 2 bad input, 3 data
missing, 130 interrupted.
"""


@dataclass(frozen=True)
class Command:
    """A command: its parser, and what it does with the parsed arguments; that returns the exit code."""

    parser: Callable[[], argparse.ArgumentParser]
    call: Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 (a trial failed), 2 (usage), 3 (data missing) or 130."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        code = _dispatch([word for word in words if word != "--debug"])
        sys.stdout.flush()
    except HarnessError as error:
        _report(error, debug)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; type the same again to go on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # as in `harness list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
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
    command = COMMANDS[name]
    parser = command.parser()
    args, unknown = parser.parse_known_intermixed_args(rest)
    if unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        raise ConfigError(f"harness {name}: unknown argument '{unknown[0]}'; {suggest(unknown[0], flags, 'options')}")
    return command.call(args)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog}: {message}; see {self.prog} --help")


def _parser(name: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    return _Parser(
        prog=f"harness {name}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _run_parser() -> argparse.ArgumentParser:
    parser = _parser("run", "Run submissions on workloads, one trial after another, then show the scores.", RUN_HELP)
    parser.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="see below")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return parser


def _run(args: argparse.Namespace) -> int:
    from harness import config, plan
    from harness.launch import devices
    from harness.tables import print_table

    names = [word for word in args.words if "=" not in word]
    request = config.compose([word for word in args.words if "=" in word])
    preview = args.dry_run and request.device.platform != "auto"  # of a device that need not be here
    planned = plan.make_plan(request, names, elsewhere=preview)
    if not names:
        print(plan.everything())
    if planned.trials:
        print_table(plan.HEAD, plan.rows(planned))
        print(plan.total(planned), flush=True)
    for problem in planned.problems:
        _report(problem)
    code = 1 if planned.problems else 0
    for check in (lambda: plan.resolve_device(request.device), lambda: plan.check_data(planned)):
        try:
            check()
        except HarnessError as error:
            if not args.dry_run:
                raise
            print(f"note: {error}", file=sys.stderr)
    if args.dry_run:
        return code
    tried: set[Path] = set()
    run_one = functools.partial(_run_trial, tensorboard=request.tensorboard)
    while left := [trial for trial in planned.runnable if trial.path not in tried]:
        plan.record(planned)
        tried.update(trial.path for trial in left)
        for problem in devices.run_all(left, run_one):
            _report(problem)
            code = max(code, problem.exit_code)
        if planned.later:  # what was waiting for these trials
            planned = plan.make_plan(replace(request, retry=False), names)
            for choice in planned.choices:
                print(choice.text, flush=True)
    plan.record(planned)
    return max(code, _show_scores(planned))


def _run_trial(trial: PlannedTrial, slot: devices.Slot, *, tensorboard: bool) -> Trial:
    from harness import progress, records
    from harness.launch import local

    with contextlib.ExitStack() as stack:
        history = [] if trial.again else records.read_events(trial.path)
        view = stack.enter_context(progress.shown(trial.spec, history, alone=slot.alone))
        sinks = [view.add]

        def on_start() -> None:
            if tensorboard:
                sinks.append(stack.enter_context(_event_view(trial.path)))

        def on_event(event: dict[str, Any]) -> None:
            for sink in sinks:
                sink(event)

        return local.run_trial(
            trial, on_event, on_start=on_start, note=view.note, environment=slot.environment, presses=slot.presses
        )


@contextlib.contextmanager
def _event_view(folder: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    from harness.tensorboard import EventView

    view = EventView(folder)
    try:
        yield view.add
    finally:
        view.close()


def _show_scores(planned: Plan) -> int:
    """Print the table of the plan's trials; return 1 where one of them failed or is not finished."""
    from harness import records
    from harness.scoring.table import print_scores

    trials = [records.read_trial(trial.path) for trial in planned.trials if (trial.path / "spec.json").exists()]
    unranked = [trial for trial in trials if trial.spec.max_steps is not None or trial.spec.variant is not None]
    if unranked:
        _print_unranked(unranked)
    ranked = [trial for trial in trials if trial not in unranked]
    for rules in dict.fromkeys(trial.spec.rules for trial in ranked):  # that of self-tuning has a table of its own
        print_scores([trial for trial in ranked if trial.spec.rules == rules])
    for trial in trials:
        for warning in ((trial.result and trial.result.card) or {}).get("warnings", ()):
            print(f"{trial.path}: {warning}", file=sys.stderr)
    short = [trial for trial in trials if trial.status in records.FAILED | records.UNFINISHED]
    for trial in short:
        print(f"{trial.path}: {trial.status}: {trial.reason}", file=sys.stderr)
    for later in planned.later:
        print(f"{later.submission} on {later.workload}: its tuning trials are not finished", file=sys.stderr)
    return 1 if short or planned.later else 0


def _print_unranked(trials: Sequence[Trial]) -> None:
    """Print how smoke tests and runs of held-out variants ended: they have a last value, and no time to a target."""
    from harness.tables import print_line, print_table

    print_line("not ranked: smoke tests and held-out variants", style="bold")
    rows = []
    for trial in trials:
        spec, result = trial.spec, trial.result
        value = None if result is None else result.last
        if result is not None and value is None:  # shorter than the first measurement: the full split's, at the end
            value = (result.validation or {}).get(spec.metric)
        last = "-" if value is None else f"{value:.4g}"
        steps = str(result.steps) if result else "-"
        rows.append([spec.workload, spec.variant or "-", spec.submission, str(trial.status), steps, spec.metric, last])
    print_table(["workload", "variant", "submission", "status", ">steps", "metric", ">last"], rows)


def _plan_parser() -> argparse.ArgumentParser:
    parser = _parser("plan", "Write the trials of a run to a file, for a machine without a configuration.", PLAN_HELP)
    parser.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the file (default: show the plan)")
    return parser


def _plan(args: argparse.Namespace) -> int:
    from harness import config, plan, planfile
    from harness.tables import print_table

    run = config.compose([word for word in args.words if "=" in word])
    names = [word for word in args.words if "=" not in word]
    planned = plan.make_plan(run, names, elsewhere=args.output is not None)
    print_table(plan.HEAD, plan.rows(planned))
    for problem in planned.problems:
        _report(problem)
    if args.output is not None:
        count = planfile.write(args.output, planned.trials)
        print(f"{count} trials in {args.output}; run them with: python -m harness.worker {args.output} --out runs")
    return 1 if planned.problems else 0


def _list_parser() -> argparse.ArgumentParser:
    return _parser("list", "List the submissions, workloads, suites and rules that are found.")


def _list(_: argparse.Namespace) -> int:
    from harness.listing import print_list

    print_list()
    return 0


def _show_parser() -> argparse.ArgumentParser:
    parser = _parser("show", "Show what is known of one.", "example:\n  harness show lm_grammar\n")
    parser.add_argument("name", metavar="NAME", help="name or path of a submission or workload")
    return parser


def _show(args: argparse.Namespace) -> int:
    from harness.listing import print_show

    print_show(args.name)
    return 0


def _check_parser() -> argparse.ArgumentParser:
    parser = _parser("check", "Check submissions before they are run.", CHECK_HELP)
    parser.add_argument("names", nargs="+", metavar="NAME | PATH", help="submissions, or paths to their folders")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return parser


def _check(args: argparse.Namespace) -> int:
    from harness.check import command

    return command.run(args.names, as_json=args.json)


def _new_parser() -> argparse.ArgumentParser:
    parser = _parser("new", "Write a submission to start from.", NEW_HELP)
    parser.add_argument("name", metavar="NAME | PATH", help="its name, or the path of a folder that is not there yet")
    parser.add_argument("--full", action="store_true", help="an Algorithm instead of an optax chain")
    return parser


def _new(args: argparse.Namespace) -> int:
    from harness import new

    return new.run(args.name, full=args.full)


def _score_parser() -> argparse.ArgumentParser:
    parser = _parser("score", "Score run folders, or AlgoPerf's logs.", SCORE_HELP)
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUNS",
        help="run folders, folders that hold them (default: runs), or published records; one set of logs",
    )
    parser.add_argument("--rules", metavar="NAME", help="only the runs by this ruleset")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the scores to FILE as well")
    parser.add_argument(
        "--clock", choices=("wall", "cpu", "steps", "energy"), help="rank by this clock, not by that of the rules"
    )
    parser.add_argument("--baseline", metavar="NAME", help="show speed-ups over this submission")
    parser.add_argument("--pairs", action="store_true", help="show every pair, however many")
    parser.add_argument(
        "--allow-missing", action="store_true", help="leave missing studies out of the median (default: a miss each)"
    )
    parser.add_argument("--format", choices=("runs", "algoperf"), default="runs", help="what RUNS holds")
    logs = parser.add_argument_group("with --format algoperf")
    logs.add_argument("--targets", type=Path, metavar="FILE", help="AlgoPerf's workload_targets file of these logs")
    logs.add_argument("--self-tuning", action="store_true", help="the logs are of self-tuning: one trial a study")
    logs.add_argument("--algoperf-compat", action="store_true", help="by the arithmetic of AlgoPerf's code")
    return parser


def _score(args: argparse.Namespace) -> int:
    from harness import leaderboard, published, records
    from harness.scoring.table import print_scores
    from harness.tables import print_line

    if args.format == "algoperf":
        return _score_logs(args)
    for flag in ("targets", "self_tuning", "algoperf_compat"):
        if getattr(args, flag):
            raise ConfigError(f"harness score: --{flag.replace('_', '-')} goes with --format algoperf")
    paths: dict[Path, None] = {}
    files: dict[Path, None] = {}
    for name in args.runs or ["runs"]:
        found, tables = records.find_trials(Path(name)), published.find(Path(name))
        if not found and not tables:
            raise RunFolderError(f"no run folder at or below {name}, nor published records; `harness run` makes some")
        paths |= dict.fromkeys(found)
        files |= dict.fromkeys(tables)
    if len(files) > 1 and (paths or args.json or args.csv):
        raise RunFolderError(
            f"{len(files)} files of published records are scored one by one; name one of them: "
            f"{', '.join(map(str, files))}"
        )
    trials, code = [], 0
    for path in paths:
        try:
            trials.append(records.read_trial(path))
        except RunFolderError as error:
            _report(error)
            code = 1
    held = {file: published.read(file) for file in files}
    if args.rules:
        known = {trial.spec.rules for trial in itertools.chain(trials, *held.values())}
        trials = [trial for trial in trials if trial.spec.rules == args.rules]
        held = {file: kept for file, of in held.items() if (kept := [t for t in of if t.spec.rules == args.rules])}
        if not trials and not held:
            raise ConfigError(f"no run by rules {args.rules}; {suggest(args.rules, known, 'there are')}")
    if not held:
        print_scores(trials, **_score_options(args))
    for number, (file, kept) in enumerate(held.items()):
        if len(held) > 1:
            print_line(f"{chr(10) * bool(number)}{file}", style="bold")
        both = [*kept, *trials]
        print_scores(both, unscored=None if trials else leaderboard.unscored(both), **_score_options(args))
        for line in [] if args.json else leaderboard.since_changed(kept):
            print_line(f"note: {line}")
    return code


def _score_logs(args: argparse.Namespace) -> int:
    from harness.scoring import algoperf, algoperf_targets, score
    from harness.scoring.table import show

    if len(args.runs) != 1 or args.targets is None:
        raise ConfigError(
            "harness score --format algoperf: expected one folder or tar file of logs and --targets FILE, got "
            f"{len(args.runs)} of logs and {'no' if args.targets is None else 'a'} targets file"
        )
    targets = algoperf_targets.read_targets(args.targets)
    logs = algoperf.read_logs(Path(args.runs[0]), targets)
    options = _score_options(args)
    shown = {name: options.pop(name) for name in ("json", "csv", "pairs")}
    show(score.score_logs(logs, targets, self_tuning=args.self_tuning, compat=args.algoperf_compat, **options), **shown)
    return 0


def _score_options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("json", "csv", "pairs", "clock", "baseline", "allow_missing")}


def _doctor_parser() -> argparse.ArgumentParser:
    parser = _parser("doctor", "Look at this machine, and measure its baseline.", DOCTOR_HELP)
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="suite, workload, device, as for `harness run`"
    )
    parser.add_argument("--calibrate", action="store_true", help="measure the baseline's step time on each workload")
    return parser


def _doctor(args: argparse.Namespace) -> int:
    from harness import config, doctor

    return doctor.run(config.compose(args.overrides), args.calibrate)


def _data_parser() -> argparse.ArgumentParser:
    parser = _parser("data", "Get the data sets that workloads need, and check them.", DATA_HELP)
    parser.add_argument("action", nargs="?", default="list", metavar="list | get | verify", help="see below")
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets (list and verify: default all)")
    parser.add_argument("--all", action="store_true", help="get all")
    parser.add_argument("--mirror", metavar="DIR|URL", help="get from a folder or an address with the files' layout")
    return parser


def _data(args: argparse.Namespace) -> int:
    from harness.data import commands

    return commands.run(args.action, args.names, everything=args.all, mirror=args.mirror)


COMMANDS = {
    "run": Command(_run_parser, _run),
    "plan": Command(_plan_parser, _plan),
    "list": Command(_list_parser, _list),
    "show": Command(_show_parser, _show),
    "new": Command(_new_parser, _new),
    "check": Command(_check_parser, _check),
    "score": Command(_score_parser, _score),
    "data": Command(_data_parser, _data),
    "doctor": Command(_doctor_parser, _doctor),
}


def _report(error: HarnessError, debug: bool = False) -> None:
    if debug:
        traceback.print_exception(error)
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
