"""The specification of a ResNet with bottlenecks, and what it costs. No jax here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..families.flops import FIRST, TRAIN
from ..families.spec import Activation, Dtype, Norm

EXPANSION = 4  # of the channels, by the last convolution of a bottleneck


@dataclass(frozen=True)
class Bottlenecks:
    """A ResNet of bottlenecks (He et al. 2015, arXiv:1512.03385, table 1), for images of some hundred pixels.

    Attributes:
      channels: of the images.
      classes: number of labels.
      widths: channels within the bottlenecks of each stage; between them there are four times as many.
      blocks: bottlenecks of each stage.
      groups: of GroupNorm, where that is the norm.
      norm, virtual_batch, activation, init_scale, dtype: as in `families.spec`.
    """

    channels: int
    classes: int
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    norm: Norm = "batch"
    groups: int = 32
    virtual_batch: int | None = None
    activation: Activation = "relu"
    init_scale: float = 1.0
    dtype: Dtype = "float32"

    def widened(self) -> Bottlenecks:
        """Half as many channels again."""
        return replace(self, widths=tuple(width + width // 2 for width in self.widths))


def flops(spec: Bottlenecks, size: int) -> float:
    """Return the FLOPs of one image of `size` x `size` pixels in training, counted as in `families.flops`; products
    with the zeros around an image are among them.
    """
    stem, pooled = -(-size // 2), -(-size // 4)
    total = FIRST * _conv(stem, 7, spec.channels, spec.widths[0])
    c_in, size = spec.widths[0], pooled
    for stage, (width, blocks) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
        for block in range(blocks):
            before, size, c_out = size, -(-size // 2) if stage and not block else size, EXPANSION * width
            total += TRAIN * (
                _conv(before, 1, c_in, width) + _conv(size, 3, width, width) + _conv(size, 1, width, c_out)
            )
            if c_in != c_out or before != size:
                total += TRAIN * _conv(size, 1, c_in, c_out)
            c_in = c_out
    return total + TRAIN * 2 * c_in * spec.classes


def _conv(outputs: int, kernel: int, c_in: int, c_out: int) -> float:
    """Forward, to `outputs` x `outputs` pixels."""
    return 2 * (outputs * kernel) ** 2 * c_in * c_out
