"""The specifications of the families' models, and how the held-out variants follow from them by rule. No jax here.

A held-out variant is a workload that no submission was tuned on: the same task with one thing changed. It shows
whether hyperparameters were fitted to the workload or to the method.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeVar

Activation = Literal["relu", "relu2", "gelu", "silu"]
Norm = Literal["rms", "layer", "batch", "group"]
Dtype = Literal["float32", "bfloat16"]
"""What products and convolutions are computed in. Parameters, normalisations, losses and sums over examples and
positions are float32 in both."""

INIT_FACTOR = 2.0  # of the variant "init"
MUP_RATIO = 2.0  # of the variant "mup": the base is half as wide
VIRTUAL_BATCH = 32  # images, of the variant "ghost"
_OTHER_NORM: dict[Norm, Norm] = {"rms": "layer", "layer": "rms", "batch": "group", "group": "batch"}
_OTHER_ACTIVATION: dict[Activation, Activation] = {"relu": "silu", "relu2": "gelu", "gelu": "relu2", "silu": "relu"}


@dataclass(frozen=True)
class GPT:
    """A decoder-only transformer on windows of `length` tokens.

    Attributes:
      vocabulary: number of tokens.
      length: positions of a window.
      layers, width, heads: of the transformer; the width of a head stays `width / heads` in every variant.
      init_scale: factor on the standard deviation of every initial weight.
      rotary: rotary positions on normalised queries and keys, in place of learned positions.
      chunked: for a large vocabulary. The output layer has no bias, and the loss computes it for some tokens at a time.
      mup: how many times as wide as its base the model is, in the maximal update parametrisation (`layers`); at 1 that
        is the standard one.
    """

    vocabulary: int
    length: int
    layers: int
    width: int
    heads: int
    norm: Norm = "rms"
    activation: Activation = "relu2"
    init_scale: float = 1.0
    dtype: Dtype = "float32"
    rotary: bool = False
    chunked: bool = False
    mup: float = 1.0

    def widened(self) -> GPT:
        """Half as many heads again, of the same width."""
        heads = _half_more(self.heads)
        return replace(self, heads=heads, width=self.width // self.heads * heads)


@dataclass(frozen=True)
class ResNet:
    """A residual network with one stage for each entry of `widths`, the second and later ones with stride 2.

    Attributes:
      channels: of the images.
      classes: number of labels.
      widths: channels of the stages.
      blocks: residual blocks of a stage.
      groups: of GroupNorm, where that is the norm.
      virtual_batch: images whose statistics BatchNorm takes together, where that is the norm (`layers.GhostBatchNorm`);
        None: all of a batch.
    """

    channels: int
    classes: int
    widths: tuple[int, ...] = (16, 32, 64)
    blocks: int = 1
    norm: Norm = "batch"
    groups: int = 8
    virtual_batch: int | None = None
    activation: Activation = "relu"
    init_scale: float = 1.0
    dtype: Dtype = "float32"

    def widened(self) -> ResNet:
        """Half as many channels again."""
        return replace(self, widths=tuple(map(_half_more, self.widths)))


@dataclass(frozen=True)
class MAE:
    """A masked autoencoder on square images: the encoder sees `visible` patches, the decoder predicts the others.

    Attributes:
      size, channels: height and width of the images in pixels, and their channels.
      patch: height and width of a patch in pixels.
      visible: patches that are not masked.
      layers, width, heads: of the encoder.
      decoder_layers, decoder_width, decoder_heads: of the decoder.
      mup: as in `GPT`, in encoder and decoder alike.
    """

    size: int
    channels: int
    patch: int
    visible: int
    layers: int
    width: int
    heads: int
    decoder_layers: int
    decoder_width: int
    decoder_heads: int
    norm: Norm = "rms"
    activation: Activation = "relu2"
    init_scale: float = 1.0
    dtype: Dtype = "float32"
    mup: float = 1.0

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return (self.size // self.patch) ** 2

    def widened(self) -> MAE:
        """Half as many heads again in encoder and decoder, of the same width."""
        heads, decoder_heads = _half_more(self.heads), _half_more(self.decoder_heads)
        return replace(
            self,
            heads=heads,
            width=self.width // self.heads * heads,
            decoder_heads=decoder_heads,
            decoder_width=self.decoder_width // self.decoder_heads * decoder_heads,
        )


Spec = TypeVar("Spec", GPT, ResNet, MAE)


def varied(spec: Spec, variant: str | None) -> Spec:
    """Return the model of a held-out variant (`harness.scoring.variants`); "batch" and "repeated" change no model."""
    if variant == "wide":
        return spec.widened()
    if variant == "norm":
        return replace(spec, norm=_OTHER_NORM[spec.norm])
    if variant == "activation":
        return replace(spec, activation=_OTHER_ACTIVATION[spec.activation])
    if variant == "init":
        return replace(spec, init_scale=INIT_FACTOR * spec.init_scale)
    if variant == "mup":  # of a GPT or a masked autoencoder
        return replace(spec, mup=MUP_RATIO * spec.mup)
    if variant == "ghost":  # of a ResNet with BatchNorm
        return replace(spec, virtual_batch=VIRTUAL_BATCH)
    return spec


def _half_more(n: int) -> int:
    return n + n // 2
