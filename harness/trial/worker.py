"""The subprocess of trials: `python -m harness.trial.worker RUN_FOLDER...`, one after the other.

It sets the platform's flags, then imports jax, then runs. It imports no submission and no model. Trials of one program
share what is compiled, so that another seed or point starts at once. What goes wrong in one trial is its result, and
the next one begins; an interruption ends the list. A worker needs no Hydra, so that a bare JAX machine can work on what
was prepared elsewhere. `harness.trial` has its exit codes.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import DataError, HarnessError, HeldError, MachineError, RunFolderError, beneath, of_machine
from harness.machine import flags, hardware
from harness.machine.allocator import keep_memory
from harness.machine.nvml import energy_counter
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.record.run_folder import RunFolder
from harness.record.spec import Options, TrialSpec
from harness.trial import EXIT_DATA, EXIT_HELD, EXIT_MACHINE, EXIT_UNUSABLE, priming
from harness.trial.clock import Ledger


def main(argv: list[str] | None = None) -> int:
    """Run the trials of prepared run folders; return the exit code, of several the largest."""
    parser = argparse.ArgumentParser(prog="python -m harness.trial.worker", description=__doc__)
    parser.add_argument(
        "folders", type=Path, nargs="+", help="run folders with their spec.json, as `harness run` makes"
    )
    parser.add_argument("--started", type=float, help="time.monotonic() at which the parent started this process")
    parser.add_argument("--coordinator", metavar="HOST:PORT", help="of several processes: the address of the first one")
    parser.add_argument("--processes", type=int, default=1, help="that train together (default: %(default)s)")
    parser.add_argument("--process", type=int, default=0, help="which of them this is (default: %(default)s)")
    told = "read further folders, one a line, from standard input; a JSON line goes to FD as each is done with"
    parser.add_argument("--more", type=int, metavar="FD", help=told)
    args = parser.parse_args(argv)
    offset_s = time.monotonic() - args.started if args.started else 0.0
    further: queue.SimpleQueue[Path] = queue.SimpleQueue()
    if args.started:
        end_with_parent(further.put)
    if (args.processes > 1) != bool(args.coordinator) or not 0 <= args.process < args.processes:
        parser.error("of several processes each takes --coordinator HOST:PORT --processes N --process 0..N-1")
    work, codes = Work(args.coordinator, args.processes, args.process), []
    for number, folder in enumerate(chain(args.folders, iter(further.get, None) if args.more else ())):
        if number:
            redirect(folder)
        codes.append(work.on(folder, 0.0 if number else offset_s))
        if args.more:
            os.write(args.more, (json.dumps({"folder": str(folder), "code": codes[-1]}) + "\n").encode())
        if work.interrupted:
            break
    if not max(codes):
        work.leave()
    return max(codes)


def redirect(folder: Path) -> None:
    """Let what is printed go to the folder's `worker.log`, where it went to that of the first one."""
    if stat.S_ISREG(os.fstat(1).st_mode) and folder.is_dir():
        sys.stdout.flush()
        sys.stderr.flush()
        with (folder / "worker.log").open("ab") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)


class Silent(RunFolder):
    """The run folder as a process sees it that is not the first: it reads there and writes nothing."""

    def __init__(self, path: Path):
        self.path = path

    def append(self, event: str, *, durable: bool = False, **fields: Any) -> None:
        """Leave it to the first process."""

    def write_result(self, result: Result) -> None:
        """Leave it to the first process."""

    def close(self) -> None:
        """Nothing is open."""


