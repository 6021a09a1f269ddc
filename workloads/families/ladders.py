"""What the rungs of a ladder have of the workload that they are of (`harness ladder`). No jax here.

A rung is exported where no file of another workload's folder can be read, and a workload's module reads its target. So
the constants stand here once more, for all rungs of a ladder; a test holds them to the workload's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.api import LossKind
from harness.program.workload import GPU_MEASUREMENTS, UNSET, Shape, Shapes, WorkloadInfo, split_shapes

from .spec import GPT, varied


@dataclass(frozen=True)
class Rung:
    """A width of a workload's model: what is known of it without the data.

    Attributes:
      base: the workload's own model.
    """

    info: WorkloadInfo
    model: GPT
    base: GPT
    shapes: Shapes

    def varied(self, variant: str | None) -> GPT:
        """Return the model of a variant: in `mup` all rungs are as wide or narrow over one base, the workload's."""
        model = varied(self.model, variant)
        return replace(model, mup=model.mup * self.model.width / self.base.width) if variant == "mup" else model


def lm_grammar(width: int) -> Rung:
    """Return a rung of the ladder of lm_grammar."""
    info = WorkloadInfo(
        name="lm_grammar",
        description="",
        metric="loss",
        mode="min",
        target=UNSET,
        batch_size=32,
        step_hint=600,
        num_train_examples=38_400,
        loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
        datasets={"grammar": "977092a683260ac08992d06f038490266f71d6f42969b5f339232e2916c0cd4b"},
        dispatch_steps={"cpu": 1, "gpu": 3},
        floor=0.47576400268686714,
    )
    model = GPT(vocabulary=29, length=64, layers=2, width=64, heads=2)
    tokens = {"tokens": ((model.length + 1,), "uint8")}
    return _rung(info, model, width, (342, 1024, 1024), tokens, tokens)


def lm_books(width: int) -> Rung:
    """Return a rung of the ladder of lm_books."""
    info = WorkloadInfo(
        name="lm_books",
        description="",
        metric="loss",
        mode="min",
        target=UNSET,
        batch_size=128,
        step_hint=800,
        num_train_examples=59_887,
        loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
        datasets={"classic_books": "f2ee273b00c5f7ab95ca943f6ee82e98ddb9fce0bc79e05685d02de5be14eb37"},
        dispatch_steps={"cpu": 1, "gpu": 4},
        measurements=GPU_MEASUREMENTS,
    )
    model = GPT(vocabulary=8192, length=512, layers=8, width=512, heads=4, dtype="bfloat16", rotary=True, chunked=True)
    tokens = {"tokens": ((model.length + 1,), "uint16")}
    return _rung(info, model, width, (506, 2_023, 2_012), tokens, tokens | {"bytes": ((), "int32")})


def _rung(
    base: WorkloadInfo,
    model: GPT,
    width: int,
    counts: tuple[int, int, int],
    train: Mapping[str, Shape],
    evaluation: Mapping[str, Shape],
) -> Rung:
    """Return the rung of this width, with heads as large as the workload's."""
    info = replace(
        base,
        name=f"{base.name}_w{width}",
        description=f"a rung of the ladder of {base.name}: the same at width {width}",
        scored=False,
        variants=("mup",),
    )
    heads = width // (model.width // model.heads)
    shapes = split_shapes((base.num_train_examples, *counts), train, evaluation)
    return Rung(info, replace(model, width=width, heads=heads), model, shapes)
