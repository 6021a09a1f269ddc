"""`harness ladder`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import HarnessError

HELP = """\
Does an advantage hold for larger models and more data? Trains each submission and a baseline at several widths of one
model, on 1, 2, 4 and 8 times the data, each time with a schedule of that length. The speed-up on a rung is
data-equivalent, as in "Fantastic pretraining optimizers" (Wen et al. 2025, arXiv:2509.02046): how many times the data
the baseline needs for the same final metric, on its own curve. It comes with a 95% interval over the seeds, and the
command says where the order of two submissions turns over along the ladder.

examples:
  harness ladder muon workload=lm_grammar                 over adamw; widths 32, 64, 96, 128; 3 seeds
  harness ladder muon soap workload=lm_grammar --widths 32,64 --seeds 5
  harness ladder muon workload=lm_grammar --ratios 1,2,4 --baseline nadamw
  harness ladder muon workload=lm_books device=h200       on a GPU
  harness ladder muon workload=lm_grammar --dry-run       how many runs, and how long at most
  harness ladder muon workload=lm_grammar --json          for programs

The widths are the folders workloads/NAME_w<width> and the workload itself. Ratio 1 is a quarter of the step hint, which
submissions are told as their own; one with a `horizon` runs at 1. The baseline also runs with the amounts half-way, and
with one beyond, so that its curve is well known. All run at one point, their defaults or hp.NAME:
nothing is tuned anew on a rung. Runs are recorded in <out>/<rung>/<submission>/ladder-<steps>.jsonl, so the same
command goes on where it was stopped; the latest ladder of a workload is in <out>/ladders/, and `harness report <out>`
plots it. Runs are of tuning seeds, and no score.

keys: workload, device, out, hp.NAME, max_hours
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("ladder", "Speed-ups over widths of a model and amounts of data.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    made.add_argument("--baseline", default="adamw", metavar="NAME", help="speed-ups are over it (default %(default)s)")
    made.add_argument("--widths", metavar="N,...", help="of the model (default: all that there are)")
    made.add_argument("--ratios", default="1,2,4,8", metavar="R,...", help="amounts of data (default %(default)s)")
    made.add_argument("--seeds", type=int, default=3, metavar="N", help="of each run (default %(default)s)")
    made.add_argument("--dry-run", action="store_true", help="print what is to be run at most, and stop")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, scale_ladder
    from harness.campaign.run import within
    from harness.report import scale_ladder as shown
    from harness.report import stages

    names, overrides = config.split(args.words)
    request = config.compose(overrides)
    todo = scale_ladder.task(
        names,
        request,
        baseline=args.baseline,
        ratios=scale_ladder.numbers(args.ratios, "--ratios"),
        widths=scale_ladder.numbers(args.widths, "--widths") if args.widths else (),
        seeds=args.seeds,
    )
    found = None
    with within(request.max_hours, lambda text: print_error(HarnessError(text), kind="note")), aside(args.json):
        shown.print_plan(todo)
        if not args.dry_run:
            with stages.shown("exporting ") as say:
                scale_ladder.export(request, todo, say)
            found = scale_ladder.climb(request, todo, shown.print_run)
    if args.json:
        print_json(shown.as_json(found) if found else shown.plan_as_json(todo))
    elif found:
        shown.print_found(found)
    return 0
