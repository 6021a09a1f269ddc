"""`harness report`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.parser import add_json, command_parser, print_error, print_json
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.errors import RunFolderError
    from harness.report.page.boards import Board

HELP = """\
examples:
  harness report                                 all runs in ./runs, as report.html
  harness report results/amd-epyc-2-cores        published packs: a board for each
  harness report before.tar.xz after.tar.xz      two packs side by side: what has changed, and may it be chance
  harness report mine.tar.xz runs --together     one board of both, as `harness score` makes it
  harness report runs --figures figures          every plot as SVG and PDF
  harness report runs --markdown                 tables to paste into a pull request
  harness report --format algoperf logs.tar.gz --targets workload_targets_v05.json --figures figures

The page is one file that opens from disk and needs no network. Its numbers are those of `harness score`; what
`harness ladder` found of a workload below RUNS is a board too. It needs the package vl-convert-python (`pip install
'training-harness[report]'`); --markdown does without it.
"""


def parser() -> argparse.ArgumentParser:
    made = command_parser("report", "Make a page of run folders, published records or AlgoPerf's logs.", HELP)
    made.add_argument(
        "runs",
        nargs="*",
        metavar="RUNS",
        help="run folders, folders that hold them (default: runs), or published records: a board each; sets of logs",
    )
    made.add_argument(
        "-o", "--out", type=Path, metavar="FILE",
        help="write the page to FILE (default: report.html, unless --figures or --markdown is given alone)",
    )  # fmt: skip
    made.add_argument("--figures", type=Path, metavar="DIR", help="write every plot to DIR, as SVG and PDF")
    made.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    made.add_argument("--title", default="Training-algorithm benchmark", help="the heading of the page")
    made.add_argument("--rules", metavar="NAME", help="only the runs by this ruleset")
    made.add_argument("--together", action="store_true", help="score all RUNS as one board")
    made.add_argument(
        "--allow-missing", action="store_true", help="leave missing studies out of the median (default: a miss each)"
    )
    made.add_argument("--format", choices=("runs", "algoperf"), default="runs", help="what RUNS holds")
    logs = made.add_argument_group("with --format algoperf")
    logs.add_argument(
        "--targets", type=Path, metavar="FILE", action="append",
        help="AlgoPerf's workload_targets file of these logs; for several sets one each, in their order",
    )  # fmt: skip
    logs.add_argument("--self-tuning", action="store_true", help="the logs are of self-tuning: one trial a study")
    logs.add_argument("--algoperf-compat", action="store_true", help="by the arithmetic of AlgoPerf's code")
    add_json(made)
    return made


def call(args: argparse.Namespace) -> int:
    from harness.report.page import document, figures, markdown, scale_ladder, sources

    out = args.out or (None if args.figures or args.markdown else Path("report.html"))
    if out or args.figures:
        document.library()  # before minutes of reading
    below = out.parent if out else None
    packs: list[sources.Pack] = []
    problems: list[RunFolderError] = []
    if args.format == "algoperf":
        made = _boards_of_logs(args)
    else:
        for flag in ("targets", "self_tuning", "algoperf_compat"):
            if getattr(args, flag):
                raise ConfigError(f"harness report: --{flag.replace('_', '-')} goes with --format algoperf")
        places = [Path(name) for name in args.runs or ["runs"]]
        ladders = scale_ladder.boards(places)
        with_trials = [place for place in places if not scale_ladder.alone(place)]
        if with_trials or not ladders:
            packs, problems = sources.packs(with_trials, args.rules, together=args.together)
        for problem in problems:
            print_error(problem)
        made = [*(sources.of_packs(packs, below, allow_missing=args.allow_missing) if packs else ()), *ladders]
    text = markdown.written(made) if args.markdown else None
    if text and not args.json:
        print(text, end="")
    progress = sys.stderr if args.markdown or args.json else sys.stdout
    files: list[Path] = []
    if args.figures:
        files = figures.write(made, args.figures)
        print(f"wrote {len(files)} files to {args.figures}", file=progress)
    if out:
        document.write(made, args.title, out)
        print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)", file=progress)
    if args.json:
        print_json({"page": out, "figures": files, "markdown": text, "problems": list(map(str, problems))})
    return 1 if problems else 0


def _boards_of_logs(args: argparse.Namespace) -> list[Board]:
    from harness.report.page import boards
    from harness.scoring import algoperf, algoperf_targets

    given = args.targets or []
    if not args.runs or not given or len(given) not in (1, len(args.runs)):
        raise ConfigError(
            "harness report --format algoperf: expected folders or tar files of logs, and --targets FILE once or for "
            f"each of them, got {len(args.runs)} of logs and {len(given)} of targets"
        )
    if args.rules or args.together:
        raise ConfigError("harness report: --rules and --together are for run folders, not for AlgoPerf's logs")
    targets = [algoperf_targets.read_targets(file) for file in given] * (len(args.runs) if len(given) == 1 else 1)
    most = boards.MOST_MEASUREMENTS // len(targets)
    options = {
        "most": most,
        "self_tuning": args.self_tuning,
        "compat": args.algoperf_compat,
        "allow_missing": args.allow_missing,
    }
    return [
        boards.of_logs(
            algoperf.read_logs(place, known),
            known,
            f"AlgoPerf {known.version}, {place.name.partition('.')[0]}",
            **options,
        )
        for place, known in zip(map(Path, args.runs), targets, strict=True)
    ]
