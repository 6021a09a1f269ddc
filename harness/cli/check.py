"""`harness check`."""

from __future__ import annotations

import argparse

from harness.cli.parser import command_parser

HELP = """\
Reads the folder (metadata, size, forbidden doings), then trains it in a process of its own on toys: a linear regression
and a copy of each family of models with one layer of width 16. Looks at the contract of harness/api.py, search space,
determinism and resumption. Each finding says what to do. Exit code 0: all passed; 1: there are findings.

examples:
  harness check mine
  harness check ./my_optimizer
  harness check adamw muon --json
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("check", "Check submissions before they are run.", HELP)
    made.add_argument("names", nargs="+", metavar="NAME | PATH", help="submissions, or paths to their folders")
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return made


def call(args: argparse.Namespace) -> int:
    from harness.check import command

    return command.run(args.names, as_json=args.json)
