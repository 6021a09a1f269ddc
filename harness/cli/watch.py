"""`harness watch`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, aside, command_parser, print_json

HELP = """\
Follows a campaign that another terminal, or another machine with the same disk, runs. It ends when no trial runs any
more; Ctrl-C ends it at any time and stops no trial.

examples:
  harness watch                 all runs in ./runs
  harness watch runs/lm_grammar
  harness watch --once          how it stands now; --json for programs
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("watch", "Watch a campaign that runs elsewhere.", HELP)
    made.add_argument("runs", nargs="*", metavar="RUNS", help="run folders, or folders that hold them (default: runs)")
    made.add_argument("--once", action="store_true", help="show how it stands, and stop")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import outcome, watching

    with aside(args.json):
        trials = watching.follow([Path(name) for name in args.runs or ["runs"]], once=args.once)
    if args.json:
        print_json({"trials": [outcome.trial_as_json(trial) for trial in trials]})
    return 0
