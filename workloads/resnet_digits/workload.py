"""A small ResNet with BatchNorm on scikit-learn's handwritten digits. No jax here: `load` imports the model."""

from __future__ import annotations

from harness.api import LossKind
from harness.workload import Workload, WorkloadInfo, read_target

INFO = WorkloadInfo(
    name="resnet_digits",
    description="ResNet-8 with BatchNorm on 1,797 real 8x8 images of handwritten digits",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=64,
    step_hint=800,
    num_train_examples=1200,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets=("digits",),
    dispatch_steps={"cpu": 1, "gpu": 4},  # a scanned convolution is slow on a CPU
)


def load() -> Workload:
    """Return the workload with its model."""
    from .model import make

    return make(INFO)
