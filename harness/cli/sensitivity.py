"""`harness sensitivity`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import HarnessError

HELP = """\
Trains each submission to the step hint at learning rates a factor of two apart, around its default, and shows the final
metric at each. Sensitivity is the mean distance to the best of them, where no metric counts as worse than that before
the first step (Wortsman et al. 2023, arXiv:2309.14322): 0 where every learning rate of the grid does as well.

examples:
  harness sensitivity adamw muon suite=demo            9 learning rates each: x 1/16 to x 16
  harness sensitivity adamw workload=lm_grammar --reach 2 studies=3    x 1/4 to x 4, medians of 3 tuning seeds
  harness sensitivity sgd_momentum hp.learning_rate=0.3                around another learning rate
  harness sensitivity adamw --over weight_decay        another hyperparameter
  harness sensitivity adamw workload=lm_grammar --centre step-law     around that of Step Law (Li et al. 2025)
  harness sensitivity adamw suite=demo --dry-run       how many runs, and how long at most
  harness sensitivity adamw muon suite=demo --json     for programs

A submission with a `horizon` runs with a schedule of one step hint, so that it has ended with the run; hp.horizon=VALUE
gives another. Runs are recorded in <out>/<workload>/<submission>/sensitivity.jsonl: the same command goes on where it
was stopped, and one with more values or seeds keeps what is there. They are of tuning seeds, and no score.

keys: suite, workload, device, out, hp.NAME, studies, max_steps, max_hours
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("sensitivity", "Final metrics against the learning rate, in factors of two.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    made.add_argument(
        "--over", default="learning_rate", metavar="NAME", help="the hyperparameter (default %(default)s)"
    )
    made.add_argument(
        "--reach", type=int, default=4, metavar="K", help="factors of two on each side (default %(default)s)"
    )
    made.add_argument(
        "--centre", choices=("default", "step-law"), default="default", help="of the grid (default: the default)"
    )
    made.add_argument("--dry-run", action="store_true", help="print what is to be run at most, and stop")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, rate_sweep
    from harness.campaign.run import within
    from harness.report import sensitivity

    names, overrides = config.split(args.words)
    request = config.compose(overrides)
    infos = rate_sweep.workloads(request)
    centres = None
    if args.centre == "step-law":
        centres, notes = rate_sweep.by_step_law(request, args.over)
        for note in notes:
            print_error(HarnessError(note), kind="note")
    todo = rate_sweep.tasks(names, request, args.over, args.reach, centres)
    with within(request.max_hours, lambda text: print_error(HarnessError(text), kind="note")), aside(args.json):
        sensitivity.print_plan(todo, infos, request.max_steps)
        found = [] if args.dry_run else list(rate_sweep.curves(request, todo, sensitivity.print_run))
    if args.json:
        print_json(sensitivity.as_json(found))
    elif found:
        sensitivity.print_found(found)
    return 0
