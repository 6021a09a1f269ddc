"""Batch sizes that change during training, by `Algorithm.control`: a ramp, and the norm test of AdAdaGrad.

The learning rate follows the examples seen and not the steps, of which there are more the smaller the batches are: a
schedule is called with examples // batch_size, the step that training with the task's own batches would be at. It is
not scaled by the batch size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import optax

from harness.api import (
    Algorithm,
    Batch,
    Control,
    Key,
    Loss,
    Metrics,
    ModelState,
    OptState,
    Params,
    Progress,
    TrainState,
)
from harness.errors import SubmissionError
from harness.optim.checks import expect, expect_rate
from harness.optim.norms import precise
from harness.optim.rates import rate_at

_Gradient: TypeAlias = Callable[[Loss, TrainState, Batch, Key], tuple[Params, ModelState, Metrics]]


def batch_ramp(
    inner: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    batch_size: int,
    sizes: Sequence[int],
    starts: Sequence[float],
) -> Algorithm:
    """Return `inner` with batches of sizes[i] from starts[i] examples on.

    The harness asks before the first step and after every 4% of the step hint, so that a size may come that much late.

    Args:
      inner: an optimizer whose own learning rate is 1: its updates are multiplied by the rate.
      learning_rate: a number, or a schedule called with examples // batch_size.
      batch_size: `TaskView.batch_size`.
      sizes: of batches, from the smallest to the largest.
      starts: examples trained on from which each size holds, ascending from 0.

    Raises SubmissionError for sizes and starts out of range.

    Source: Smith et al. (2018), arXiv:1711.00489, for steps in the batch size; Brown et al. (2020),
    arXiv:2005.14165, for a ramp beside a schedule of the rate.
    """
    expect_rate("batch_ramp", learning_rate)
    _expect_sizes("batch_ramp", batch_size, sizes)
    if len(starts) != len(sizes) or starts[0] != 0 or sorted(starts) != list(starts):
        raise SubmissionError(
            f"batch_ramp: starts: expected examples, ascending from 0, one for each of {len(sizes)} sizes; "
            f"got {tuple(starts)}"
        )

    def control(progress: Progress) -> Control:
        begun = sum(start <= progress.examples for start in starts)
        return Control(batch_size=sizes[begun - 1])

    def gradient(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[Params, ModelState, Metrics]:
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        return grads, model_state, {"loss": value}

    return _algorithm(inner, learning_rate, batch_size, gradient, tuple(sizes), control)


def norm_test(
    inner: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    batch_size: int,
    sizes: Sequence[int],
    eta: float = 0.7,
    groups: int = 2,
) -> Algorithm:
    """Return `inner` with batches that grow whenever the gradient is noisier than eta times its norm.

    Let g_1 ... g_M be the gradients of the M = `groups` equal parts of a batch of b examples, and g their mean, which
    `inner` is handed: the gradient of the batch, at the price of one.

        V = b / (M (M - 1)) sum over m of ||g_m - g||^2       estimates the variance of the gradient of one example
        the test:   V / b <= eta^2 ||g||^2                    where it fails, the batch is to be T = V / (eta^2 ||g||^2)

    V and ||g||^2 are metrics of each step. The harness asks after every 4% of the step hint, and the test is of their
    means since it asked last, over one batch size. Where it fails, the next size is the smallest of `sizes` that is at
    least T, or the largest of all. Batches never shrink.

    What differs from the paper: it tests in each step, by the gradients of single examples (M = b here; its code, of
    those of a part of the batch), and takes any size. M above 1 and below b is what it comes to where gradients are
    accumulated or spread over devices; fewer groups estimate V with the same mean and more variance. With batch
    normalisation each group is normalised by itself, as in Ghost BatchNorm with groups of b / M, and the running
    statistics are the mean of those of the groups. With dropout each group draws its own mask. The inner-product test
    is left out.

    Args:
      inner: an optimizer whose own learning rate is 1: its updates are multiplied by the rate. The paper's is AdaGrad.
      learning_rate: a number, or a schedule called with examples // batch_size.
      batch_size: `TaskView.batch_size`.
      sizes: of batches, from the first to the largest; each a multiple of `groups`.
      eta: above 0. ||g||^2 holds V / b itself, so that at 1 or above the test fails by chance alone.
      groups: at least 2.

    Raises SubmissionError for hyperparameters out of range.

    Source: Lau, Liu and Kolar (2024), arXiv:2402.11215; the test is that of Byrd et al. (2012), "Sample size selection
    in optimization methods for machine learning"; Lau et al. (2024), arXiv:2412.21124, for groups.
    """
    expect_rate("norm_test", learning_rate)
    expect("norm_test: eta", eta, 0, above=True)
    expect("norm_test: groups", groups, 2, whole=True)
    _expect_sizes("norm_test", batch_size, sizes, groups)

    def control(progress: Progress) -> Control | None:
        if not progress.metrics:
            return Control(batch_size=sizes[0])
        wanted = size_wanted(progress.metrics["gradient_variance"], progress.metrics["gradient_norm_squared"], eta)
        if not wanted > progress.metrics["batch_size"]:
            return None
        return Control(batch_size=next((size for size in sizes if size >= wanted), sizes[-1]))

    def gradient(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[Params, ModelState, Metrics]:
        b = batch["index"].shape[0]
        of_group = jax.jit(loss.value_and_grad)  # traced once: the model's constants stand once in the program
        found = []
        for m in range(groups):  # unrolled: XLA scans convolutions slowly on a CPU
            part = {name: x[m * b // groups : (m + 1) * b // groups] for name, x in batch.items()}
            each = jax.random.fold_in(key, m)
            found.append(of_group(state.params, state.model_state, part, each))
        mean = lambda *leaves: sum(leaves) / len(leaves)  # noqa: E731
        grads = jax.tree.map(mean, *(g for _, g in found))
        value, model_state = jax.tree.map(mean, *(aside for aside, _ in found))
        spread = sum((_squared(optax.tree.sub(g, grads)) for _, g in found), jnp.zeros(()))
        metrics = {
            "loss": value,
            "gradient_variance": spread * b / (groups * (groups - 1)),
            "gradient_norm_squared": _squared(grads),
            "batch_size": jnp.float32(b),
        }
        return grads, model_state, metrics

    return _algorithm(inner, learning_rate, batch_size, gradient, tuple(sizes), control)


def size_wanted(variance: float, norm_squared: float, eta: float) -> float:
    """Return the least batch size that passes the norm test, V / (eta^2 ||g||^2); 0 where there is no noise, infinity
    where there is noise and no gradient.
    """
    if not variance > 0:
        return 0.0
    allowed = eta**2 * norm_squared
    return variance / allowed if allowed > 0 else math.inf


def halved(batch_size: int, times: int, multiple: int = 1) -> tuple[int, ...]:
    """Return the batch size after up to so many halvings, from the smallest on, each a multiple of `multiple`; those
    that would be none are left out.
    """
    sizes = {batch_size // 2**i // multiple * multiple for i in range(times + 1)}
    return tuple(sorted(size for size in sizes if size > 0))


def _algorithm(
    inner: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    batch_size: int,
    gradient: _Gradient,
    sizes: tuple[int, ...],
    control: Callable[[Progress], Control | None],
) -> Algorithm:
    inner = optax.with_extra_args_support(inner)

    def init(params: Params, key: Key) -> OptState:
        return inner.init(params)

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        grads, model_state, metrics = gradient(loss, state, batch, key)
        updates, opt_state = inner.update(grads, state.opt_state, state.params, value=metrics["loss"])
        rate = rate_at(learning_rate, state.examples // batch_size)
        updates = jax.tree.map(lambda u: (rate * u).astype(u.dtype), updates)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), metrics

    return Algorithm(init=init, step=step, batch_sizes=sizes, control=control)


def _squared(tree: Params) -> jax.Array:
    squares: jax.Array = optax.tree.sum(jax.tree.map(lambda x: jnp.sum(precise(x) ** 2), tree))
    return squares.astype(jnp.float32)


def _expect_sizes(rule: str, batch_size: int, sizes: Sequence[int], multiple: int = 1) -> None:
    expect(f"{rule}: batch_size", batch_size, 1, whole=True)
    for size in sizes:
        expect(f"{rule}: sizes", size, 1, whole=True)
    if not sizes or sorted(set(sizes)) != list(sizes) or any(size % multiple for size in sizes):
        of = f", each a multiple of {multiple}" if multiple > 1 else ""
        raise SubmissionError(f"{rule}: sizes: expected batch sizes, ascending{of}; got {tuple(sizes)}")
