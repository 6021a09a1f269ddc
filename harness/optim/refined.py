"""A schedule refined from the gradient norms of a pilot run, which the same trial pays for."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, OptState, Params, TrainState
from harness.optim.checks import expect, expect_choice
from harness.optim.schedules import Steps, _progress, linear, scheduled

Norm = Literal["l1", "l2"]
_POWER = {"l1": 1, "l2": 2}
_LEAST = 1e-6  # of the largest norm: a gradient of 0 would take all of the weight


class RefinedState(NamedTuple):
    """State: that of the optimizer, the first parameters, two numbers for each step of the pilot.

    Attributes:
      inner: state of the optimizer.
      start: the parameters that the pilot began at.
      norms: float32[N], of the pilot's gradients.
      shares: float32[N], the refined schedule over its peak; 0 until the pilot has ended.
    """

    inner: Any
    start: Params
    norms: jax.Array
    shares: jax.Array


def refined(
    inner: optax.GradientTransformation,
    learning_rate: float | jax.Array,
    pilot_steps: int,
    total_steps: Steps,
    warmup_fraction: float | jax.Array = 0.05,
    *,
    tau: float = 0.1,
    norm: Norm = "l1",
) -> Algorithm:
    """Return the algorithm that trains a pilot, goes back to the first parameters, and trains by the refined schedule.

    With N = pilot_steps and T = total_steps:

        t < N - 1    the pilot: `linear` over N steps, warmed up over that fraction; the norms are kept
        t = N - 1    the last norm; `refined_schedule` of all; parameters and optimizer begin anew
        t >= N       learning_rate times that schedule, stretched from N steps to T - N

    The pilot is part of the T steps, and of the time. What differs from the paper: its pilot has the length of the
    run. Running statistics go on from those of the pilot, which they forget.

    Args:
      inner: an optimizer whose own learning rate is 1: its updates are multiplied by the schedule.
      learning_rate: the peak of the pilot and of the refined schedule.
      pilot_steps: a whole number of at least 2.
      total_steps: pilot and training; may be traced.
      tau: width of the median filter over N.
      norm: "l1" for Adam and its kin, "l2" for SGD.

    Raises SubmissionError for hyperparameters out of range.

    Source: Defazio et al. (2023), arXiv:2310.07831.
    """
    expect("refined: learning_rate", learning_rate, 0.0)
    expect("refined: pilot_steps", pilot_steps, 2, whole=True)
    expect("refined: tau", tau, 0.0)
    expect_choice("refined: norm", norm, _POWER)
    inner = optax.with_extra_args_support(inner)
    pilot = scheduled(linear, learning_rate, pilot_steps, warmup_fraction)

    def init(params: Params, key: Key) -> OptState:
        zeros = jnp.zeros(pilot_steps, jnp.float32)
        return RefinedState(inner.init(params), jax.tree.map(jnp.copy, params), zeros, jnp.copy(zeros))

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        opt: RefinedState = state.opt_state
        size = optax.tree.norm(grads, ord=_POWER[norm]).astype(jnp.float32)
        norms = opt.norms.at[state.step].set(size, mode="drop")  # after the pilot there is no such place

        def go_on() -> tuple[Params, Any, jax.Array]:
            p = _progress(state.step, pilot_steps, total_steps)
            rate = jnp.where(state.step < pilot_steps, pilot(state.step), learning_rate * _at(opt.shares, p))
            updates, inner_state = inner.update(grads, opt.inner, state.params, value=value)
            updates = jax.tree.map(lambda u: (rate * u).astype(u.dtype), updates)
            return optax.apply_updates(state.params, updates), inner_state, opt.shares

        def begin_anew() -> tuple[Params, Any, jax.Array]:
            return opt.start, inner.init(opt.start), refined_schedule(norms, tau, norm)

        params, inner_state, shares = jax.lax.cond(state.step == pilot_steps - 1, begin_anew, go_on)
        opt_state = RefinedState(inner_state, opt.start, norms, shares)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    return Algorithm(init=init, step=step)


def refined_schedule(norms: jax.Array, tau: float = 0.1, norm: Norm = "l1") -> jax.Array:
    """Return the share of the peak rate at each of the N steps whose gradient norms are given, float32[N].

        G = `median_filtered` norms
        w = 1 / G for the l1 norm (Adam), 1 / G^2 for the l2 norm (SGD)
        rate_t = w_t (w_{t+1} + ... + w_{N-1})        over the largest of all

    Equal norms give linear decay to 0 at the last step. Norms below 1e-6 of the largest count as that.

    Source: Defazio et al. (2023), arXiv:2310.07831, for SGD and for Adam.
    """
    G = median_filtered(norms, tau)
    G = jnp.maximum(G / jnp.maximum(G.max(), jnp.finfo(G.dtype).tiny), _LEAST)
    w = 1.0 / G ** _POWER[norm]
    after = jnp.append(jnp.cumsum(w[:0:-1])[::-1], 0.0)
    rate = w * after
    return rate / rate.max()


def median_filtered(norms: jax.Array, tau: float) -> jax.Array:
    """Return the median of the 2 floor(tau N / 2) + 1 norms around each of N; before the first stands the first again,
    after the last the sequence is mirrored.
    """
    count = norms.shape[0]
    half = min(int(tau * count) // 2, count - 1)
    mirrored = norms[count - 1 - half : count - 1][::-1]
    padded = jnp.concatenate([jnp.full(half, norms[0]), norms, mirrored])
    windows = padded[jnp.arange(count)[:, None] + jnp.arange(2 * half + 1)[None]]
    return jnp.sort(windows, axis=1)[:, half]


def _at(shares: jax.Array, p: jax.Array) -> jax.Array:
    """Return the schedule at the fraction p of its length, linear between two of its steps."""
    x = p * (shares.shape[0] - 1)
    i = jnp.clip(x.astype(jnp.int32), 0, shares.shape[0] - 2)
    return shares[i] + (x - i) * (shares[i + 1] - shares[i])
