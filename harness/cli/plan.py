"""`harness plan`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import command_parser, print_error, print_export
from harness.errors import HarnessError

HELP = """\
examples:
  harness plan adamw muon suite=gpu device=h200 stop=horizon -o plan.json
  python -m harness.campaign plan.json --out runs     on the other machine, in a copy of the project's folder
  harness score runs                                  wherever the run folders end up

The words are those of `harness run`; device=cpu, gpu or h200 must be named. The other machine needs jax, flax, optax,
orbax-checkpoint, scipy and PyYAML, no Hydra, and the data (HARNESS_DATA names their folder). Submissions and workloads
are looked for by name there and must be exported as the same programs: same sources but for comments, same versions of
jax, flax and optax. Finished trials are not run again, so an interrupted plan
goes on.
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("plan", "Write the trials of a run to a file, for a machine without a configuration.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="the file (default: show the plan)")
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, plan, plan_file
    from harness.report import plan_table

    names = [word for word in args.words if "=" not in word]
    request = config.compose([word for word in args.words if "=" in word])
    planned = plan.make_plan(request, names, elsewhere=args.output is not None, on_export=print_export)
    plan_table.print_plan(planned)
    for problem in planned.problems:
        print_error(problem)
    if args.output is not None:
        count = plan_file.write(args.output, planned.trials)
        if planned.later:
            print_error(
                HarnessError(
                    f"{len(planned.due)} searches come first, whose fresh seeds are not in the file: run them with "
                    "`harness run` and the same words on a machine with a configuration, then plan again"
                ),
                kind="note",
            )
        print(f"{count} trials in {args.output}; run them with: python -m harness.campaign {args.output} --out runs")
    return 1 if planned.problems else 0
