"""`harness calibrate`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import HarnessError

HELP = """\
How far is a submission from needing no tuning? Each workload is left out in turn. A search on the others chooses one
point for all of them, by the rules of `scripts/tune.py`: most targets, then fewest steps. A search on the workload left
out chooses a point too. Both then run there on tuning seeds that chose nothing. The price is what the target costs at
the first over what it costs at the second: 1.00 says that tuning on the workload gains nothing.

examples:
  harness calibrate adamw muon suite=demo          what one configuration for all three costs each of them
  harness calibrate adamw --points 16              more points of the search space, or of its own list
  harness calibrate prodigy hp.weight_decay=0.02   with a hyperparameter that no search moves
  harness calibrate adamw suite=demo --dry-run     how many points, and how long at most
  harness calibrate adamw muon suite=demo --json   for programs

Runs have no clock: a step counts as a step where all points share one program, and as its seconds elsewhere. They are
recorded in <out>/<workload>/<submission>/calibrate.jsonl, so the same command goes on where it was stopped, and a later
one with more points keeps what is there. A submission without a search space has one point, its defaults.

keys: suite, workload, device, out, hp.NAME, max_steps, max_hours
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("calibrate", "One configuration for all workloads: chosen on some, judged on the rest.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    made.add_argument("--points", type=int, default=8, metavar="N", help="of each submission (default %(default)s)")
    made.add_argument("--dry-run", action="store_true", help="print what is to be run at most, and stop")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, one_configuration
    from harness.campaign.run import within
    from harness.report import calibration

    names, overrides = config.split(args.words)
    request = config.compose(overrides)
    infos = one_configuration.workloads(request)
    todo = one_configuration.tasks(names, request, args.points)
    with within(request.max_hours, lambda text: print_error(HarnessError(text), kind="note")), aside(args.json):
        calibration.print_plan(todo, infos, request.max_steps)
        found = [] if args.dry_run else list(one_configuration.calibrated(request, todo, calibration.print_run))
    if args.json:
        print_json(calibration.as_json(found, infos))
    elif found:
        calibration.print_found(found, infos)
    return 0
