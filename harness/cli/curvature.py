"""`harness curvature`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import ConfigError, RunFolderError

HELP = """\
Says how sharp the minimum is in which each submission ended: the largest eigenvalue of the Hessian of the training
loss, at the parameters that were evaluated at a trial's end, which for a run that reached its target is the hit. By
Lanczos' method, on the same training batches for all runs on a workload, in a process of its own that imports no
submission, after the trials: no clock and no score changes. Each takes BATCHES x PRODUCTS times about three gradients.
What comes of a run lies beside its record, in curvature.json, and is not computed again.

examples:
  harness curvature                                    all runs in ./runs
  harness curvature runs/lm_grammar --only adamw       one submission's on one workload
  harness curvature --batches 16                       a mean over more of the training data
  harness curvature --products 40                      where the error is large
  harness curvature mine.tar.xz --json                 a pack of `harness publish --with-states`
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("curvature", "The largest eigenvalue of the Hessian where each run ended.", HELP)
    made.add_argument(
        "runs", nargs="*", metavar="RUNS", help="run folders, folders that hold them (default: runs), or packs"
    )
    made.add_argument("--only", action="append", default=[], metavar="NAME", help="a submission, a workload; or both")
    made.add_argument("--batches", type=int, default=4, metavar="N", help="of training (default %(default)s)")
    made.add_argument(
        "--products", type=int, default=20, metavar="N", help="of the Hessian and a vector (default %(default)s)"
    )
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import curvature as shown
    from harness.verify import curvature

    for name in ("batches", "products"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name} {getattr(args, name)}: expected a whole number above 0")
    problems: list[str] = []

    def note(place: str, problem: RunFolderError) -> None:
        problems.append(str(problem))
        print_error(problem)

    with aside(args.json):
        found = curvature.measure(
            [Path(name) for name in args.runs or ["runs"]],
            note,
            shown.print_run,
            only=args.only,
            batches=args.batches,
            products=args.products,
        )
    if args.json:
        print_json(shown.as_json(found, problems))
    else:
        shown.print_found(found)
    return int(bool(problems) or all(one.curvature is None for one in found))
