"""optax.GradientTransformation -> Algorithm: one gradient a step. Most submissions need only this."""

from __future__ import annotations

import inspect

import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, OptState, Params, TrainState


def from_optax(transform: optax.GradientTransformation) -> Algorithm:
    """Return the algorithm that takes one gradient a step and applies `transform`'s update.

    A transform that accepts extra arguments is given `value`, the loss, and those of `grad`, `key` it names.
    """
    accepts = _extra_arguments(transform)

    def init(params: Params, key: Key) -> OptState:
        return transform.init(params)

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        extra = {name: v for name, v in {"value": value, "grad": grads, "key": key}.items() if name in accepts}
        updates, opt_state = transform.update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    return Algorithm(init=init, step=step)


def _extra_arguments(transform: optax.GradientTransformation) -> frozenset[str]:
    if not isinstance(transform, optax.GradientTransformationExtraArgs):
        return frozenset()
    named = inspect.signature(transform.update).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values()):  # optax.chain hands on what its parts take
        return frozenset({"value"})
    return frozenset(named) & {"value", "grad", "key"}
