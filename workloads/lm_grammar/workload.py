"""A small character-level GPT on text from a grammar of known entropy. No jax here: `load` imports the model."""

from __future__ import annotations

from harness.api import LossKind
from harness.workload import Workload, WorkloadInfo, read_target

INFO = WorkloadInfo(
    name="lm_grammar",
    description="GPT with 0.1M parameters on characters of a stochastic grammar whose entropy rate is known",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=32,
    step_hint=600,
    num_train_examples=38_400,  # windows of 64 predictions: a run of twice the step hint sees none of them again
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets=(),
    dispatch_steps={"cpu": 1, "gpu": 3},
    floor=0.47576400268686714,  # nats per character; grammar.entropy_rate() computes it
)


def load() -> Workload:
    """Return the workload with its model."""
    from .model import make

    return make(INFO)
