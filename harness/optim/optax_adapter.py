"""optax.GradientTransformation -> Algorithm: one gradient a step. Most submissions need only this."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, OptState, Params, TrainState
from harness.errors import SubmissionError


def from_optax(transform: optax.GradientTransformation) -> Algorithm:
    """Return the algorithm that takes one gradient a step and applies `transform`'s update.

    It may be anything with `init` and `update`. One that accepts extra arguments is given `value`, the loss, and
    those of `grad`, `key` it names.
    """
    accepts = _extra_arguments(transform)

    def init(params: Params, key: Key) -> OptState:
        with _explained():
            return transform.init(params)

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        (value, model_state), grads = loss.value_and_grad(state.params, state.model_state, batch, key)
        extra = {name: v for name, v in {"value": value, "grad": grads, "key": key}.items() if name in accepts}
        with _explained():
            updates, opt_state = transform.update(grads, state.opt_state, state.params, **extra)
        params = optax.apply_updates(state.params, updates)
        return state._replace(params=params, opt_state=opt_state, model_state=model_state), {"loss": value}

    return Algorithm(init=init, step=step)


@contextmanager
def _explained() -> Iterator[None]:
    """Say what a transformation is handed, where optax itself cannot take it."""
    try:
        yield
    except (AttributeError, TypeError, ValueError) as error:
        raised = traceback.extract_tb(error.__traceback__)[-1].filename
        if not Path(raised).is_relative_to(Path(optax.__file__).parent):
            raise
        raise SubmissionError(
            f"optax's transformation is handed gradients, its state, the parameters as the model has them and the "
            f"loss's value, and cannot work with these ({type(error).__name__}: {error}); "
            f"{next((mend for sign, mend in _MENDS.items() if sign in str(error)), '')}return a "
            "harness.api.Algorithm whose step hands it what it needs"
        ) from error


_MENDS = {
    "'value_fn'": "leave the line search out, as in optax.lbfgs(learning_rate, linesearch=None), or ",
    "'fast'": "hand optax.lookahead's slow weights on in the state of the optimizer: ",
    "obj_fn": "estimate the curvature without it, or ",
}


def _extra_arguments(transform: optax.GradientTransformation) -> frozenset[str]:
    """Return what `update` takes beside gradients, state and parameters: its signature tells, its class need not."""
    named = inspect.signature(transform.update).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in named.values()):  # optax.chain hands on what its parts take
        return frozenset({"value"})
    return frozenset(named) & {"value", "grad", "key"}
