"""`harness plan`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import HarnessError

HELP = """\
examples:
  harness plan adamw muon suite=gpu device=h200 stop=horizon -o plan.json
  python -m harness.campaign plan.json --out runs     on the other machine, in a copy of the project's folder
  harness score runs                                  wherever the run folders end up
  harness plan rules=tuned suite=demo --cost          device-hours, by step times that were measured
  harness plan adamw suite=gpu device=h200 stop=horizon --price 2.50EUR    in money: a price for an hour of the card

The words are those of `harness run`; device=cpu, gpu, h100 or h200 must be named. The other machine needs jax, flax,
optax, orbax-checkpoint, scipy and PyYAML, no Hydra, and the data (HARNESS_DATA names their folder). It looks for
submissions and workloads by name, and must export the same programs: same sources but for comments, same versions of
jax, flax and optax. It does not rerun finished trials, so an interrupted plan goes on.
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("plan", "Write the trials of a run to a file, for a machine without a configuration.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="the file (default: show the plan)")
    made.add_argument("--cost", action="store_true", help="show what is left to run in device-hours")
    made.add_argument("--price", metavar="AMOUNT", help="of a device-hour, as 2.50 or 2.50EUR: --cost in money")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, cost, plan, plan_file
    from harness.report import cost_table, plan_table, stages

    price = None if args.price is None else cost.price(args.price)
    names, overrides = config.split(args.words)
    request = config.compose(overrides)
    asked_cost = args.cost or price is not None
    elsewhere = args.output is not None or request.device.platform != "auto"  # on a device that need not be here
    with stages.shown("exporting ") as say:
        planned = plan.make_plan(request, names, elsewhere=elsewhere, on_export=say)
    found = plan_table.as_json(planned)
    if asked_cost:
        kind = cost.kind_of(planned, overrides)
        costs = cost.costs(planned, kind, cost.recorded((Path(request.out), Path("results")), kind))
        found["cost"] = cost_table.as_json(costs, kind, price)
        if not args.json:
            cost_table.print_costs(costs, kind, price)
    elif not args.json:
        plan_table.print_plan(planned)
    for note in planned.notes:
        print_error(HarnessError(note), kind="note")
    for problem in planned.problems:
        print_error(problem)
    if args.output is None and not asked_cost:  # as of `harness run --dry-run`
        obstacles = plan.obstacles(planned)
        found["obstacles"] = list(map(str, obstacles))
        for obstacle in obstacles:
            print_error(obstacle, kind="note")
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
        with aside(args.json):
            command = f"python -m harness.campaign {args.output} --out runs"
            print(f"{count} trials in {args.output}; run them with: {command}")
    if args.json:
        print_json(found | {"file": args.output})
    return 1 if planned.problems else 0
