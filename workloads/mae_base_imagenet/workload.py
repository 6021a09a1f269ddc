"""A masked autoencoder of the size of ViT-B on ImageNet, for one large GPU. No jax here: `load` imports the model."""

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
    Workload,
    WorkloadInfo,
    held_out,
    read_target,
)

from ..families import imagenet
from ..families.spec import MAE, varied

MODEL = MAE(
    size=imagenet.FULL.seen, channels=3, patch=16, visible=49, layers=12, width=768, heads=12,
    decoder_layers=8, decoder_width=512, decoder_heads=16, norm="layer", activation="gelu", dtype="bfloat16",
)  # fmt: skip
SMALL_MODEL = replace(
    MODEL, size=imagenet.SMALL.seen, patch=8, visible=4, layers=2, width=32, heads=2,
    decoder_layers=1, decoder_width=32, decoder_heads=2,
)  # fmt: skip
AREA = (0.2, 1.0)  # of a training crop, as a share of the photograph's
MASK_SEED = 22  # of the masks of validation and test images, which are drawn once and for all
WINDOW_STEPS = 20  # 3.3 GB of images a window

INFO = WorkloadInfo(
    name="mae_base_imagenet",
    description="masked autoencoder of the size of ViT-B on ImageNet, in bf16; JPEG files decoded while it trains",
    metric="loss",
    mode="min",
    target=read_target(__file__),
    batch_size=512,
    step_hint=250_200,  # 100 epochs
    num_train_examples=imagenet.FULL.train,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    datasets={"imagenet": ""},  # no hash is pinned: harness.data.image_folder
    dispatch_steps={"cpu": 1, "gpu": 1},  # a call may go over the end of its window, and what does is decoded twice
    measurements=GPU_MEASUREMENTS,
    variants=(*VARIANTS, "mup", SMALL),
    small=Small(batch_size=8, step_hint=200),
)


def data(variant: str | None = None) -> Data:
    """Return the data, streamed; those of the small form are held whole."""
    from ..families import crops

    small = variant == SMALL
    form, model = (imagenet.SMALL, SMALL_MODEL) if small else (imagenet.FULL, MODEL)
    info, shapes = held_out(INFO, variant), imagenet.shapes(form, labels=False, orders=model.patches)
    batch, mask = crops.cropped(AREA, form.seen, imagenet.scaled, labels=False), (model.patches, MASK_SEED)
    if small:
        info = replace(info, num_train_examples=form.train)
        return Data(info, shapes, lambda: imagenet.whole(form, labels=False, mask=mask), batch)
    return StreamedData(info, shapes, lambda: imagenet.splits(form, labels=False, mask=mask), batch, WINDOW_STEPS)


def load(variant: str | None = None) -> Workload:
    """Return the workload, a held-out variant, or the small form, with its model."""
    from ..families import mae

    return mae.make(data(variant), SMALL_MODEL if variant == SMALL else varied(MODEL, variant), imagenet.scaled)
