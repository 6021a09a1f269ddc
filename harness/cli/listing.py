"""`harness list`."""

from __future__ import annotations

import argparse

from harness.cli.parser import command_parser


def parser() -> argparse.ArgumentParser:
    return command_parser("list", "List the submissions, workloads, suites and rules that are found.")


def call(_: argparse.Namespace) -> int:
    from harness.report.listing import print_list

    print_list()
    return 0
