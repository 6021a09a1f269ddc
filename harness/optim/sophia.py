"""Sophia-G: momentum over an estimate of the Hessian's diagonal, clipped entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, OptState, Params, PyTree, TrainState
from harness.optim.checks import expect
from harness.optim.rates import Mask, decays, expect_adam, rate_at, with_params


class SophiaState(NamedTuple):
    """`count`: steps done, int32; `mu` the momentum and `h` the Hessian's diagonal, like the parameters."""

    count: jax.Array  # type: ignore[assignment]
    mu: PyTree
    h: PyTree


def sophia_g(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.96,
    b2: float = 0.99,
    gamma: float = 0.05,
    eps: float = 1e-12,
    weight_decay: float = 0.0,
    update_interval: int = 10,
    mask: Mask = None,
) -> optax.GradientTransformationExtraArgs:
    """Return Sophia; call `update(grads, state, params, estimate=...)`, as `with_sampled_targets` does for Sophia-G.

    With t = 1, 2, ... and the gradient g:

        m <- b1 m + (1 - b1) g                          no bias correction
        h <- b2 h + (1 - b2) estimate()                 where (t - 1) mod update_interval = 0, before the step
        p <- p - lr weight_decay p
        p <- p - lr clip(m / max(gamma h, eps), 1)

    The estimate is taken in a branch: other steps do not pay for it. State: m and h, two numbers per parameter.

    Args:
      learning_rate: a number, or a schedule called with the step counted from 0.
      gamma: the smaller, the more entries are clipped.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies; None: everywhere.

    Raises SubmissionError for hyperparameters out of range.

    Source: Liu et al. (2023), arXiv:2305.14342, Algorithm 3.
    """
    expect_adam("sophia_g", learning_rate, b1, b2, eps, weight_decay)
    expect("sophia_g: gamma", gamma, 0, above=True)
    expect("sophia_g: update_interval", update_interval, 1, whole=True)

    def init(params: PyTree) -> SophiaState:
        return SophiaState(jnp.zeros((), jnp.int32), *(optax.tree.zeros_like(params) for _ in range(2)))

    def update(
        grads: PyTree, state: SophiaState, params: PyTree = None, *, estimate: Callable[[], PyTree], **extra: Any
    ) -> tuple[PyTree, SophiaState]:
        params, lr = with_params("sophia_g", params), rate_at(learning_rate, state.count)

        def refreshed() -> PyTree:
            return jax.tree.map(lambda h, e: (b2 * h + (1 - b2) * e).astype(h.dtype), state.h, estimate())

        mu = jax.tree.map(lambda m, g: (b1 * m + (1 - b1) * g).astype(m.dtype), state.mu, grads)
        h = jax.lax.cond(state.count % update_interval == 0, refreshed, lambda: state.h)
        updates = jax.tree.map(
            lambda p, m, h, wd: (-lr * (jnp.clip(m / jnp.maximum(gamma * h, eps), -1, 1) + wd * p)).astype(p.dtype),
            params, mu, h, decays(weight_decay, mask, params),
        )  # fmt: skip
        return updates, SophiaState(state.count + 1, mu, h)

    return optax.GradientTransformationExtraArgs(init, update)


def with_sampled_targets(transform: optax.GradientTransformationExtraArgs, *, sampled: bool = True) -> Algorithm:
    """Return the algorithm that hands `transform` the Gauss-Newton-Bartlett estimate of the Hessian's diagonal.

        targets drawn from the model's own likelihood;  g^ their mean gradient;  estimate() = B g^ g^

    B is the number of targets drawn: of tokens in a language model. Without `sampled` the batch's own targets stand in,
    and B is that of examples: the empirical Fisher information, for a loss without a likelihood.

    Source: Liu et al. (2023), arXiv:2305.14342, Algorithm 2.
    """

    def init(params: Params, key: Key) -> OptState:
        return transform.init(params)

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        params, statistics = state.params, state.model_state
        (value, model_state), grads = loss.value_and_grad(params, statistics, batch, key)

        def estimate() -> Params:
            if not sampled:
                return jax.tree.map(lambda g: batch["index"].size * g * g, grads)
            targets = loss.sample_targets(params, statistics, batch, jax.random.fold_in(key, 1))
            drawn = [x.size for name, x in targets.items() if x is not batch.get(name)]
            _, sample = loss.value_and_grad(params, statistics, targets, key)
            return jax.tree.map(lambda g: max(drawn, default=batch["index"].size) * g * g, sample)

        updates, opt_state = transform.update(grads, state.opt_state, params, estimate=estimate)
        params = optax.apply_updates(params, updates)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    return Algorithm(init=init, step=step)
