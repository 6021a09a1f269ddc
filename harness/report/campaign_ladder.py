"""How far a campaign is: trials done, running and left, and how long that takes at most."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.campaign.plan import PlannedTrial
from harness.report.progress import duration


@dataclass
class Ladder:
    """The trials of a campaign, some of which run at the same time on several GPUs.

    Attributes:
      trials: all that are to run.
      asked: those and what has run before.
      running, done: those to run that have begun, and that have ended.
    """

    trials: Sequence[PlannedTrial] = ()
    asked: Sequence[PlannedTrial] = ()
    running: list[PlannedTrial] = field(default_factory=list)
    done: list[PlannedTrial] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def expect(self, trials: Sequence[PlannedTrial], asked: Sequence[PlannedTrial]) -> None:
        """Enter what is to run, of all that was asked for."""
        self.trials, self.asked = tuple(trials), tuple(asked)

    def begin(self, trial: PlannedTrial) -> None:
        """Enter that a trial runs."""
        with self._lock:
            self.running.append(trial)

    def end(self, trial: PlannedTrial, *, finished: bool = True) -> list[PlannedTrial]:
        """Enter that it has ended, or was interrupted and is to come again. Return the first study of its workload, all
        submissions, where it was the last of that, and more trials are to come.
        """
        with self._lock:
            self.running.remove(trial)
            self.done += [trial] if finished else []
            over = {id(one) for one in self.done}
            left = [one.spec for one in self.trials if id(one) not in over]
        spec, first = trial.spec, min((one.spec.study for one in self.asked), default=None)
        its = [one for one in self.asked if (one.spec.task, one.spec.study) == (spec.task, first)]
        whole = finished and spec.study == first and (spec.task, first) not in {(one.task, one.study) for one in left}
        return its if whole and left else []

    @property
    def text(self) -> str:
        """The ladder in words, as "2 of 6 trials done, 1 running, 3 to come, about 1m20s"."""
        with self._lock:
            over = {id(trial) for trial in (*self.done, *self.running)}
            to_come = [trial for trial in self.trials if id(trial) not in over]
            parts = [f"{len(self.done)} of {len(self.trials)} trials done"]
            parts += [f"{len(self.running)} running"] if self.running else []
            if to_come:
                known = [trial.expected_s for trial in to_come if trial.expected_s is not None]
                about = f", about {duration(sum(known) / max(1, len(self.running)))}" if known else ""
                parts.append(f"{len(to_come)} to come{about}")
        return ", ".join(parts)
