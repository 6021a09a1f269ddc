"""`harness check`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, command_parser

HELP = """\
Reads the folder, makes its programs for small copies of the models (toys) and the suite `demo`, at the defaults and
over the search space, and runs one on a toy: finite, the same bits each time, stopped and taken up. Finds what Python
keeps and a program cannot. Each finding says what to do. Exit code 0: all passed; 1: there are findings.

With --debug it trains for 20 steps in one process, prints (jax.debug.print too) included, and checks nothing.

examples:
  harness check mine
  harness check ./my_optimizer
  harness check adamw muon --json
  harness check mine --debug --workload lm_grammar
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("check", "Check submissions before they are run.", HELP)
    made.add_argument("names", nargs="+", metavar="NAME | PATH", help="submissions, as `harness run` takes them")
    add_json(made)
    made.add_argument("--debug", action="store_true", help="train a little in one process, with prints, instead")
    made.add_argument("--workload", metavar="NAME", help="what --debug trains on; the smallest toy if not given")
    return made


def call(args: argparse.Namespace) -> int:
    from harness.check import command
    from harness.errors import ConfigError

    if args.workload and not args.debug:
        raise ConfigError("--workload goes with --debug; without it all toys and the suite demo are looked at")
    if args.debug and args.json:
        raise ConfigError("--debug prints what the submission prints; leave --json out")
    if args.debug:
        return command.debug(args.names, args.workload)
    return command.run(args.names, as_json=args.json)
