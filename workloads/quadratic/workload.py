"""A toy for tests: linear regression with ill-conditioned inputs. No jax here: `load` imports the model."""

from __future__ import annotations

from harness.api import LossKind
from harness.program.workload import Data, Target, Workload, WorkloadInfo, split_shapes

NOISE_VARIANCE = 0.01
"""Of the outputs around the true linear map, and so the expected loss at the optimum."""

INFO = WorkloadInfo(
    name="quadratic",
    description="linear regression with condition number 300, for tests: a step takes microseconds",
    metric="loss",
    mode="min",
    # A toy needs no runs to set a target: the loss is 1.01 at zero weights and 0.01 at the optimum, and 3 times the
    # latter is passed half way through the step hint by AdamW at learning rate 0.05 with 5% warm-up and cosine decay.
    target=Target(value=3 * NOISE_VARIANCE, version=0, steps_to_target=100, reference_step_s=1e-4),
    batch_size=32,
    step_hint=200,
    num_train_examples=2048,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    dispatch_steps={},
    scored=False,
)


def data() -> Data:
    """Return the data."""
    from .model import INPUTS, OUTPUTS, SLICE, TEST, VALIDATION, batch, splits

    examples = {"x": ((INPUTS,), "float32"), "y": ((OUTPUTS,), "float32")}
    shapes = split_shapes((INFO.num_train_examples, SLICE, VALIDATION, TEST), examples)
    return Data(INFO, shapes, lambda: splits(INFO.num_train_examples, NOISE_VARIANCE), batch)


def load() -> Workload:
    """Return the workload."""
    from .model import make

    return make(data())
