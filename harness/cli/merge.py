"""`harness merge`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, command_parser, print_json

HELP = """\
The packs are of one machine, one jax and the same flags. What they both hold is there once; a trial or a name that
stands for different things in two of them is refused.

examples:
  harness merge theirs.tar.xz mine.tar.xz -o both.tar.xz
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("merge", "Join packs of one machine.", HELP)
    made.add_argument("packs", nargs="+", metavar="PACK", type=Path, help="files that `harness publish` wrote")
    made.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="the pack, named *.tar.xz")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import packs
    from harness.verify import publish

    packs.check_name(args.output)
    about = publish.merge(args.packs, args.output)
    if args.json:
        print_json(packs.as_json(args.output, about))
    else:
        packs.print_about(args.output, about)
    return 0
