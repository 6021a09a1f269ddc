"""Campaigns that are disturbed without end: is a run lost, a bit another, a file left over?

    python scripts/soak.py --minutes 20 --seed 1     faults of every kind, at moments that the seed draws
    python scripts/soak.py --rounds 8 --forms file   some on the smallest campaign
    python scripts/soak.py --seed 1 --round 17       a round again
    python scripts/soak.py --kinds kill,Ctrl         some kinds alone

Real campaigns run by `harness run` in processes of their own, on toys and on the demo suite; each is disturbed once or
several times (scripts/faults/kinds.py), typed again until it is finished, and held against the campaign that nobody
disturbed: same status, same final state, losses and measurements, a ledger that sums, no file, folder or process left.
Prints a line a round and a table by kind; the exit code is 1 where anything is wrong, and the folder of such a round
stays. As root it mounts disks in memory to fill them, seen by itself alone; others skip these kinds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults import processes, rounds
from faults.desk import Home
from faults.forms import FORMS, Form
from faults.kinds import KINDS, Kind

MOUNTED = "SOAK_MOUNTS"  # set where this process sees mounts of its own


def main(argv: Sequence[str] | None = None) -> int:
    """Play rounds until the time is over; return 1 where anything is wrong."""
    args = parser().parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):  # a script's background has them ignored, and hands that on
        signal.signal(number, signal.default_int_handler)
    forms = [form for form in FORMS if form.name in (args.forms or form.name).split(",")]
    kinds = [kind for kind in KINDS if any(part in kind.name for part in args.kinds.split(","))]
    kinds = [kind for kind in kinds if any(kind.fits(form) for form in forms)]
    if not kinds:
        sys.exit(f"--kinds {args.kinds}: there is none; there are {', '.join(kind.name for kind in KINDS)}")
    if args.lane is not None:
        return lane(args, forms, kinds)
    if os.geteuid() == 0 and MOUNTED not in os.environ and shutil.which("unshare"):
        words = ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv]
        if subprocess.run([*words[:4], "true"], capture_output=True, check=False).returncode == 0:
            os.environ[MOUNTED] = "1"
            os.execvp(words[0], words)
    folder = args.out or Path(tempfile.mkdtemp(prefix="soak-"))
    home = Home(folder / "home")
    print(f"in {folder}: {len(kinds)} kinds of faults on {len(forms)} campaigns, seed {args.seed}", flush=True)
    began = time.monotonic()
    rounds.prepare(home, forms, args.lanes)
    print(f"undisturbed campaigns took {time.monotonic() - began:.0f} s", flush=True)
    lanes = 1 if args.round is not None else args.lanes
    words = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv), "--out", str(folder), "--lane"]
    deadline = repr(began + 60 * args.minutes)
    playing = [subprocess.Popen([*words, f"{n}/{lanes}/{deadline}"]) for n in range(lanes)]
    try:
        codes = [process.wait() for process in playing]
    except KeyboardInterrupt:
        codes = [process.wait() for process in playing]
    found = [json.loads(line) for file in sorted(folder.glob("lane-*.jsonl")) for line in file.read_text().splitlines()]
    print("\n".join(table(found, [kind.name for kind in kinds])), flush=True)
    print(f"{time.monotonic() - began:.0f} s in all; rounds are in {folder}", flush=True)
    code = max(verdict(found), *map(abs, codes), 0)
    if code == 0 and args.out is None:
        shutil.rmtree(folder)
    return min(code, 1)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--minutes", type=float, default=1e4, help="begin no round after so many")
    made.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    made.add_argument("--rounds", type=int, help="so many rounds at most")
    made.add_argument("--round", type=int, help="this round alone, as a soak of the same kinds and forms has it")
    made.add_argument("--kinds", default="", help="parts of names, separated by commas (default: all)")
    made.add_argument("--forms", metavar="NAMES", help=f"of {', '.join(form.name for form in FORMS)} (default: all)")
    made.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="rounds at a time (default: %(default)s)")
    made.add_argument(
        "--out", type=Path, metavar="DIR", help="a folder to work in, which is kept; one of before is warm"
    )
    made.add_argument("--lane", help=argparse.SUPPRESS)
    return made


def lane(args: argparse.Namespace, forms: Sequence[Form], kinds: Sequence[Kind]) -> int:
    """Play every so-manieth round in this process, which adopts what its commands leave behind."""
    processes.adopt_orphans()
    number, lanes, deadline = (float(part) for part in args.lane.split("/"))
    home = Home(args.out / "home", "" if MOUNTED in os.environ else "needs root and `unshare`")
    todo = int(number) if args.round is None else args.round
    try:
        with (args.out / f"lane-{int(number)}.jsonl").open("w") as file:
            while time.monotonic() < deadline and (args.rounds is None or todo < args.rounds):
                outcome = rounds.play(home, todo, args.seed, kinds, forms)
                file.write(json.dumps(outcome.plain()) + "\n")
                file.flush()
                struck = ", ".join(f"{kind} ({what})" for kind, what, _ in outcome.faults)
                told = struck or outcome.skipped or "none struck"
                said = [f"round {todo}, {outcome.kind} on {outcome.form}, {outcome.seconds:.0f} s: {told}"]
                print("\n".join([*said, *(f"   WRONG {one}" for one in outcome.odd)]), flush=True)
                if args.round is not None:
                    break
                todo += int(lanes)
    finally:
        for pid in processes.below(os.getpid()):  # where it is interrupted
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    return 0


def verdict(found: Sequence[dict[str, Any]]) -> int:
    """Return the exit code: 1 where anything is wrong, or no fault struck at all."""
    return int(any(map(odd, found)) or not any(one["faults"] for one in found))


def odd(one: dict[str, Any]) -> bool:
    """Whether anything is wrong with a round."""
    return any(one[name] for name in ("lost", "differing", "unbalanced", "left")) or any(f[2] for f in one["faults"])


def table(found: Sequence[dict[str, Any]], kinds: Sequence[str]) -> list[str]:
    """Return the lines of the table: of each kind how many struck and how their campaigns ended."""
    rows, skipped = [], {}
    for kind in [*kinds, "all"]:
        of = [(one, fault) for one in found for fault in one["faults"] if kind in (fault[0], "all")]
        skipped |= {one["kind"]: one["skipped"] for one in found if one["skipped"]}
        wrong = [sum(bool(one[name]) for one, _ in of) for name in ("lost", "differing", "unbalanced", "left")]
        status = sum(bool(fault[2]) for _, fault in of)
        fine = sum(not odd(one) for one, _ in of)
        toys = sum(one["toy"] for one, _ in of)
        rows.append([kind, len(of), toys, fine, *wrong, status])
    head = ["fault", "injected", "on toys", "recovered", "lost", "bits differ", "ledger", "left over", "status"]
    widths = [max(len(str(row[n])) for row in [head, *rows]) for n in range(len(head))]
    lines = [
        "  ".join(
            str(cell).rjust(width) if n else str(cell).ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *rows]
    ]
    return ["", *lines, *(f"{kind} was skipped: {why}" for kind, why in skipped.items())]


if __name__ == "__main__":
    sys.exit(main())
