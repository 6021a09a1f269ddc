"""A transform that trains one set of parameters and is evaluated at another: averages, for instance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import optax

from harness.api import Algorithm, Batch, Key, Loss, ModelState, OptState, Params, TrainState
from harness.optim.optax_adapter import from_optax


def evaluated_at(
    transform: optax.GradientTransformation,
    eval_params: Callable[[OptState, Params], Params],
    recalibration_batches: int = 0,
) -> Algorithm:
    """Return the algorithm that trains with `transform` and is evaluated at eval_params(opt_state, params).

    Running statistics were gathered at the parameters that train. They are brought to those that are evaluated by
    training-mode passes over so many batches, before each evaluation and on the clock: 0 for a model without any.
    """

    def eval_variables(loss: Loss, state: TrainState, batches: Batch | None, key: Key) -> tuple[Params, ModelState]:
        params, model_state = eval_params(state.opt_state, state.params), state.model_state
        for i in range(recalibration_batches):  # unrolled: XLA scans convolutions slowly on a CPU
            batch = jax.tree.map(lambda x, i=i: x[i], batches)
            _, model_state = loss.value(params, model_state, batch, jax.random.fold_in(key, i), train=True)
        return params, model_state

    return dataclasses.replace(
        from_optax(transform), eval_variables=eval_variables, recalibration_batches=recalibration_batches
    )
