"""Averages of weights, as wrappers round any algorithm: it trains as before, and is evaluated at the average.

What they keep lies in the optimizer's state, and what they do is on the clock: each step brings the average up to date,
and recalibration passes run before each evaluation.

Running statistics (BatchNorm) belong to the weights that train, and are wrong for an average of weights: they are not
averaged, which would be wrong too, but brought to the average by `recalibration_batches` passes in training mode over
training batches. These start from the statistics of training, of which a momentum m leaves m^batches. With 0 batches
the statistics stay those of training: right for a model without any.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, ModelState, OptState, Params, PyTree, TrainState
from harness.errors import SubmissionError
from harness.optim.checks import expect
from harness.optim.optax_adapter import from_optax
from harness.optim.rates import scalar
from harness.optim.schedules import Steps

Inner: TypeAlias = Algorithm | optax.GradientTransformation
"""What trains: an algorithm that is evaluated where it trains, or an optax transformation."""


class AveragedState(NamedTuple):
    """State of a wrapper.

    Attributes:
      inner: state of what trains.
      kept: what the average is made of: `EmaState`, or the last checkpoints, like the parameters with an axis in front.
    """

    inner: OptState
    kept: PyTree


class EmaState(NamedTuple):
    """State of `ema`.

    Attributes:
      weight_sum: sum of the weights so far, the newest being 1; float32 at least.
      average: like the parameters.
    """

    weight_sum: jax.Array
    average: Params


def ema(inner: Inner, decay: float | jax.Array, *, recalibration_batches: int = 0) -> Algorithm:
    """Return `inner`, evaluated at the exponential moving average of the parameters after each step.

    With x_t the parameters after step t = 1, 2, ..., and w = 0 at first:

        w <- 1 + decay w
        a <- a + (x_t - a) / w

    so that a = (sum over i of decay^(t-i) x_i) / (sum over i of decay^(t-i)): the first parameters have no part in it,
    as in Adam's bias correction; w goes to 1 / (1 - decay). The decay 1 - 1/T averages over some T steps.

    State: that of `inner`, and one number per parameter. Before the first step the average is the first parameters.

    Args:
      inner: what trains; its candidates, batch sizes and `control` are kept.
      decay: at least 0, below 1.
      recalibration_batches: training batches for running statistics before each evaluation, at most 20.

    Raises SubmissionError for hyperparameters out of range, and where `inner` has an `eval_variables` of its own.

    Source: Polyak and Juditsky (1992) for averages of iterates; Kingma and Ba (2015), arXiv:1412.6980, section 3, for
    the correction; Morales-Brotons, Vogels and Hendrikx (2024), arXiv:2411.18704, for networks.
    """
    expect("ema: decay", decay, 0, 1)

    def start(params: Params) -> EmaState:
        return EmaState(scalar(0.0, params), jax.tree.map(jnp.copy, params))  # its own buffers: params may be donated

    def follow(kept: EmaState, params: Params, step: jax.Array) -> EmaState:
        w = (1 + decay * kept.weight_sum).astype(kept.weight_sum.dtype)
        return EmaState(w, jax.tree.map(lambda a, x: (a + (x - a) / w).astype(a.dtype), kept.average, params))

    return _averaged("ema", inner, start, follow, lambda kept, params, step: kept.average, recalibration_batches)


def lawa(inner: Inner, every: Steps, window: int, *, recalibration_batches: int = 0) -> Algorithm:
    """Return `inner`, evaluated at the mean of its last `window` checkpoints: latest weight averaging.

    A checkpoint is the parameters after each step number k `every`. It is `combination` with equal coefficients: while
    there are fewer checkpoints, the mean is of those, and before the first it is the parameters as they are. Between
    two checkpoints the mean stays as it is.

    State: that of `inner`, and `window` numbers per parameter, on the device.

    Args, errors: see `combination`.

    Source: Kaddour (2022), arXiv:2209.14981, whose checkpoints are at the ends of epochs, with a window of 6.
    """
    expect("lawa: window", window, 1, whole=True)
    return combination(inner, every, (1.0,) * window, recalibration_batches=recalibration_batches)


def combination(
    inner: Inner, every: Steps, coefficients: Sequence[float], *, recalibration_batches: int = 0
) -> Algorithm:
    """Return `inner`, evaluated at a linear combination of its last K checkpoints, with K fixed coefficients.

    With c_1 the newest checkpoint (the parameters after the last step whose number is a multiple of `every`), c_2 the
    one before it, and n of them so far:

        a = (sum over i of alpha_i c_i) / (sum over i of alpha_i)        i = 1 ... min(n, K)

    and a the parameters as they are while n = 0. Coefficients may be negative: (1.5, -0.5) goes beyond the newest.

    What is left out of LCSC: its search. It chooses the coefficients by the metric of many combinations on data that it
    holds out, and evaluates the best; a submission sees no validation data, and here they are hyperparameters.

    State: that of `inner`, and K numbers per parameter, on the device. A step writes one checkpoint's numbers, whether
    one is due or not, so that nothing waits for a branch.

    Args:
      inner: what trains; its candidates, batch sizes and `control` are kept.
      every: steps between two checkpoints, a whole number of at least 1; may be traced.
      coefficients: alpha, for the newest first; the sum of the first 1, 2, ... K of them must be above 0.
      recalibration_batches: training batches for running statistics before each evaluation, at most 20.

    Raises SubmissionError for hyperparameters out of range, and where `inner` has an `eval_variables` of its own.

    Source: Liu et al. (2024), arXiv:2404.02241, for the combination.
    """
    expect("combination: every", every, 1, whole=True)
    if not coefficients or min(accumulate(coefficients)) <= 0:
        raise SubmissionError(
            "combination: coefficients: expected numbers, for the newest checkpoint first, of which the first, the "
            f"first two, and so on, have sums above 0; got {tuple(coefficients)}"
        )
    K = len(coefficients)

    def start(params: Params) -> PyTree:
        return jax.tree.map(lambda x: jnp.zeros((K, *x.shape), x.dtype), params)

    def follow(kept: PyTree, params: Params, step: jax.Array) -> PyTree:
        period = jnp.asarray(every, jnp.int32)
        due, place = step % period == 0, (step // period - 1) % K

        def write(checkpoints: jax.Array, x: jax.Array) -> jax.Array:
            there = jax.lax.dynamic_index_in_dim(checkpoints, place, keepdims=False)
            return jax.lax.dynamic_update_index_in_dim(checkpoints, jnp.where(due, x, there), place, 0)

        return jax.tree.map(write, kept, params)

    def average(kept: PyTree, params: Params, step: jax.Array) -> Params:
        n = step // jnp.asarray(every, jnp.int32)
        age = (n - 1 - jnp.arange(K)) % K  # of the checkpoint at each place: 0 is the newest
        alpha = jnp.where(age < n, jnp.asarray(coefficients, jnp.float32)[age], 0.0)
        alpha = alpha / jnp.where(n > 0, alpha.sum(), 1.0)

        def combined(checkpoints: jax.Array, x: jax.Array) -> jax.Array:
            weights = alpha.reshape(K, *(1 for _ in x.shape))
            return jnp.where(n > 0, jnp.sum(weights * checkpoints, axis=0).astype(x.dtype), x)  # no product in TF32

        return jax.tree.map(combined, kept, params)

    return _averaged("combination", inner, start, follow, average, recalibration_batches)


def _averaged(
    rule: str,
    inner: Inner,
    start: Callable[[Params], Any],
    follow: Callable[[Any, Params, jax.Array], Any],
    average: Callable[[Any, Params, jax.Array], Params],
    recalibration_batches: int,
) -> Algorithm:
    """Return `inner`, evaluated at average(kept, params, steps done); `start` and `follow` make what is kept."""
    expect(f"{rule}: recalibration_batches", recalibration_batches, 0, whole=True)
    trained = inner if isinstance(inner, Algorithm) else from_optax(inner)
    if trained.eval_variables is not None:
        raise SubmissionError(
            f"{rule}: what it wraps is evaluated at other variables than it trains (it has an eval_variables), which "
            "an average would pass over; wrap an algorithm that is evaluated where it trains"
        )

    def init(params: Params, key: Key) -> OptState:
        return AveragedState(trained.init(params, key), start(params))

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        before: AveragedState = state.opt_state
        new, metrics = trained.step(loss, state._replace(opt_state=before.inner), batch, key)
        kept = follow(before.kept, new.params, state.step + 1)
        return new._replace(opt_state=AveragedState(new.opt_state, kept)), metrics

    def eval_variables(loss: Loss, state: TrainState, batches: Batch | None, key: Key) -> tuple[Params, ModelState]:
        params, model_state = average(state.opt_state.kept, state.params, state.step), state.model_state
        for i in range(recalibration_batches):  # unrolled: XLA scans convolutions slowly on a CPU
            batch = jax.tree.map(lambda x, i=i: x[i], batches)
            _, model_state = loss.value(params, model_state, batch, jax.random.fold_in(key, i), train=True)
        return params, model_state

    return dataclasses.replace(
        trained, init=init, step=step, eval_variables=eval_variables, recalibration_batches=recalibration_batches
    )
