"""Update rules and schedules that optax lacks or gets differently from the reference; shared by submissions.

Each rule is a factory in the style of optax, in a module of its own; the schedules are in `harness.optim.schedules`.
"""

from harness.optim.apollo import apollo
from harness.optim.lamb import lamb
from harness.optim.matrices import by_kind
from harness.optim.muon import muon
from harness.optim.nadamw import nadamw
from harness.optim.normuon import normuon
from harness.optim.orthogonalize import orthogonalize
from harness.optim.schedule_free import schedule_free_adamw, schedule_free_eval_params, schedule_free_sgd

__all__ = [
    "apollo",
    "by_kind",
    "lamb",
    "muon",
    "nadamw",
    "normuon",
    "orthogonalize",
    "schedule_free_adamw",
    "schedule_free_eval_params",
    "schedule_free_sgd",
]
