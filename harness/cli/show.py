"""`harness show`."""

from __future__ import annotations

import argparse

from harness.cli.parser import command_parser


def parser() -> argparse.ArgumentParser:
    made = command_parser("show", "Show what is known of one.", "example:\n  harness show lm_grammar\n")
    made.add_argument(
        "name", metavar="NAME", help="name of a submission, workload, suite or ruleset, or path of a folder"
    )
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report.listing import print_show

    print_show(args.name)
    return 0
