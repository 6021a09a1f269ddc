"""The subprocess of one trial: `python -m harness.trial.worker RUN_FOLDER`.

It sets the platform's flags, then imports jax, then runs. A worker needs no Hydra, so that a bare JAX machine can work
on what was prepared elsewhere. `harness.trial` has its exit codes.
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

from harness.errors import DataError, HarnessError, RunFolderError
from harness.machine import flags, hardware
from harness.machine.allocator import keep_memory
from harness.machine.nvml import energy_counter
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.record.run_folder import RunFolder
from harness.record.spec import Options, TrialSpec
from harness.trial import EXIT_DATA, EXIT_HELD, EXIT_UNUSABLE, priming
from harness.trial.clock import Ledger


def main(argv: list[str] | None = None) -> int:
    """Run the trial of a prepared run folder; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m harness.trial.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="a run folder with its spec.json, as `harness run` makes it")
    parser.add_argument("--started", type=float, help="time.monotonic() at which the parent started this process")
    args = parser.parse_args(argv)
    ledger_offset = time.monotonic() - args.started if args.started else 0.0
    if args.started:
        end_with_parent()
    try:
        spec, options = run_folder.read_spec(args.folder)
        with run_folder.hold(args.folder) as folder:
            if (ended := folder.ended()) is not None:  # since the plan was made; a finished trial is never overwritten
                print(f"{args.folder}: {ended} already; nothing to do", flush=True)
                return 0
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
    attempt = 1 + sum(e["event"] == "start" for e in run_folder.read_events(folder.path))
    folder.append("start", attempt=attempt, pid=os.getpid(), spec_id=spec.id, unix_time=time.time())
    (folder.path / "result.json").unlink(missing_ok=True)  # that of an interruption

    ledger = Ledger(offset_s, energy_now=energy_counter(spec.device))
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
        from harness.machine import backend  # and with it jax, now that its flags are set

        backend.configure_jax(spec.device, compile_cache=not spec.score_compile)
        from harness.trial.loop import run_trial

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

    from harness.machine import backend

    wanted = re.search(r"allocat(?:e|ing) (\d+)(?: bytes)?", message)
    limit, used = backend.device_memory()
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
    keep_memory()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # all is written; taking the runtime down in order would be time that no span holds
