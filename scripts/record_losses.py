"""Record the first training losses of each workload, so that an upgrade of a library cannot silently change one.

    python scripts/record_losses.py             all workloads
    python scripts/record_losses.py lm_grammar

Trains 20 steps of the harness's own AdamW on fixed streams, workloads for an accelerator in their small form, and
writes tests/golden/data/losses.json, which tests/golden/test_losses.py compares with. To be run when a workload is made
or gets a new version, and never to make a failing test pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.campaign import scale_ladder
from harness.program import discovery
from harness.program.workload import SMALL
from harness.record.files import write_atomic
from harness.trial.golden import STEPS, first_losses

LOSSES = Path(__file__).resolve().parent.parent / "tests" / "golden" / "data" / "losses.json"


def main() -> int:
    """Record the workloads named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="names (default: all but rungs of ladders)")
    args = parser.parse_args()
    held = json.loads(LOSSES.read_text()) if LOSSES.is_file() else {}
    every = [name for name in discovery.find_all("workloads") if not scale_ladder.is_rung(name)]
    for name in args.workloads or every:
        folder = discovery.find("workloads", name)
        small = discovery.workload_info(folder).small
        held[name] = first_losses(discovery.load_workload(folder, SMALL if small else None), STEPS)
        print(f"{name}: {held[name][0]:.4f} to {held[name][-1]:.4f}", flush=True)
    write_atomic(LOSSES, dict(sorted(held.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
