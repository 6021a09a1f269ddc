"""`harness score`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.parser import add_json, command_parser, print_error, print_json
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.record.run_folder import Trial

HELP = """\
examples:
  harness score                               all runs in ./runs
  harness score runs/lm_grammar               those of one workload
  harness score --clock cpu --baseline adamw  by processor time; speed-ups over adamw
  harness score results/amd-epyc-2-cores      published packs, as the leaderboard has them
  harness score mine.tar.xz runs             your own runs among published ones of the same machine and version
  harness score --variants                    held-out variants: how the gap to adamw moves; no scores
  harness score --at 10,20,40                 the best metric within so many seconds, targets or not: compute classes
  harness score --at 25%,50%,100%             the same, in shares of each workload's budget
  harness score --json                        for programs; --csv scores.csv for spreadsheets
  harness score --format algoperf logs.tar.gz --targets workload_targets_v05.json

With 6 studies or more an interval stands beside each number, with 2 to 5 the range of the studies; from 5 on a test
tells pairs apart, and ranks are sets of those it does not. AlgoPerf's logs are scored by its written rules, with
--algoperf-compat by the arithmetic of its code, which the published boards were made with. harness/scoring/README.md
has the rules, the statistics and the JSON.
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("score", "Score run folders, or AlgoPerf's logs.", HELP)
    made.add_argument(
        "runs",
        nargs="*",
        metavar="RUNS",
        help="run folders, folders that hold them (default: runs), or published records; one set of logs",
    )
    made.add_argument("--rules", metavar="NAME", help="only the runs by this ruleset")
    made.add_argument("--variants", action="store_true", help="show the runs of held-out variants instead of scores")
    made.add_argument(
        "--at", metavar="SECONDS,...", help="show the best metric by then, or by shares of the budget as 50%%"
    )
    add_json(made)
    made.add_argument("--csv", type=Path, metavar="FILE", help="write the scores to FILE as well")
    made.add_argument(
        "--clock",
        choices=("wall", "cpu", "calibrated", "energy", "steps"),
        help="rank by this clock, not by that of the rules; steps: of AlgoPerf's logs alone",
    )
    made.add_argument("--baseline", metavar="NAME", help="show speed-ups over this submission")
    made.add_argument("--pairs", action="store_true", help="show every pair, however many")
    made.add_argument(
        "--allow-missing", action="store_true", help="leave missing studies out of the median (default: a miss each)"
    )
    made.add_argument("--format", choices=("runs", "algoperf"), default="runs", help="what RUNS holds")
    logs = made.add_argument_group("with --format algoperf")
    logs.add_argument("--targets", type=Path, metavar="FILE", help="AlgoPerf's workload_targets file of these logs")
    logs.add_argument("--self-tuning", action="store_true", help="the logs are of self-tuning: one trial a study")
    logs.add_argument("--algoperf-compat", action="store_true", help="by the arithmetic of AlgoPerf's code")
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report import score_sources, variants

    if args.at is not None and (given := [name for name in _NOT_AT if getattr(args, name)]):
        raise ConfigError(f"harness score: --{given[0].replace('_', '-')} goes with scores, and --at shows none")
    if args.format == "algoperf":
        if args.variants:
            raise ConfigError("harness score: --variants is for run folders, not for AlgoPerf's logs")
        if args.at is not None:
            raise ConfigError("harness score: --at is for run folders, not for AlgoPerf's logs")
        return _score_logs(args)
    for flag in ("targets", "self_tuning", "algoperf_compat"):
        if getattr(args, flag):
            raise ConfigError(f"harness score: --{flag.replace('_', '-')} goes with --format algoperf")
    if args.variants and (given := [name for name in _OF_SCORES if getattr(args, name)]):
        raise ConfigError(f"harness score: --{given[0].replace('_', '-')} goes with scores, and --variants shows none")
    sources = score_sources.read([Path(name) for name in args.runs or ["runs"]], args.rules)
    for problem in sources.problems:
        print_error(problem)
    if args.at is not None:
        _print_classes([*sources.trials, *(t for held in sources.published.values() for t in held)], args)
    elif args.variants:
        variants.print_variants(sources.trials, json=args.json)
    else:
        score_sources.print_all(sources, **_options(args))
    return 1 if sources.problems else 0


_OF_SCORES = ("csv", "clock", "baseline", "pairs", "allow_missing")
_NOT_AT = ("variants", "csv", "baseline", "pairs", "allow_missing")


def _print_classes(trials: Sequence[Trial], args: argparse.Namespace) -> None:
    from harness.report import compute_classes

    found = compute_classes.of_trials(trials, args.at, args.clock)
    if args.json:
        print_json(compute_classes.as_json(*found))
    else:
        compute_classes.print_classes(*found)


def _score_logs(args: argparse.Namespace) -> int:
    from harness.report.scores import show
    from harness.scoring import algoperf, algoperf_targets, score

    if len(args.runs) != 1 or args.targets is None:
        raise ConfigError(
            "harness score --format algoperf: expected one folder or tar file of logs and --targets FILE, got "
            f"{len(args.runs)} of logs and {'no' if args.targets is None else 'a'} targets file"
        )
    targets = algoperf_targets.read_targets(args.targets)
    logs = algoperf.read_logs(Path(args.runs[0]), targets)
    options = _options(args)
    shown = {name: options.pop(name) for name in ("json", "csv", "pairs")}
    show(score.score_logs(logs, targets, self_tuning=args.self_tuning, compat=args.algoperf_compat, **options), **shown)
    return 0


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("json", "csv", "pairs", "clock", "baseline", "allow_missing")}
