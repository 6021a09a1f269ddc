"""`harness anneal`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_error, print_json
from harness.errors import HarnessError

HELP = """\
Trains under one or two learning-rate schedules, fits the law of annealing (Tissue et al. 2024, arXiv:2408.11029) to
their losses, and predicts the final loss under others, whatever their shape and length: which schedules are worth
training, before they are. One law holds for one peak learning rate, batch size and model, and for losses alone.

examples:
  harness anneal workload=lm_grammar                     fit cosine and constant, predict wsd and linear
  harness anneal workload=lm_grammar --fit cosine --predict wsd,wsd@2,rex@0.5
  harness anneal workload=lm_grammar --train             train what is predicted too, but the hopeless, and compare
  harness anneal workload=lm_grammar hp.learning_rate=0.004 studies=3    another peak, the fit over 3 tuning seeds
  harness anneal workload=lm_grammar --json              for programs

NAME@LENGTH is a schedule of LENGTH step hints (default 1): constant, linear, cosine, rex or wsd. A submission takes
part that has the hyperparameters schedule, learning_rate, warmup_fraction and horizon, as adamw_schedules, which runs
where none is named. Runs are of tuning seeds and recorded in <out>/<workload>/<submission>/anneal.jsonl, so the same
command goes on where it was stopped.

keys: suite, workload, device, out, hp.NAME, studies, max_hours
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("anneal", "Predict the final loss under a schedule from runs under others.", HELP)
    made.add_argument("words", nargs="*", metavar="SUBMISSION | key=value", help="as for `harness run`")
    made.add_argument("--fit", default="cosine,constant", metavar="NAME,...", help="trained (default %(default)s)")
    made.add_argument("--predict", default="wsd,linear", metavar="NAME,...", help="predicted (default %(default)s)")
    made.add_argument("--train", action="store_true", help="train what is predicted too, but the hopeless")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config, schedule_law
    from harness.campaign.run import within
    from harness.report import schedule_law as shown

    names, overrides = config.split(args.words)
    request = config.compose(overrides)
    fit = schedule_law.read_schedules(args.fit, "--fit")
    predict = schedule_law.read_schedules(args.predict, "--predict")
    schedule_law.workloads(request)
    todo = schedule_law.takers(names, request)
    with within(request.max_hours, lambda text: print_error(HarnessError(text), kind="note")), aside(args.json):
        found = schedule_law.found(request, todo, fit, predict, train=args.train, on_run=shown.print_run)
    if args.json:
        print_json(shown.as_json(found))
    else:
        shown.print_found(found)
    return 0
