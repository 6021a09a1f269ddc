"""From a ledger to scored seconds and to the budget: what a trial's time is worth on each clock."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from harness.record.readings import CLOCK_VERSION, Calibration, Reading, Scored
from harness.record.spec import TrialSpec
from harness.trial.clock import Ledger, scored
from harness.trial.host_state import EVAL_VARIABLES, HostState, training

PROCESS = uuid.uuid4().hex[:10]
"""Of this process: a compiled program is some percent faster in one process than in another."""


@dataclass(frozen=True)
class Timing:
    """What turns a ledger into scored seconds for this trial; `alone`: the yardstick did not run beside it."""

    spec: TrialSpec
    host: HostState
    alone: bool = False

    def scored(self, ledger: Ledger, eval_variables: Reading) -> Scored:
        """Scored time so far, with this much of eval_variables charged."""
        baseline = self.host.baseline
        worth = sum(baseline.worth(training(size)) for size in self.host.steps_by_size)
        if eval_variables.wall_s:  # a call is worth its share of all calls
            worth += baseline.worth(EVAL_VARIABLES) * eval_variables.wall_s / ledger.totals()["eval_variables"].wall_s
        return self._scored(ledger, eval_variables, worth)

    def spent(self, ledger: Ledger) -> Scored:
        """What counts against the budget: all eval_variables calls."""
        baseline = self.host.baseline
        worth = sum(baseline.worth(what) for what in (*map(training, self.host.steps_by_size), EVAL_VARIABLES))
        return self._scored(ledger, ledger.totals()["eval_variables"], worth)

    def _scored(self, ledger: Ledger, eval_variables: Reading, yardstick_steps: float) -> Scored:
        return scored(
            ledger.totals(),
            eval_variables,
            yardstick_steps=None if self.alone else yardstick_steps,
            baseline_step_s=self.host.baseline.step_s,
            reference_step_s=self.reference_step_s,
            compile_cap_s=self.spec.compile_cap_s if self.spec.score_compile else None,
        )

    def past(self, limit: float | None, ledger: Ledger) -> bool:
        """Whether no later measurement can be within `limit` on the ranking clock: what is scored only grows, but for
        what the worth of the last seconds still moves.
        """
        now = getattr(self.scored(ledger, ledger.zero), self.spec.clock)
        slack = (self.host.baseline.error or 0.0) if self.spec.clock == "calibrated" else 0.0
        return limit is not None and now is not None and now > limit * (1 + slack)

    @property
    def reference_step_s(self) -> float:
        """The unit of calibrated seconds; this machine's own where no target has been recorded yet."""
        return self.spec.reference_step_s or self.host.baseline.step_s

    @property
    def budget(self) -> float:
        """The budget in seconds of `budget_clock`."""
        baseline = self.host.baseline
        unit = {
            "calibrated": self.reference_step_s,
            "cpu": baseline.step_cpu_s,
            "wall": baseline.step_s,
        }
        return self.spec.budget_steps * unit[self.budget_clock]

    @property
    def budget_clock(self) -> str:
        """The clock that the budget is held in: wall where energy ranks, or where there are no calibrated seconds."""
        return (
            "wall"
            if self.spec.clock == "energy" or (self.alone and self.spec.clock == "calibrated")
            else self.spec.clock
        )

    def calibration(self) -> Calibration:
        """Return what program and yardstick took, for the record."""
        host, baseline = self.host, self.host.baseline
        return Calibration(
            baseline_step_s=baseline.step_s,
            baseline_step_cpu_s=baseline.step_cpu_s,
            step_ratio={size: baseline.ratio(training(size)) for size in host.steps_by_size},
            eval_variables_ratio=baseline.ratio(EVAL_VARIABLES),
            pairs=baseline.runs,
            baseline_source="alone" if self.alone else "trial",
            step_ratio_error=baseline.error,
            process=PROCESS,
            steps=dict(host.steps_by_size),
            clock_version=CLOCK_VERSION,
        )
