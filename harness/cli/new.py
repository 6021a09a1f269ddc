"""`harness new`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_json
from harness.errors import ConfigError

HELP = """\
Writes submission.py, submission.yaml and README.md into ./submissions/NAME, or into the folder at a path. They work as
they are: Nesterov AdamW as an optax chain; with --full an Algorithm with init, step and eval_variables, which is
evaluated at an average of its parameters.

examples:
  harness new mine && harness check mine && harness run mine workload=quadratic stop=horizon
  harness new mine --full
  harness new my_prodigy --optax optax.contrib.prodigy     what `harness run optax.contrib.prodigy` runs, to edit
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("new", "Write a submission to start from.", HELP)
    made.add_argument("name", metavar="NAME | PATH", help="its name, or the path of a folder that is not there yet")
    made.add_argument("--full", action="store_true", help="an Algorithm instead of an optax chain")
    of_function = "a submission that calls this function with hyperparameters from its signature"
    made.add_argument("--optax", metavar="NAME", help=of_function)
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.check import new

    if args.full and args.optax:
        raise ConfigError("harness new: --full and --optax write different submissions; choose one")
    with aside(args.json):
        written = new.run(args.name, full=args.full, optax=args.optax)
    if args.json:
        print_json(written)
    return 0
