"""Processes of `harness.trial.sweep` side by side, each on a core of its own where the platform can pin them.

Needs no jax.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from harness.errors import HarnessError, MachineError
from harness.machine import children, flags, hardware
from harness.machine.flags import Device
from harness.program import discovery
from harness.program.child import STOPPED_BY_OTHERS
from harness.record import plain_data
from harness.trial.sweep_messages import Answer, Request


def cores() -> list[int]:
    """Return the numbers of the cores that this process may use; of one, unknown, where they cannot be told."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


def places(device: Device) -> int:
    """Return how many processes there is a place for, each on a core or GPU of its own."""
    return len(cores()) if device == "cpu" else max(1, len(hardware.visible_gpus()))


class Sweeps:
    """Sweep processes of one workload. A run stays with the process that began it, which holds it in memory."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]]):
        self._processes = processes
        self._place: dict[str, int] = {}

    def run(
        self, requests: Iterable[Request], on_answer: Callable[[Request, Answer], None] = lambda r, a: None
    ) -> list[Answer]:
        """Return the answers, in the order of the requests; `on_answer` is called for each as it comes, by one thread
        at a time for each process. Raises HarnessError where a run cannot be run, MachineError where somebody killed a
        process.
        """
        wanted = list(requests)
        turns: list[list[int]] = [[] for _ in self._processes]
        for number, request in enumerate(wanted):
            fewest = min(range(len(turns)), key=lambda place: len(turns[place]))
            turns[self._place.setdefault(request.run, fewest)].append(number)
        answers: dict[int, Answer] = {}

        def work(place: int) -> None:
            for number in turns[place]:
                answers[number] = self._ask(self._processes[place], wanted[number])
                on_answer(wanted[number], answers[number])

        pool = ThreadPoolExecutor(len(turns))
        try:
            for _ in pool.map(work, range(len(turns))):
                pass
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C need not wait for the runs
        return [answers[number] for number in range(len(wanted))]

    def _ask(self, process: subprocess.Popen[str], request: Request) -> Answer:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(plain_data.to_plain(request)) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = process.wait()
            if -code in STOPPED_BY_OTHERS:
                raise MachineError(
                    f"a sweep process ended, killed from outside (exit code {code}); type the same again"
                )
            raise HarnessError(f"a sweep process ended (exit code {code}); see its output above")
        answer = plain_data.read(Answer, json.loads(line), "answer of a sweep")
        if answer.error:
            raise HarnessError(answer.error)
        return answer


@contextmanager
def started(workload: discovery.Folder, jobs: int, *, device: Device = "cpu") -> Iterator[Sweeps]:
    """Start `jobs` processes for a workload, one to a core where there are that many, or by turns on the GPUs, and end
    them. On a GPU they leave memory to one another, and to those of other workloads: a search over several holds some
    of each.
    """
    available = cores()
    gpus = hardware.visible_gpus() if device == "gpu" else []
    pinned = device == "cpu" and 1 < jobs <= len(available)
    command = children.command("harness.trial.sweep", str(workload.path))
    variables = flags.environment(device, deterministic=False, autotune="update", shared=True)
    environment = children.environment() | variables

    def start(job: int) -> subprocess.Popen[str]:
        if pinned:
            os.sched_setaffinity(0, {available[job]})  # of this thread alone; the process it starts inherits it
        own = {"CUDA_VISIBLE_DEVICES": gpus[job % len(gpus)]} if gpus else {}
        return subprocess.Popen(
            command,
            env=environment | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    with ThreadPoolExecutor(jobs) as pool:  # a thread each, so that no affinity stays with the caller
        processes = list(pool.map(start, range(jobs)))
    try:
        yield Sweeps(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]


class Later(Sweeps):
    """Sweep processes that are started, as `started` does, with the first run that is asked for; `stack` ends them. A
    search whose runs are all recorded starts none.
    """

    def __init__(self, stack: contextlib.ExitStack, workload: discovery.Folder, jobs: int, device: Device = "cpu"):
        super().__init__(())
        self._begin = lambda: stack.enter_context(started(workload, jobs, device=device))
        self._begun: Sweeps | None = None

    def run(
        self, requests: Iterable[Request], on_answer: Callable[[Request, Answer], None] = lambda r, a: None
    ) -> list[Answer]:
        """As `Sweeps.run`."""
        wanted = list(requests)
        if not wanted:
            return []
        if self._begun is None:
            self._begun = self._begin()
        return self._begun.run(wanted, on_answer)
