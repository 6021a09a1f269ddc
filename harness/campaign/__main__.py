"""Run a plan from a file: `python -m harness.campaign plan.json --out runs`. Needs no Hydra and no configuration.
Typed in several places for one folder, the trials are shared: each is run by one of them.

Exit codes: 0, every trial came to its end; 1, one failed, now or earlier; 2, bad input; 3, data are missing; 130,
interrupted (the same command goes on).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.campaign import plan_file
from harness.errors import HarnessError, of_machine


def main(argv: list[str] | None = None) -> int:
    """Run the trials of the plan named; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.campaign", description=__doc__)
    parser.add_argument("plan", type=Path, help="a file that `harness plan ... -o FILE` wrote")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="where run folders go (default: %(default)s)")
    parser.add_argument("--retry", action="store_true", help="run again what failed")
    parser.add_argument("--prepare", action="store_true", help="print the run folders, ready for workers; run nothing")
    told = "the file is a jobs.json that `harness run launcher=...` wrote; do the job of this number"
    parser.add_argument("--job", type=int, metavar="N", help=told)
    args = parser.parse_args(argv)
    try:
        if args.job is not None:
            from harness.campaign.launch import job

            return job.run(args.plan, args.job)
        if args.prepare:
            print("\n".join(map(str, plan_file.prepared(args.plan, args.out, retry=args.retry))), flush=True)
            return 0
        return plan_file.run(args.plan, args.out, retry=args.retry)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except OSError as error:
        print(f"error: {of_machine(error)}", file=sys.stderr, flush=True)
        return of_machine(error).exit_code
    except KeyboardInterrupt:
        print("interrupted; type the same again to go on", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
