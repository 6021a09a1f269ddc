"""`harness publish`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, command_parser, print_json

HELP = """\
A pack (.tar.xz) holds the records of whole campaigns of one machine, the programs that ran, the submissions' sources,
and a manifest with a hash of each. `harness score`, `harness verify` and scripts/make_leaderboard.py read it. What
`harness check` has findings about is not published, nor are unfinished trials, nor a single file: a board takes a
folder with a README.md. A folder of that name which makes the same programs as the file did takes its place. Beside
other runs, smoke tests, toys, runs that depart from their rules (as stop=horizon does) and what `harness score` leaves
out are left out, with a note.

examples:
  harness publish runs-claim -o mine.tar.xz
  harness publish runs-claim -o mine.tar.xz --with-states   what was evaluated too, for `verify` to evaluate again
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("publish", "Pack records, programs and sources in one file.", HELP)
    made.add_argument("runs", nargs="+", metavar="RUNS", help="run folders, or folders that hold them")
    made.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the pack, named *.tar.xz")
    made.add_argument("--with-states", action="store_true", help="pack what was evaluated")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import packs
    from harness.verify import publish

    packs.check_name(args.output)
    places = [Path(place) for place in args.runs]
    about = publish.publish(places, args.output, states=args.with_states, say=packs.say)
    if args.json:
        print_json(packs.as_json(args.output, about))
    else:
        packs.print_about(args.output, about)
    return 0
