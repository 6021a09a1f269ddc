"""What a sweep process (`harness.trial.sweep`) is asked, and what it answers. Needs no jax."""

from __future__ import annotations

from dataclasses import dataclass

from harness.record.spec import Value, short_hash


@dataclass(frozen=True)
class Request:
    """A run, and how far it is to go.

    Attributes:
      submission: its name.
      program: id of its program at this point, which the store holds.
      hyperparameters: all of them; those that are arguments of the program are handed to it.
      seed, study, tuning: what its random streams are drawn from, as in a trial.
      until: the step to train to.
      target: value of the workload's metric at which the run ends before that; None for none.
      from_start: measure at step 0 too, before the first step; of a run that begins with this request.
    """

    submission: str
    program: str
    hyperparameters: dict[str, Value]
    seed: int
    study: int
    tuning: bool
    until: int
    target: float | None = None
    from_start: bool = False

    @property
    def run(self) -> str:
        """What requests of the same run share."""
        return short_hash([self.program, self.hyperparameters, self.seed, self.study, self.tuning])


@dataclass(frozen=True)
class Answer:
    """How a run went so far.

    Attributes:
      status: "running" at the step or target asked for; "diverged" where loss or metric was not finite, and it ended.
      steps, values: measurements of the target's metric on the validation slice.
      seconds: of the run in this process.
      error: why it could not run; the rest is empty then.
    """

    status: str
    steps: tuple[int, ...] = ()
    values: tuple[float | None, ...] = ()
    seconds: float = 0.0
    error: str = ""
