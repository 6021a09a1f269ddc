"""`harness status`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import HarnessError

HELP = """\
Tells how the jobs stand that `harness run ... launcher=slurm` (or background) has submitted: pending, running, done or
failed, with the step of what runs and the last line of the other logs. When the `harness run` that submitted a failed
one is typed again, what is unfinished goes on; trials that crashed run again only with retry=true.
`harness watch RUNS` shows trials as they train.

examples:
  harness status                what was submitted for ./runs
  harness status /shared/runs
  harness status --follow       until none runs or waits any more; exit code 1 where a job failed
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("status", "Tell how submitted jobs stand.", HELP)
    made.add_argument("out", nargs="?", default="runs", metavar="RUNS", help="the output folder (default: runs)")
    made.add_argument("--follow", action="store_true", help="tell of changes until all have ended")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import job_table

    def on_silent(error: HarnessError) -> None:
        print_error(HarnessError(f"{error}; what follows is what the files of the jobs tell"), kind="note")

    out = Path(args.out).absolute()
    with aside(args.json):
        standings = job_table.found(out, str if args.follow else on_silent)
        if args.follow:
            standings = job_table.follow(out, on_silent=on_silent)
        job_table.print_standings(standings)
    if args.json:
        print_json(job_table.as_json(standings))
    return int(args.follow and any(one.state == "failed" for one in standings))
