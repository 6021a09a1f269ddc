"""`harness run`."""

from __future__ import annotations

import argparse
import functools

from harness.cli.parser import command_parser, print_error, print_export
from harness.errors import HarnessError

HELP = """\
SUBMISSION is the name of a folder in ./submissions, or a path to one. With none named, every submission that is found
runs whose trials are not finished: so put a folder there and type `harness run`. Finished trials are not run again;
interrupted ones go on where they were.

examples:
  harness run adamw nadamw                      compare two on the demo suite
  harness run ./my_optimizer workload=lm_grammar
  harness run adamw workload=lm_grammar,resnet_digits seed=1
  harness run adamw hp.learning_rate=0.003      another hyperparameter
  harness run adamw muon rules=tuned            for results: tuned, then 7 fresh seeds, with intervals
  harness run adamw rules=speedrun steps=600    are 600 steps enough? 8 runs, and a test of their mean
  harness run adamw stop=horizon clock=wall     to the last step; rank by wall time
  harness run adamw max_steps=20 out=/tmp/runs  a smoke test
  harness run adamw variant=wide                the same tasks with wider models: held-out variants, not scored
  harness run --dry-run                         what would run, and how long

keys: suite, rules, device (files below configs/), workload, variant, seed, out, hp.NAME, max_steps, checkpoint_s,
hang_s, retry, tensorboard, stop, clock, studies, trials, steps, and fields of the groups, as in rules.budget_factor=2
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("run", "Run submissions on workloads, one trial after another, then show the scores.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="see below")
    made.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, plan
    from harness.campaign.run import run_plan
    from harness.machine import children
    from harness.report import live, plan_table, run_summary

    names = [word for word in args.words if "=" not in word]
    request = config.compose([word for word in args.words if "=" in word])
    preview = args.dry_run and request.device.platform != "auto"  # of a device that need not be here
    planned = plan.make_plan(request, names, elsewhere=preview, on_export=print_export)
    if told := children.ambient():
        text = f"{', '.join(told)}: not handed to trials; the harness sets jax's options itself"
        print_error(HarnessError(text), kind="note")
    plan_table.print_plan(planned, everything=not names)
    for problem in planned.problems:
        print_error(problem)
    code = 1 if planned.problems else 0
    obstacles = plan.obstacles(planned)
    if args.dry_run:
        for obstacle in obstacles:
            print_error(obstacle, kind="note")
        return code
    if obstacles:
        raise obstacles[0]

    def on_problem(problem: HarnessError) -> None:
        nonlocal code
        print_error(problem)
        code = max(code, problem.exit_code)

    run_one = functools.partial(live.run_trial, tensorboard=request.tensorboard)
    planned = run_plan(
        planned,
        names,
        run_one,
        on_run=live.show_run,
        on_problem=on_problem,
        on_choices=plan_table.print_choices,
    )
    return max(code, 0 if run_summary.print_summary(planned) else 1)
