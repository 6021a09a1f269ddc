"""A ResNet-50 on ImageNet, for one large GPU. No jax here: `load` imports the model."""

from __future__ import annotations

from dataclasses import replace

from harness.api import LossKind
from harness.program.streaming import StreamedData
from harness.program.workload import (
    GPU_MEASUREMENTS,
    SMALL,
    VARIANTS,
    Data,
    Small,
    Target,
    Workload,
    WorkloadInfo,
    held_out,
)

from ..families import imagenet
from ..families.spec import varied
from .spec import Bottlenecks

MODEL = Bottlenecks(channels=3, classes=imagenet.FULL.classes, dtype="bfloat16")
SMALL_MODEL = replace(MODEL, classes=imagenet.SMALL.classes, widths=(8, 16), blocks=(1, 1), groups=4)
AREA = (0.08, 1.0)  # of a training crop, as a share of the photograph's
WINDOW_STEPS = 20  # 3.3 GB of images a window

INFO = WorkloadInfo(
    name="resnet50_imagenet",
    description="ResNet-50 on ImageNet at 224 pixels, in bf16; JPEG files decoded while it trains",
    metric="accuracy",
    mode="max",
    # Public and provisional: of other people's runs of another recipe. No run here stands behind it.
    target=Target(value=0.77431, version=0, steps_to_target=373_200, reference_step_s=0.0),
    batch_size=512,
    step_hint=373_200,  # 149 epochs: AlgoPerf's 186,666 steps of 1,024 images
    num_train_examples=imagenet.FULL.train,
    loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
    datasets={"imagenet": ""},  # no hash is pinned: harness.data.image_folder
    dispatch_steps={"cpu": 1, "gpu": 1},  # a call may go over the end of its window, and what does is decoded twice
    measurements=GPU_MEASUREMENTS,
    variants=(*VARIANTS, "ghost", SMALL),
    small=Small(batch_size=8, step_hint=200),
)


def data(variant: str | None = None) -> Data:
    """Return the data, streamed; those of the small form are held whole."""
    from ..families import crops

    form = imagenet.SMALL if variant == SMALL else imagenet.FULL
    info, shapes = held_out(INFO, variant), imagenet.shapes(form, labels=True)
    batch = crops.cropped(AREA, form.seen, imagenet.scaled, labels=True)
    if variant == SMALL:
        return Data(
            replace(info, num_train_examples=form.train), shapes, lambda: imagenet.whole(form, labels=True), batch
        )
    return StreamedData(info, shapes, lambda: imagenet.splits(form, labels=True), batch, WINDOW_STEPS)


def load(variant: str | None = None) -> Workload:
    """Return the workload, a held-out variant, or the small form, with its model."""
    from .model import make

    small = variant == SMALL
    size = (imagenet.SMALL if small else imagenet.FULL).seen
    return make(data(variant), SMALL_MODEL if small else varied(MODEL, variant), size, imagenet.scaled)
