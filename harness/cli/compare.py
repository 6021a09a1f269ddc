"""`harness compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.cli.parser import add_json, command_parser, print_error

HELP = """\
examples:
  harness compare muon adamw                  of all runs in ./runs: how many times as fast, where, may it be chance?
  harness compare mine.py adamw runs-a runs-b    of two folders of runs; mine.py is what `harness run mine.py` ran
  harness compare muon adamw --json           for programs

`A is 1.3 times as fast as B` is the geometric mean, over the workloads that both reach by their median seeds, of B's
median time over A's. In brackets stands the 95% interval, under 6 seeds the range over the seeds; an end that reads
`missed` is a miss, of A at the left and of B at the right. The scores count all workloads, with the misses. From 5
seeds on a test of the scores says whether the difference may be chance. Runs on toys, such as quadratic, are left out,
unless A and B have no other runs.
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("compare", "Say in a few lines how two submissions compare.", HELP)
    made.add_argument("a", metavar="A", help="a submission that has runs: its name, or as it was typed for `run`")
    made.add_argument("b", metavar="B", help="another")
    made.add_argument("runs", nargs="*", metavar="RUNS", help="run folders or published records (default: runs)")
    made.add_argument("--rules", metavar="NAME", help="only the runs by this ruleset")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import comparison, score_sources

    sources = score_sources.read([Path(name) for name in args.runs or ["runs"]], args.rules)
    for problem in sources.problems:
        print_error(problem)
    trials = [*sources.trials, *(trial for held in sources.published.values() for trial in held)]
    comparison.print_comparison(comparison.compare(trials, args.a, args.b), json=args.json)
    return 1 if sources.problems else 0
