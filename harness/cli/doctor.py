"""`harness doctor`."""

from __future__ import annotations

import argparse

from harness.cli.parser import command_parser

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
    return made


def call(args: argparse.Namespace) -> int:
    from harness.campaign import config
    from harness.report import doctor

    return doctor.run(config.compose(args.overrides), args.calibrate)
