"""From a ledger to scored seconds and to the budget: what a trial's time is worth on each clock."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record.readings import Calibration, Reading, Scored
from harness.record.spec import TrialSpec
from harness.trial.clock import Ledger, scored
from harness.trial.host_state import HostState


@dataclass(frozen=True)
class Timing:
    """What turns a ledger into scored seconds for this trial."""

    spec: TrialSpec
    calibration: Calibration

    def scored(self, ledger: Ledger, host: HostState, eval_variables: Reading, calls: int) -> Scored:
        """Scored time so far, with these eval_variables calls charged."""
        return scored(
            ledger.totals(),
            eval_variables,
            steps=host.steps_by_size,
            eval_variables_calls=calls,
            calibration=self.calibration,
            reference_step_s=self.reference_step_s,
            compile_cap_s=self.spec.compile_cap_s if self.spec.score_compile else None,
        )

    def spent(self, ledger: Ledger, host: HostState) -> Scored:
        """What counts against the budget: all eval_variables calls."""
        return self.scored(ledger, host, ledger.totals()["eval_variables"], host.eval_variables_calls)

    def past(self, limit: float | None, ledger: Ledger, host: HostState) -> bool:
        """Whether no later measurement can be within `limit` on the ranking clock: what is scored only grows."""
        now = getattr(self.scored(ledger, host, ledger.zero, 0), self.spec.clock)
        return limit is not None and now is not None and now > limit

    @property
    def reference_step_s(self) -> float:
        """The unit of the steps clock; this machine's own where no target has been recorded yet."""
        return self.spec.reference_step_s or self.calibration.baseline_step_s

    @property
    def budget(self) -> float:
        """The budget in the ranking clock, in seconds (wall seconds where energy ranks)."""
        unit = {"steps": self.reference_step_s, "cpu": self.calibration.baseline_step_cpu_s}
        return self.spec.budget_steps * unit.get(self.spec.clock, self.calibration.baseline_step_s)

    @property
    def budget_clock(self) -> str:
        """The clock the budget is held in."""
        return "wall" if self.spec.clock == "energy" else self.spec.clock
