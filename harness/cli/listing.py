"""`harness list`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, command_parser, print_json


def parser() -> argparse.ArgumentParser:
    made = command_parser("list", "List the submissions, workloads, suites and rules that are found.")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import listing

    found = listing.listed()
    if args.json:
        print_json(found)
    else:
        listing.print_list(found)
    return 0