class Work:
    """What one process does: trial after trial, all on the same devices with the same flags; by itself, or as one of
    several `processes` that train together.
    """

    def __init__(self, coordinator: str | None = None, processes: int = 1, process: int = 0) -> None:
        self._coordinator, self._processes, self._process = coordinator, processes, process
        self._joined = False
        self._stop = threading.Event()
        self._flags: tuple[object, ...] | None = None
        self._kept: Any = None

    @property
    def interrupted(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    def on(self, path: Path, offset_s: float) -> int:
        """Run the trial of a run folder; return the exit code."""
        try:
            spec, options = run_folder.read_spec(path)
            wanted = spec.device, spec.deterministic, spec.score_compile, spec.devices
            if self._flags not in (None, wanted):
                print(f"{path}: the trials before it run with other flags; start it by itself", file=sys.stderr)
                return EXIT_UNUSABLE
            if spec.devices % self._processes:
                told = f"{path}: devices={spec.devices} cannot be shared evenly by {self._processes} processes"
                print(f"{told}; start a number of them that divides it", file=sys.stderr)
                return EXIT_UNUSABLE
            with self._held(path) as folder:
                if (ended := folder.ended()) is not None:  # since it was planned; a finished trial is never overwritten
                    print(f"{path}: {ended} already; nothing to do", flush=True)
                    return 0
                self._flags = wanted
                self._run(spec, options, folder, offset_s)
        except DataError as error:
            print(error, file=sys.stderr, flush=True)
            return EXIT_DATA
        except RunFolderError as error:
            print(error, file=sys.stderr, flush=True)
            return EXIT_HELD if isinstance(error, HeldError) else EXIT_UNUSABLE
        except (MachineError, OSError) as error:  # no submission runs in this process
            with suppress(OSError):
                print(error if isinstance(error, MachineError) else of_machine(error), file=sys.stderr, flush=True)
            return EXIT_MACHINE
        return 0

    def leave(self) -> None:
        """Wait for the other processes, so that none takes the end of this one for a loss."""
        if self._joined:
            import jax

            with suppress(jax.errors.JaxRuntimeError):
                jax.distributed.shutdown()

    def _held(self, path: Path) -> AbstractContextManager[RunFolder]:
        """Return the run folder, held by the first process; the others write nothing there."""
        if not self._process:
            return run_folder.hold(path)
        return nullcontext(Silent(path))

    def _run(self, spec: TrialSpec, options: Options, folder: RunFolder, offset_s: float) -> None:
        overrode = flags.apply(spec.device, deterministic=spec.deterministic, devices=spec.devices // self._processes)
        attempt = 1 + sum(e["event"] == "start" for e in run_folder.read_events(folder.path))
        folder.append(
            "start", attempt=attempt, pid=os.getpid(), spec_id=spec.id, unix_time=time.time(), overrode=overrode
        )
        (folder.path / "result.json").unlink(missing_ok=True)  # that of an interruption

        ledger = Ledger(offset_s, energy_now=energy_counter(spec.device))
        thrown = False

        def on_signal(*_: Any) -> None:
            nonlocal thrown
            self._stop.set()
            decided = any(event["event"] == "decided" for event in run_folder.read_events(folder.path))
            if not decided and ledger.current in ("setup", "compile", "warmup", "init"):
                thrown = True
                raise KeyboardInterrupt  # nothing trained yet, so nothing to save

        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, on_signal)
        try:
            folder.append("phase", phase="priming")
            priming.prime(spec, folder.path)
            from harness.machine import backend  # and with it jax, now that its flags are set

            backend.configure_jax(spec.device, compile_cache=not spec.score_compile)
            if self._coordinator and not self._joined:
                from harness.trial.hosts import Joined

                Joined(self._coordinator, self._processes, self._process).join()
                self._joined = True
            backend.require(spec.device)
            from harness.trial.loop import run_trial
            from harness.trial.setup import Kept

            self._kept = self._kept or Kept()
            result = run_trial(spec, options, folder, ledger, self._stop.is_set, attempt, self._kept)
        except DataError as error:
            note_stop(folder, f"{error}; then run again to go on")
            raise
        except (MachineError, OSError) as error:
            note_stop(folder, str(of_machine(error) if isinstance(error, OSError) else error))
            raise
        except RunFolderError:
            raise
        except (Exception, KeyboardInterrupt) as error:
            self._kept = None
            if self._processes > 1 and not thrown and (lost := lost_host(error)):
                traceback.print_exception(error)
                note_stop(folder, lost)
                raise MachineError(f"{folder.path}: {lost}") from error
            if not thrown and (trouble := beneath(error)) is not None:
                traceback.print_exception(error)
                note_stop(folder, str(trouble))
                raise trouble from error
            # An extension that is loaded at that moment makes an ImportError of the interruption.
            result = ended(KeyboardInterrupt() if thrown else error, spec, options, ledger, attempt)
        folder.write_result(result)


def note_stop(folder: RunFolder, why: str) -> None:
    """Log why a trial ends without a result, if the machine lets it: `run_folder.read_trial` tells it."""
    with suppress(OSError):
        folder.append("stopped", why=why)


def lost_host(error: BaseException) -> str | None:
    """Say that another process of the trial is gone, where an error of the runtime tells of it."""
    from harness.trial import stopping

    if type(error).__name__ not in ("JaxRuntimeError", "XlaRuntimeError") or stopping.out_of_memory(error):
        return None
    line = str(error).strip().partition("\n")[0]
    return f"a process of the trial was lost ({line}); start all of them again to go on from the last checkpoint"


def ended(error: BaseException, spec: TrialSpec, options: Options, ledger: Ledger, attempt: int) -> Result:
    """Return the result of a trial that an error ended."""
    if isinstance(error, KeyboardInterrupt):
        status, reason = Status.INTERRUPTED, "interrupted before training; run again to go on"
    else:
        from harness.trial import stopping  # and numpy with it, which is not needed before

        traceback.print_exception(error)
        full = stopping.out_of_memory(error)
        status = Status.OUT_OF_MEMORY if full else Status.CRASHED
        known = isinstance(error, HarnessError | MemoryError)
        reason = f"{type(error).__name__}: {error}" if known else describe(error, Path(options.submission_path))
        reason += f"; {out_of_memory(str(error))}" if full and not known else ""
    return Result(
        status=status,
        reason=reason,
        spec_id=spec.id,
        ledger={str(span): reading for span, reading in ledger.totals().items()},
        wall_s=ledger.total().wall_s,
        attempts=attempt,
        fingerprint=hardware.machine() | {"packages": hardware.packages(), "flags": hardware.flags()},
    )


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


def end_with_parent(on_line: Callable[[Path], None] = lambda path: None) -> None:
    """End this process when the parent goes: its end of our standard input closes with it, however it ends. A line that
    comes is the path of a further run folder.
    """
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        for line in sys.stdin:
            on_line(Path(line.rstrip("\n")))
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    keep_memory()
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)  # all is written; taking the runtime down in order would be time that no span holds
