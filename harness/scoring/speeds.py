"""The speed of a program on a machine, pooled over processes.

A compiled program is some percent faster in one process than in another, whoever wrote it. So on the calibrated clock a
trial is charged what its steps took in the mean over all processes that ran its program here, not what its own process
happened to take. What its own took stays beside it: intervals and tests draw processes as they draw studies. The other
clocks show what was measured.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from harness.record.run_folder import Trial

FEW = 3  # processes, below which a program's speed is that of one or two
SLOWEST = 1.1  # process over the mean that is the machine's doing; beyond it the program did more there than elsewhere


@dataclass(frozen=True)
class Speed:
    """What a step of a program takes, in steps of the yardstick.

    Attributes:
      step_ratio: the mean over processes, by batch size.
      processes: of each process, its seconds over those of the mean, for the same steps.
    """

    step_ratio: dict[int, float]
    processes: tuple[float, ...]

    @property
    def scatter(self) -> float | None:
        """Standard deviation between processes, as a share; None of one."""
        return statistics.stdev(self.processes) if len(self.processes) > 1 else None


def program_of(trial: Trial) -> Hashable | None:
    """Return what trials share that ran the same program; None where the record does not tell its processes apart."""
    held = trial.result.calibration if trial.result else None
    if held is None or trial.spec.program is None or held.process is None or not sum(held.steps.values()):
        return None
    return trial.spec.workload, trial.spec.workload_program, trial.spec.program


def pooled(trials: Iterable[Trial]) -> dict[Hashable, Speed]:
    """Return the speed of each program that these trials ran, all on one machine."""
    by_program: dict[Hashable, list[Trial]] = {}
    for trial in trials:
        if (program := program_of(trial)) is not None:
            by_program.setdefault(program, []).append(trial)
    return {program: _speed(of) for program, of in by_program.items()}


def own_over_pooled(trial: Trial, speeds: Mapping[Hashable, Speed]) -> float:
    """Return what the steps of a trial took in its own process over what they take in the mean; 1 where unknown.

    At most `SLOWEST`: a program whose steps cost much on some seeds or points and little on others, which it can afford
    to miss, is not charged the mean of both.
    """
    speed = speeds.get(program_of(trial))
    if speed is None:
        return 1.0
    assert trial.result is not None
    held = trial.result.calibration
    assert held is not None
    own = sum(n * held.step_ratio[size] for size, n in held.steps.items())
    return min(SLOWEST, own / sum(n * speed.step_ratio[size] for size, n in held.steps.items()))


def by_cell(trials: Iterable[Trial], speeds: Mapping[Hashable, Speed]) -> dict[tuple[str, str], Speed]:
    """Return by submission and workload the speed of the program that most of its trials ran."""
    ran: dict[tuple[str, str], Counter[Hashable]] = {}
    for trial in trials:
        if (program := program_of(trial)) is not None:
            ran.setdefault((trial.spec.submission, trial.spec.workload), Counter())[program] += 1
    return {cell: speeds[programs.most_common(1)[0][0]] for cell, programs in sorted(ran.items())}


def _speed(trials: list[Trial]) -> Speed:
    """Pool: steps weigh alike within a process, and processes weigh alike."""
    steps: dict[str, dict[int, int]] = {}
    taken: dict[str, dict[int, float]] = {}
    for trial in trials:
        held = trial.result.calibration if trial.result else None
        assert held is not None
        assert held.process is not None
        counted, of = steps.setdefault(held.process, {}), taken.setdefault(held.process, {})
        for size, n in held.steps.items():
            counted[size] = counted.get(size, 0) + n
            of[size] = of.get(size, 0.0) + n * held.step_ratio[size]
    sizes = {size for of in steps.values() for size, n in of.items() if n}
    mean = {
        size: statistics.fmean(taken[process][size] / of[size] for process, of in steps.items() if of.get(size))
        for size in sorted(sizes)
    }
    processes = [
        sum(taken[process].values()) / sum(n * mean[size] for size, n in of.items() if n)
        for process, of in steps.items()
    ]
    return Speed(mean, tuple(sorted(processes)))
