"""How long a step of the queue takes: measured on this kind of card where there is a record, else estimated."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cards import records

from harness.program.workload import WorkloadInfo

STEP_S = {"lm_books": 0.035, "resnet18_cifar10": 0.0072, "mae_small_cifar10": 0.0103}
"""Estimates until a card is measured: model FLOPs at 45%, 30% and 35% of 790 TFLOP/s."""
UNKNOWN_STEP_S = 0.01
RATIO = {"adamw": 1.0, "nadamw": 1.0}
OTHER_RATIO = 1.1  # over AdamW's step
AT = 0.85  # of the step hint: where targets are set
FIRST_S, LATER_S = 20.0, 3.0  # of a trial beside its training: in a new process, and in one that has the program
COMPILE_S = 150.0  # of all programs of a workload: three tuned one by one, the others side by side
BAR_MIN = 40.0
"""What the defaults of all ten submissions on three workloads may take, three seeds each, starts and compilation
included."""


@dataclass(frozen=True)
class Figure:
    """A number, and whether it was measured on this kind of card."""

    value: float
    measured: bool

    def __format__(self, form: str) -> str:
        return f"{self.value:{form}}{'' if self.measured else ' est.'}"


class Known:
    """What is recorded of a card: the queue's lines and those of scripts/bench_gpu.py."""

    def __init__(self, place: str):
        self.queue = records.read(records.results(place) / "queue.jsonl")
        self._bench = records.read(records.results(place) / "bench.jsonl")

    def seconds(self, step: str, estimate: float) -> Figure:
        """Return what a step took the last time that it was done."""
        line = records.newest(self.queue, step)
        return Figure(estimate, False) if line is None else Figure(line["seconds"], True)

    def values(self, step: str) -> Mapping[str, Any]:
        """Return what a step measured."""
        line = records.newest(self.queue, step)
        return (line or {}).get("values") or {}

    def row(self, row: str, workload: str) -> Mapping[str, Any] | None:
        """Return the newest values of a row of the bench."""
        found = [x["values"] for x in self._bench if (x["row"], x["workload"]) == (row, workload)]
        return found[-1] if found else None

    def step_s(self, workload: str, submission: str = "adamw") -> Figure:
        """Return the seconds of a training step: in trials, else in the bench."""
        if step_ms := self.values(f"{submission} on {workload}").get("step_ms"):
            return Figure(step_ms / 1e3, True)
        alone, ratios = self.row("a", workload), (self.row("d", workload) or {}).get("step_over_adamw", {})
        ratio = ratios.get(submission) or (1.0 if submission == "adamw" else None)
        guess = RATIO.get(submission, OTHER_RATIO)
        if alone is None:
            return Figure((ratio or guess) * STEP_S.get(workload, UNKNOWN_STEP_S), False)
        best = min(value for name, value in alone.items() if name.startswith("step_ms"))
        return Figure((ratio or guess) * best / 1e3, ratio is not None)

    def steps(self, info: WorkloadInfo, submission: str) -> Figure:
        """Return the steps of a trial: its own, else AdamW's to the target."""
        if steps := self.values(f"{submission} on {info.name}").get("steps"):
            return Figure(statistics.mean(steps), True)
        if info.target.steps_to_target:
            return Figure(info.target.steps_to_target, submission == "adamw")
        return Figure(round(AT * info.step_hint), False)

    def board_s(self, info: WorkloadInfo, submission: str, seeds: int) -> Figure:
        """Return the seconds of a submission's seeds on a workload, in one process, compiled before."""
        values = self.values(f"{submission} on {info.name}")
        step, steps = self.step_s(info.name, submission), self.steps(info, submission)
        first, later = values.get("first_beside_s", FIRST_S), values.get("later_beside_s", LATER_S)
        seconds = first + (seeds - 1) * later + seeds * steps.value * step.value
        return Figure(seconds, bool(values) and step.measured and steps.measured)


def arithmetic(known: Known, infos: Sequence[WorkloadInfo], submissions: Sequence[str], seeds: int) -> list[str]:
    """Return the lines of the table: what `seeds` seeds of each submission take, and all of it beside the bar."""
    lines = [f"{'seeds of the defaults':40s} {'ms a step':>15s} {'steps':>12s} {f'{seeds} seeds, s':>15s}"]
    total, measured = 0.0, True
    for info in infos:
        compiling = known.seconds(f"compile {info.name}", COMPILE_S)
        lines.append(f"{'compile ' + info.name:40s} {'':15s} {'':12s} {f'{compiling:.0f}':>15s}")
        total, measured = total + compiling.value, measured and compiling.measured
        for name in submissions:
            step, steps, board = (
                known.step_s(info.name, name), known.steps(info, name), known.board_s(info, name, seeds),
            )  # fmt: skip
            cells = f"{Figure(1e3 * step.value, step.measured):.2f}", f"{steps:.0f}", f"{board:.0f}"
            lines.append(f"{f'{name} on {info.name}':40s} {cells[0]:>15s} {cells[1]:>12s} {cells[2]:>15s}")
            total, measured = total + board.value, measured and board.measured
    shown = Figure(total / 60, measured)
    lines.append(f"all of it: {shown:.1f} min of the card, beside a bar of {BAR_MIN:.0f}; one that misses runs on to")
    lines.append("its budget, about twice the steps, which the estimates leave out")
    return lines
