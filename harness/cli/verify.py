"""`harness verify`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, command_parser

HELP = """\
Looks at records as a rival would, in processes that import no submission: derives id, signature, constants and custom
calls of the programs anew; every number of the result from the log; validation and test from what was evaluated, where
it is kept (evaluated.npz); and compares workload, data sets, rules, seeds, budget and flags. Says of each thing: ok,
differs (expected, found, where), unchecked (why), or no entry: the run is whole and departs from its rules, as
stop=horizon does. What is ok is counted, and listed with -v. Exit code 0: nothing differs; 1: something does.

With --rerun each trial is trained again from the program in its record: on the same kind of machine to the same bits,
elsewhere to a final metric within 3 of the workload's spreads over seeds. How much longer or shorter it took stands in
a line of its own, with what is expected. No code of the submission runs, but `control`
where it has one, confined.

examples:
  harness verify runs/lm_grammar/adamw
  harness verify runs-claim runs/mae_digits
  harness verify mine.tar.xz --rerun
  harness verify mine.tar.xz --rerun --only mine --only lm_grammar   one row's runs on one workload
  harness verify mine.tar.xz:trials/lm_grammar/mine/study0-trial0-f31120858d --rerun   one run, as it is printed
  harness verify runs --json
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("verify", "Find out whether records hold.", HELP)
    made.add_argument("places", nargs="+", metavar="RUN | FILE", help="run folders, folders that hold them, or packs")
    made.add_argument("--rerun", action="store_true", help="train each trial again, and compare")
    made.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a submission, a workload, both; or a run"
    )
    made.add_argument("-v", "--verbose", action="store_true", help="list what is ok too")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.verify import command

    places = [Path(place) for place in args.places]
    return command.run(places, only=args.only, again=args.rerun, as_json=args.json, verbose=args.verbose)
