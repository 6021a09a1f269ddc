"""Write the leaderboard in README.md from the published records in results/; publish run folders.

    python scripts/make_leaderboard.py --enter adamw mine --suite demo   enter programs for a board of `tuned`; commit
    python scripts/make_leaderboard.py --draw FILE     draw the nonce of what --enter wrote; commit, then run
    python scripts/make_leaderboard.py --add PACK      take in a pack of `harness publish`, then write the table
    python scripts/make_leaderboard.py --add runs      publish the runs below ./runs without their programs
    python scripts/make_leaderboard.py                 write the table
    python scripts/make_leaderboard.py --check         exit 1 where README.md and the records differ

What is published are complete campaigns of one ruleset on one machine: `harness run NAME ... rules=tuned suite=cpu`.
What `harness check` has findings about is refused. Records go to results/<machine>/<suite>-<rules>, as .tar.xz (packs,
which `harness verify` can train again) or as .jsonl; `harness score` reads both as it does run folders.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.campaign import entries
from harness.errors import ConfigError, HarnessError, of_machine
from harness.report import leaderboard
from harness.verify import publish

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Publish, write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--add", nargs="+", type=Path, metavar="RUNS", help="packs, or folders with runs")
    what.add_argument("--enter", nargs="+", metavar="NAME", help="submissions to enter, before the nonce is drawn")
    what.add_argument("--draw", type=Path, metavar="FILE", help="an entries file, committed as it is")
    what.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--suite", help="name of the suite (--add: by default the smallest that holds them)")
    parser.add_argument("--rules", default="tuned", help="with --enter (default: tuned)")
    parser.add_argument("--device", default="auto", help="with --enter: auto, cpu, gpu, h100 or h200 (default: auto)")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="published records (default: results/)")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="default: README.md")
    args = parser.parse_args()
    try:
        if args.enter or args.draw:
            return _enter(args) if args.enter else _draw(args.draw)
        text = args.readme.read_text()
        leaderboard.around(text, str(args.readme))  # before anything is written
        for file in publish.add(args.add, args.results, args.suite, print) if args.add else ():
            print(f"wrote {file}")
        new = leaderboard.replaced(text, args.results, str(args.readme))
        if args.check:
            is_old = f"{args.readme}: write the leaderboard anew"
            print("the leaderboard is as the records say" if new == text else is_old)
            return int(new != text)
        args.readme.write_text(new)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {of_machine(error)}", file=sys.stderr)
        return of_machine(error).exit_code
    print(f"wrote {args.readme}")
    return 0


def _enter(args: argparse.Namespace) -> int:
    if args.suite is None:
        raise ConfigError("--enter: name the board's suite, as in --suite demo")
    file = entries.enter(
        args.enter, args.results, suite=args.suite, rules=args.rules, device=args.device,
        on_export=lambda what: print(f"exporting {what}", flush=True),
    )  # fmt: skip
    print(f"wrote {file}: {', '.join(entries.read(file).submissions)}; when all are in, commit it, then --draw {file}")
    return 0


def _draw(file: Path) -> int:
    drawn = entries.draw(file)
    print(f"wrote {file}: nonce {drawn.nonce}; commit it, then run\n{drawn.command}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
