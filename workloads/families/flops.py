"""Model FLOPs from first principles: a multiplication and an addition each count one. No jax here.

Counted are matrix products and convolutions, forward and backward (twice the forward, but no gradient for the inputs of
the first layer), once each: what is computed again, and everything elementwise, is the program's affair and not the
model's. So they go with the share of a card's matrix-product ceiling (Chowdhery et al. 2022, arXiv:2204.02311, B).
"""

from __future__ import annotations

from . import spec as specs

TRAIN = 3  # forward, gradient of the weights, gradient of the inputs
FIRST = 2  # the same for a layer whose inputs need no gradient


def gpt(spec: specs.GPT, *, causal: bool = True) -> float:
    """Return the FLOPs of one window of `length` tokens in training.

    `causal`: attention is counted for the half of the pairs that the mask leaves; without it for all, as a program that
    masks the others computes it.
    """
    T, D, V = spec.length, spec.width, spec.vocabulary
    pairs = T * (T + 1) / 2 if causal else T * T
    return TRAIN * (spec.layers * _block(T, D, pairs) + 2 * T * D * V)


def mae(spec: specs.MAE) -> float:
    """Return the FLOPs of one image in training."""
    V, P, X = spec.visible, spec.patches, spec.patch**2 * spec.channels
    D, E = spec.width, spec.decoder_width
    encoder = spec.layers * _block(V, D, V * V)
    decoder = spec.decoder_layers * _block(P, E, P * P)
    return FIRST * 2 * V * X * D + TRAIN * (encoder + 2 * V * D * E + decoder + 2 * (P - V) * E * X)


def resnet(spec: specs.ResNet, size: int, *, padding: bool = True) -> float:
    """Return the FLOPs of one image of `size` x `size` pixels in training.

    `padding`: products with the zeros around an image count, as is usual; without it they do not.
    """
    total = FIRST * _conv(size, 3, 1, spec.channels, spec.widths[0], padding)
    c_in = spec.widths[0]
    for stage, c_out in enumerate(spec.widths):
        for block in range(spec.blocks):
            stride = 2 if stage and not block else 1
            total += TRAIN * _conv(size, 3, stride, c_in, c_out, padding)
            if c_in != c_out or stride != 1:
                total += TRAIN * _conv(size, 1, stride, c_in, c_out, padding)
            size = -(-size // stride)
            total += TRAIN * _conv(size, 3, 1, c_out, c_out, padding)
            c_in = c_out
    return total + TRAIN * 2 * c_in * spec.classes


def _block(tokens: int, width: int, pairs: float) -> float:
    """Forward: projections to q, k, v and out, an MLP of four times the width; logits and weighted sums of `pairs`."""
    return 2 * tokens * 12 * width**2 + 2 * 2 * pairs * width


def _conv(size: int, kernel: int, stride: int, c_in: int, c_out: int, padding: bool) -> float:
    """Forward, with the padding "SAME" of an image of `size` x `size`."""
    outputs = -(-size // stride)
    low = max((outputs - 1) * stride + kernel - size, 0) // 2
    taps = sum(
        padding or 0 <= out * stride - low + tap < size for out in range(outputs) for tap in range(kernel)
    )  # along one axis
    return 2 * taps**2 * c_in * c_out
