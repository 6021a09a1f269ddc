"""What is missing from a set of trials: found, reported, and never filled with a number in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.scoring.outcomes import Outcome


@dataclass(frozen=True)
class Gap:
    """What one submission lacks on one workload.

    Attributes:
      submission, workload: where.
      studies: numbers of the studies without a finished trial.
      trials: how many trials are missing in all, those of these studies included.
      studies_expected, trials_expected: how many there should be on this workload.
    """

    submission: str
    workload: str
    studies: tuple[int, ...]
    trials: int
    studies_expected: int
    trials_expected: int

    @property
    def text(self) -> str:
        """The gap in words."""
        if len(self.studies) == self.studies_expected:
            return f"{self.submission} on {self.workload}: all {self.trials_expected} trials"
        numbers = ", ".join(map(str, self.studies))
        studies = f" (study {numbers} of {self.studies_expected})" if self.studies else ""
        return f"{self.submission} on {self.workload}: {self.trials} of {self.trials_expected} trials{studies}"


def find(
    outcomes: Iterable[Outcome],
    submissions: Collection[str],
    workloads: Collection[str],
    studies: Mapping[str, Collection[int]],
    trials: Mapping[str, int],
) -> tuple[Gap, ...]:
    """Return the gaps, sorted, where a submission should have its number of `trials` in each of its `studies` on every
    workload.
    """
    found = Counter([(one.submission, one.workload, one.study) for one in outcomes if one.finished])
    gaps = []
    for submission in sorted(submissions):
        asked, due = sorted(studies[submission]), trials[submission]
        for workload in sorted(workloads):
            count = {study: found[submission, workload, study] for study in asked}
            missing = sum(max(0, due - n) for n in count.values())
            if missing:
                absent = tuple(study for study, n in count.items() if n == 0)
                gaps.append(Gap(submission, workload, absent, missing, len(asked), due * len(asked)))
    return tuple(gaps)


def trials_in_a_study(outcomes: Sequence[Outcome]) -> int:
    """Return the most trials that any study has."""
    return max(Counter((o.submission, o.workload, o.study) for o in outcomes).values(), default=1)
