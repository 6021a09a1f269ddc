"""Trials on the GPUs of this machine: as many at a time as there are GPUs, one on each, or on as many as each is spread
over. On a CPU one after another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from harness.campaign.launch import local
from harness.campaign.plan import PlannedTrial
from harness.errors import HarnessError, MachineError, of_machine
from harness.machine import hardware


@dataclass(frozen=True)
class Slot:
    """Where a trial runs.

    Attributes:
      environment: what to add to the worker's.
      presses: the interrupts so far, where somebody else collects them (see `local.run_trial`).
      alone: whether no other trial runs beside it.
      worker: the process there, kept for the next trial where it may be.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    presses: list[int] | None = None
    alone: bool = True
    worker: local.Worker | None = field(default=None, compare=False)


def in_order(trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
    """Return the trials study by study, so that what an interrupted campaign leaves can be compared. Those that share a
    process and a compilation with the others of their program stay together: apart, each would start and load anew.
    """
    return sorted(trials, key=lambda trial: 0 if local.keeps(trial.spec) else trial.spec.study)


def run_all(
    trials: Sequence[PlannedTrial], run: Callable[[PlannedTrial, Slot], object], gpus: Sequence[str] | None = None
) -> Iterator[HarnessError]:
    """Run the trials; yield what goes wrong with one, while the others go on.

    Raises KeyboardInterrupt once the trials under way have saved and ended; no further one is begun then.
    """
    if gpus is None:
        gpus = hardware.visible_gpus() if any(trial.spec.device == "gpu" for trial in trials) else []
    each = max((trial.spec.devices for trial in trials if trial.spec.device == "gpu"), default=1)
    if len(gpus) < each != 1:
        yield MachineError(f"devices={each}: this machine shows {len(gpus)} GPUs; ask for as many at most")
        return
    gpus = [",".join(gpus[first : first + each]) for first in range(0, len(gpus) - each + 1, each)]
    if len(gpus) < 2 or len(trials) < 2:
        with local.worker() as worker:
            for trial in trials:
                try:
                    run(trial, Slot(worker=worker))
                except HarnessError as error:
                    yield error
                except OSError as error:
                    yield of_machine(error, str(trial.path))
        return
    free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    stop = threading.Event()

    def work(trial: PlannedTrial) -> HarnessError | None:
        if stop.is_set():
            raise KeyboardInterrupt
        slot = free.get()
        try:
            run(trial, slot)
        except HarnessError as error:
            return error
        except OSError as error:
            return of_machine(error, str(trial.path))
        except KeyboardInterrupt:
            stop.set()
            raise
        finally:
            free.put(slot)
        return None

    with local.interrupts() as presses, ExitStack() as workers, ThreadPoolExecutor(len(gpus)) as pool:
        for gpu in gpus:
            worker = workers.enter_context(local.worker())
            free.put(Slot({"CUDA_VISIBLE_DEVICES": gpu}, presses, alone=False, worker=worker))
        for problem in pool.map(work, trials):
            if problem is not None:
                yield problem
