"""The same jobs without a cluster: `python -m harness.campaign.launch.background jobs.json` outlives the command that
starts it, and runs one job after another on this machine. Batches wait for each other, so that nothing runs beside what
is timed.

Its process holds a lock in the folder of the batch for as long as it lives; SIGTERM ends it as Ctrl-C does a run.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from harness.campaign.launch import jobs
from harness.campaign.launch.jobs import Batch, Seen
from harness.machine import children
from harness.record.spec import RunSpec

LOCK = "background.lock"


def check(run: RunSpec) -> None:
    """There is nothing that it lacks."""


def submit(folder: Path, batch: Batch, run: RunSpec) -> str:
    """Start the process of a batch and return its id."""
    words = children.command("harness.campaign.launch.background", str(folder / "jobs.json"))
    with (folder / LOCK).open("w") as lock, (folder / "background.log").open("ab") as log:
        fcntl.flock(lock, fcntl.LOCK_EX)  # goes to the process with the descriptor, and ends with it
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONPATH": children.python_path()},
            start_new_session=True,
            pass_fds=[lock.fileno()],
        )
        threading.Thread(target=process.wait, daemon=True).start()  # where the command waits, it leaves no zombie
    return str(process.pid)


def seen(batches: Sequence[tuple[Path, Batch]]) -> dict[tuple[Path, int], Seen]:
    """Return how the jobs of batches stand, by folder and number; none of a batch whose process is gone."""
    found: dict[tuple[Path, int], Seen] = {}
    for folder, batch in batches:
        with (folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found |= {(folder, n): _state(jobs.note(folder, n)) for n in range(len(batch.jobs))}
    return found


def _state(said: jobs.Note | None) -> Seen:
    if said is None:
        return Seen("PENDING", True, reason="its turn comes")
    return Seen("RUNNING", True, said.host) if said.code is None else Seen("ENDED", False, said.host)


def main(argv: list[str] | None = None) -> int:
    """Run the jobs of a batch; return the exit code, of several the largest."""
    parser = argparse.ArgumentParser(prog="python -m harness.campaign.launch.background", description=__doc__)
    parser.add_argument("file", type=Path, help="a jobs.json, as `harness run launcher=background` writes it")
    args = parser.parse_args(argv)
    folder, count, codes = args.file.parent, len(jobs.read(args.file).jobs), [0]

    def end(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    try:
        with (folder.parent / "turn.lock").open("a") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            for number in range(count):
                codes.append(_run(args.file, number))
    except KeyboardInterrupt:
        codes.append(130)
    return max(codes)


def _run(file: Path, number: int) -> int:
    words = children.command("harness.campaign", str(file), "--job", str(number))
    with file.with_name(f"{number}.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise


if __name__ == "__main__":
    sys.exit(main())
