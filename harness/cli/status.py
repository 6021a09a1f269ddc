"""`harness status`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, aside, command_parser, print_json

HELP = """\
Tells how the jobs stand that `harness run ... launcher=slurm` (or background) has submitted: pending, running, done or
failed, with the last line of each log. A failed one goes on when the same `harness run` is typed again.

examples:
  harness status                what was submitted for ./runs
  harness status /shared/runs
  harness status --follow       until none runs or waits any more
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("status", "Tell how submitted jobs stand.", HELP)
    made.add_argument("out", nargs="?", default="runs", metavar="RUNS", help="the output folder (default: runs)")
    made.add_argument("--follow", action="store_true", help="tell of changes until all have ended")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import job_table

    out = Path(args.out).absolute()
    with aside(args.json):
        standings = job_table.found(out)
        if args.follow:
            standings = job_table.follow(out)
        job_table.print_standings(standings)
    if args.json:
        print_json(job_table.as_json(standings))
    return 0
