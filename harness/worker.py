"""The subprocess of one trial: `python -m harness.worker RUN_FOLDER`. Sets the platform's flags, then imports jax,
then runs. With a plan in a file (`harness.planfile`) it runs each of its trials in a subprocess of its own:
`python -m harness.worker plan.json --out runs`.

Exit codes: 0, the result is written, whatever its status; 4, another process holds the run folder; 5, the folder cannot
be used; 6, data are missing (nothing is recorded, so the same command goes on once they are there).
Needs no Hydra, so a bare JAX machine can work on what was prepared elsewhere.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import stat
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from harness import flags, hardware, priming, records
from harness.clock import Ledger
from harness.errors import DataError, HarnessError, RunFolderError
from harness.records import Result, RunFolder, Status
from harness.spec import Options, TrialSpec

EXIT_HELD, EXIT_UNUSABLE, EXIT_DATA = 4, 5, 6


def main(argv: list[str] | None = None) -> int:
    """Run the trial of a prepared run folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.worker", description=__doc__)
    parser.add_argument(
        "folder", type=Path, help="a run folder with its spec.json, as `harness run` makes it; or a plan in a file"
    )
    parser.add_argument("--out", type=Path, default=Path("runs"), help="with a plan: where run folders go")
    parser.add_argument("--retry", action="store_true", help="with a plan: run again what failed")
    parser.add_argument("--started", type=float, help="time.monotonic() at which the parent started this process")
    args = parser.parse_args(argv)
    if args.folder.is_file() or not args.folder.exists():  # a plan, or the misspelt name of one
        from harness import planfile

        try:
            return planfile.run(args.folder, args.out, retry=args.retry)
        except HarnessError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        except KeyboardInterrupt:
            print("interrupted; type the same again to go on", file=sys.stderr, flush=True)
            return 130
    ledger_offset = time.monotonic() - args.started if args.started else 0.0
    if args.started:
        end_with_parent()
    try:
        spec, options = records.read_spec(args.folder)
        with records.hold(args.folder) as folder:
            _work(spec, options, folder, ledger_offset)
    except DataError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_DATA
    except RunFolderError as error:
        print(error, file=sys.stderr, flush=True)
        return EXIT_HELD if "is held by" in str(error) else EXIT_UNUSABLE
    return 0


def _work(spec: TrialSpec, options: Options, folder: RunFolder, offset_s: float) -> None:
    flags.apply(spec.device, deterministic=spec.deterministic)
    attempt = 1 + sum(e["event"] == "start" for e in records.read_events(folder.path))
    folder.append("start", attempt=attempt, pid=os.getpid(), spec_id=spec.id, unix_time=time.time())
    (folder.path / "result.json").unlink(missing_ok=True)  # that of an interruption

    ledger = Ledger(offset_s, energy_now=hardware.energy_counter(spec.device))
    asked_to_stop = threading.Event()

    def on_signal(*_: Any) -> None:
        asked_to_stop.set()
        if ledger.current in ("setup", "build", "compile", "warmup", "init"):
            raise KeyboardInterrupt  # nothing trained yet in this process, so nothing to save

    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, on_signal)
    try:
        folder.append("phase", phase="priming")
        priming.prime(spec, folder.path)
        flags.configure_jax(spec.device, compile_cache=not spec.score_compile)
        from harness.loop import run_trial

        result = run_trial(spec, options, folder, ledger, asked_to_stop.is_set, attempt)
    except KeyboardInterrupt:
        result = _ended(spec, ledger, attempt, Status.INTERRUPTED, "interrupted before training; run again to go on")
    except DataError:
        raise
    except HarnessError as error:
        traceback.print_exc()
        result = _ended(spec, ledger, attempt, Status.CRASHED, f"{type(error).__name__}: {error}")
    except MemoryError as error:
        traceback.print_exc()
        result = _ended(spec, ledger, attempt, Status.OUT_OF_MEMORY, f"MemoryError: {error}")
    except Exception as error:  # noqa: BLE001 - a trial's crash is a status with a reason; the traceback goes to worker.log
        traceback.print_exc()
        full = any(sign in str(error) for sign in ("RESOURCE_EXHAUSTED", "Out of memory"))
        status = Status.OUT_OF_MEMORY if full else Status.CRASHED
        reason = describe(error, Path(options.submission_path))
        result = _ended(spec, ledger, attempt, status, f"{reason}; {out_of_memory(str(error))}" if full else reason)
    folder.write_result(result)


def describe(error: BaseException, submission: Path) -> str:
    """Say in one line what went wrong; an error out of the submission's own code (a callback, say) names its line."""
    for text in str(error).splitlines():
        if str(submission) in text:
            cause = str(error).strip().splitlines()[-1]
            return f"SubmissionError: {text.strip()}: {cause}"
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def out_of_memory(message: str) -> str:
    """Say how many bytes were wanted, how many are there, and what to lower."""
    import jax

    from harness import hardware

    wanted = re.search(r"allocat(?:e|ing) (\d+)(?: bytes)?", message)
    limit, used = hardware.device_memory()
    asked = _gib(int(wanted[1])) if wanted else "more than there is"
    return (
        f"wanted {asked}, of {_gib(limit)} {_gib(used)} were in use; "
        "a workload for an accelerator has variant=small for other machines; lower what the submission keeps (state, "
        "candidates, batch_sizes), "
        + (
            "end what else runs on the card, or raise XLA_PYTHON_CLIENT_MEM_FRACTION (the share that jax takes, 0.75)"
            if jax.default_backend() == "gpu"
            else "or end what else runs on this machine"
        )
    )


def _gib(count: int) -> str:
    return f"{count} bytes ({count / 2**30:.1f} GiB)"


def _ended(spec: TrialSpec, ledger: Ledger, attempt: int, status: Status, reason: str) -> Result:
    return Result(
        status=status,
        reason=reason,
        spec_id=spec.id,
        ledger={str(span): reading for span, reading in ledger.totals().items()},
        wall_s=ledger.total().wall_s,
        attempts=attempt,
        fingerprint=hardware.machine() | {"packages": hardware.packages(), "flags": hardware.flags()},
    )


def end_with_parent() -> None:
    """End this process when the parent goes: its end of our standard input closes with it, however it ends."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    hardware.keep_memory()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; taking the runtime down in order would be time that no span holds
