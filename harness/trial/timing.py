"""From a ledger to scored seconds and to the budget: what a trial's time is worth on each clock."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from harness.record.readings import Calibration, Reading, Scored
from harness.record.spec import TrialSpec
from harness.trial.clock import Ledger, scored
from harness.trial.host_state import HostState

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
        return scored(
            ledger.totals(),
            eval_variables,
            baseline_step_s=None if self.alone else self.host.baseline.step_s,
            reference_step_s=self.reference_step_s,
            compile_cap_s=self.spec.compile_cap_s if self.spec.score_compile else None,
        )

    def spent(self, ledger: Ledger) -> Scored:
        """What counts against the budget: all eval_variables calls."""
        return self.scored(ledger, ledger.totals()["eval_variables"])

    def past(self, limit: float | None, ledger: Ledger) -> bool:
        """Whether no later measurement can be within `limit` on the ranking clock: what is scored only grows, but for
        what the unit of calibrated seconds still moves.
        """
        now = getattr(self.scored(ledger, ledger.zero), self.spec.clock)
        slack = (self.host.baseline.error or 0.0) if self.spec.clock == "calibrated" else 0.0
        return limit is not None and now is not None and now > limit * (1 + slack)

    @property
    def baseline_step_s(self) -> float:
        """Mean wall seconds of the yardstick's step so far."""
        found = self.host.baseline.step_s
        assert found is not None, "the yardstick runs before the first step"
        return found

    @property
    def reference_step_s(self) -> float:
        """The unit of calibrated seconds; this machine's own where no target has been recorded yet."""
        return self.spec.reference_step_s or self.baseline_step_s

    @property
    def budget(self) -> float:
        """The budget in seconds of `budget_clock`."""
        baseline = self.host.baseline
        unit = {
            "calibrated": self.reference_step_s,
            "cpu": baseline.cpu_s / max(1, baseline.runs),
            "wall": self.baseline_step_s,
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

    def calibration(self, ledger: Ledger) -> Calibration:
        """Return what program and yardstick took, for the record."""
        host, baseline = self.host, self.host.baseline
        calls, unit = host.eval_variables_calls, self.baseline_step_s
        return Calibration(
            baseline_step_s=unit,
            baseline_step_cpu_s=baseline.cpu_s / baseline.runs,
            step_ratio={size: host.train_s_by_size[size] / n / unit for size, n in host.steps_by_size.items()},
            eval_variables_ratio=ledger.totals()["eval_variables"].wall_s / calls / unit if calls else 0.0,
            pairs=baseline.runs,
            baseline_source="alone" if self.alone else "trial",
            step_ratio_error=baseline.error,
            process=PROCESS,
            steps=dict(host.steps_by_size),
        )
