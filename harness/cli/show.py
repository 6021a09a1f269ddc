"""`harness show`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, command_parser, print_json


def parser() -> argparse.ArgumentParser:
    made = command_parser(
        "show", "Show what is known of one.", "examples:\n  harness show lm_grammar\n  harness show h200\n"
    )
    made.add_argument(
        "name",
        metavar="NAME",
        help="name of a submission, workload, suite, ruleset, device or launcher, or path of a folder",
    )
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import showing

    found = showing.called(args.name)
    if args.json:
        print_json({"found": [showing.as_json(one) for one in found]})
    else:
        showing.print_all(found)
    return 0
