"""`harness doctor`."""

from __future__ import annotations

import argparse

from harness.cli.parser import add_json, aside, command_parser, print_json

HELP = """\
examples:
  harness doctor                             look at the machine, the packages and the folders
  harness doctor --calibrate                 measure the baseline's step time, which the budgets are made of
  harness doctor --calibrate workload=lm_grammar device=gpu
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("doctor", "Look at this machine, and measure its baseline.", HELP)
    made.add_argument("overrides", nargs="*", metavar="key=value", help="suite, workload, device, as for `harness run`")
    made.add_argument("--calibrate", action="store_true", help="measure the baseline's step time on each workload")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config
    from harness.report import doctor

    request = config.compose(args.overrides)
    if not args.json:
        return doctor.run(request, args.calibrate)
    with aside(args.json):
        found = doctor.look(request, args.calibrate)
    print_json(doctor.as_json(found))
    return doctor.exit_code(found)
