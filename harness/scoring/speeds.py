"""The speed of a program on a machine, pooled over processes.

A compiled program is some percent faster in one process than in another, whoever wrote it. So on the calibrated clock a
trial is charged what its steps took in the mean over all processes that ran its program here, not what its own process
happened to take. A process counts by how well its speed was measured: by the inverse of the variance between processes
plus that of its own measurement, which is large where the machine stalled (`step_ratio_error`). What its own took stays
beside it: intervals and tests draw processes as they draw studies. The other clocks show what was measured.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from harness.record.readings import Calibration
from harness.record.run_folder import Trial

BETWEEN = 0.03  # standard deviation of a program's speed between processes, as a share; harness/README.md has figures
UNKNOWN = 0.4
"""Of a measurement, where the record tells no error: the yardstick ran but once or twice beside it. Five such trials of
schedule_free_sgd on the boards of 2026-11-29 took 0.24 to 1.9 times what their program takes."""
FEW = 3  # processes, below which a program's speed is that of one or two
SLOWEST = 1.1  # process over the mean that is the machine's doing; beyond it the program did more there than elsewhere


@dataclass(frozen=True)
class Speed:
    """What a step of a program takes, in steps of the yardstick.

    Attributes:
      step_ratio: the mean over processes, by batch size.
      by_process: of each process, its seconds over those of the mean for the same steps, and its weight in the mean;
        weights have the mean 1.
      error: half-width of the 95% interval of the mean, as a share, by what is known of processes and measurements;
        wider by the root of Birge's ratio where the processes differ by more (Birge 1932, Phys. Rev. 40:207).
    """

    step_ratio: dict[int, float]
    by_process: dict[str, tuple[float, float]]
    error: float

    @property
    def processes(self) -> tuple[float, ...]:
        """The seconds of each process over those of the mean, from the fastest to the slowest."""
        return tuple(sorted(seconds for seconds, _ in self.by_process.values()))

    @property
    def scatter(self) -> float | None:
        """Standard deviation between processes, weighted as they are in the mean, as a share; None of one."""
        n = len(self.by_process)
        squares = sum(weight * (seconds - 1.0) ** 2 for seconds, weight in self.by_process.values())
        return math.sqrt(squares / (n - 1)) if n > 1 else None


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
    if speed is None or len(speed.by_process) == 1:
        return 1.0
    held = _calibration(trial)
    own = sum(n * held.step_ratio[size] for size, n in held.steps.items())
    return min(SLOWEST, own / sum(n * speed.step_ratio[size] for size, n in held.steps.items()))


def drawn(trial: Trial, speeds: Mapping[Hashable, Speed]) -> float:
    """Return what stands for a trial's process where processes are drawn, so that the plain mean over a draw moves as
    the weighted one would: 1 plus the weight times how far the process was from the mean.
    """
    speed = speeds.get(program_of(trial))
    if speed is None:
        return 1.0
    _, weight = speed.by_process[_process(trial)]
    return 1.0 + weight * (own_over_pooled(trial, speeds) - 1.0)


def by_cell(trials: Iterable[Trial], speeds: Mapping[Hashable, Speed]) -> dict[tuple[str, str], Speed]:
    """Return by submission and workload the speed of the program that most of its trials ran."""
    ran: dict[tuple[str, str], Counter[Hashable]] = {}
    for trial in trials:
        if (program := program_of(trial)) is not None:
            ran.setdefault((trial.spec.submission, trial.spec.workload), Counter())[program] += 1
    return {cell: speeds[programs.most_common(1)[0][0]] for cell, programs in sorted(ran.items())}


def _speed(trials: list[Trial]) -> Speed:
    """Pool: steps weigh alike within a process, and processes by how well they were measured."""
    steps: dict[str, dict[int, int]] = {}
    taken: dict[str, dict[int, float]] = {}
    errors: dict[str, list[tuple[float, float | None]]] = {}  # seconds, in steps of the yardstick, and their error
    for trial in trials:
        held, process = _calibration(trial), _process(trial)
        counted, of = steps.setdefault(process, {}), taken.setdefault(process, {})
        for size, n in held.steps.items():
            counted[size] = counted.get(size, 0) + n
            of[size] = of.get(size, 0.0) + n * held.step_ratio[size]
        own = sum(n * held.step_ratio[size] for size, n in held.steps.items())
        errors.setdefault(process, []).append((own, held.step_ratio_error))
    weights = {process: 1.0 / (BETWEEN**2 + variance(of)) for process, of in errors.items()}
    mean = {}
    for size in sorted({size for of in steps.values() for size, n in of.items() if n}):
        ran = [process for process, of in steps.items() if of.get(size)]
        of_all = sum(weights[process] for process in ran)
        mean[size] = sum(weights[process] / of_all * (taken[process][size] / steps[process][size]) for process in ran)
    typical = sum(weights.values()) / len(weights)
    over_mean = {
        process: sum(taken[process].values()) / sum(n * mean[size] for size, n in of.items() if n)
        for process, of in steps.items()
    }
    birge = sum(weights[process] * (seconds - 1.0) ** 2 for process, seconds in over_mean.items()) / (
        len(steps) - 1 or 1
    )
    return Speed(
        mean,
        {process: (seconds, weights[process] / typical) for process, seconds in over_mean.items()},
        1.96 * math.sqrt(max(1.0, birge) / sum(weights.values())),
    )


def variance(measured: list[tuple[float, float | None]]) -> float:
    """Return the variance of the seconds of a process, as a share, from those of its trials and the half-widths of
    their 95% intervals.
    """
    if any(error is None for _, error in measured):
        return UNKNOWN**2
    squares = sum((own * (error or 0.0) / 1.96) ** 2 for own, error in measured)
    return squares / sum(own for own, _ in measured) ** 2


def _calibration(trial: Trial) -> Calibration:
    assert trial.result is not None
    assert trial.result.calibration is not None
    return trial.result.calibration


def _process(trial: Trial) -> str:
    process = _calibration(trial).process
    assert process is not None
    return process
