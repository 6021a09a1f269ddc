"""An optax transformation as an Algorithm: one gradient a step, and the extra arguments a transformation asks for."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import optax.contrib
import pytest

from harness.api import TrainState
from harness.errors import SubmissionError
from harness.optim.optax_adapter import from_optax

PARAMS = {"w": jnp.array([1.0, 2.0])}
GRADS = {"w": jnp.array([0.5, -0.5])}
KEY = jax.random.key(0)


class FakeLoss:
    """A loss of value 3 with fixed gradients that counts its calls and hands out a new model state."""

    def __init__(self):
        self.calls = []

    def value_and_grad(self, params, model_state, batch, key, **options):
        self.calls.append((params, model_state, batch, key, options))
        return (jnp.float32(3.0), {"seen": model_state["seen"] + 1}), GRADS


def one_step(transform: optax.GradientTransformation):
    algorithm, loss = from_optax(transform), FakeLoss()
    opt_state = algorithm.init(PARAMS, KEY)
    state = TrainState(PARAMS, opt_state, {"seen": jnp.int32(4)}, jnp.int32(7), jnp.int32(56))
    new, metrics = algorithm.step(loss, state, {"x": 1}, KEY)
    assert len(loss.calls) == 1
    assert loss.calls[0][:4] == (PARAMS, {"seen": 4}, {"x": 1}, KEY)
    assert loss.calls[0][4] == {}, "the workload's own options"
    return new, metrics


class Seen(NamedTuple):
    value: jax.Array
    grad: jax.Array
    key: jax.Array


NONE = Seen(jnp.float32(0), jnp.zeros(2), jnp.zeros(2, jnp.uint32))


def recorder(update) -> optax.GradientTransformationExtraArgs:
    return optax.GradientTransformationExtraArgs(lambda params: NONE, update)


def test_a_step_by_hand():
    new, metrics = one_step(optax.sgd(0.1))
    assert new.params["w"].tolist() == pytest.approx([1 - 0.05, 2 + 0.05])
    assert new.model_state == {"seen": 5}, "the new model state is kept"
    assert (int(new.step), int(new.examples)) == (7, 56), "these are the harness's"
    assert metrics == {"loss": 3.0}
    algorithm = from_optax(optax.sgd(0.1))
    assert (algorithm.eval_variables, algorithm.candidates, algorithm.batch_sizes, algorithm.control) == (
        None, 1, (), None,
    )  # fmt: skip


def test_the_transformation_sees_the_parameters_and_keeps_its_state():
    new, _ = one_step(optax.chain(optax.trace(0.9), optax.add_decayed_weights(1.0), optax.scale(-0.1)))
    assert new.params["w"].tolist() == pytest.approx([1 - 0.1 * (0.5 + 1), 2 - 0.1 * (-0.5 + 2)])
    assert new.opt_state[0].trace["w"].tolist() == [0.5, -0.5]


def test_extra_arguments_by_name():
    def update(grads, state, params=None, *, value, grad, key):
        return grads, Seen(value, grad["w"], jax.random.key_data(key))

    new, _ = one_step(recorder(update))
    assert (float(new.opt_state.value), new.opt_state.grad.tolist()) == (3.0, [0.5, -0.5])
    assert new.opt_state.key.tolist() == jax.random.key_data(KEY).tolist()


def test_only_those_it_names():
    def update(grads, state, params=None, *, grad):
        return grads, state._replace(grad=grad["w"])

    new, _ = one_step(recorder(update))
    assert (float(new.opt_state.value), new.opt_state.grad.tolist()) == (0.0, [0.5, -0.5])


def test_a_chain_is_given_the_value():
    def update(grads, state, params=None, *, value, **extra):
        assert not extra
        return grads, state._replace(value=value)

    new, _ = one_step(optax.chain(optax.scale(1.0), recorder(update)))
    assert float(new.opt_state[1].value) == 3.0


def test_what_takes_extra_arguments_is_told_by_its_signature_whatever_its_class():
    """optax.MultiSteps hands on what it is given, and is not of the class that says so."""
    for transform in (optax.MultiSteps(optax.polyak_sgd(0.8), 1), optax.MultiSteps(optax.polyak_sgd(0.8), 2)):
        new, _ = one_step(transform)
        same, _ = one_step(transform.gradient_transformation())
        assert new.params["w"].tolist() == same.params["w"].tolist()
    assert new.params["w"].tolist() == PARAMS["w"].tolist(), "the first of two"

    def update(grads, state, params=None, *, value):
        return grads, state._replace(value=value)

    new, _ = one_step(optax.GradientTransformation(lambda params: NONE, update))
    assert float(new.opt_state.value) == 3.0


def test_polyak_step_by_hand():
    # loss 3 over the squared norm 0.5, at most 0.8: the step size is 0.8
    new, _ = one_step(optax.polyak_sgd(max_learning_rate=0.8))
    assert new.params["w"].tolist() == pytest.approx([1 - 0.4, 2 + 0.4])
    new, _ = one_step(optax.polyak_sgd(max_learning_rate=100.0))
    assert new.params["w"].tolist() == pytest.approx([1 - 6 * 0.5, 2 + 6 * 0.5], rel=1e-4)


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (lambda: optax.lbfgs(0.1), r"TypeError: .*'value_fn'.*\); .*lbfgs\(learning_rate, linesearch=None\)"),
        (lambda: optax.contrib.sophia(0.1), "ValueError: obj_fn must be .*; estimate the curvature without it"),
        (
            lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5),
            "AttributeError: 'dict' object has no attribute 'fast'\\); hand optax.lookahead's slow weights",
        ),
    ],
)
def test_what_optax_cannot_work_with_is_explained(transform: Any, says: str) -> None:
    class Loss:
        def value_and_grad(self, params: Any, *_: Any) -> Any:
            return (jnp.float32(1.0), {}), params

    params = {"w": jnp.ones(3)}
    with pytest.raises(SubmissionError, match=rf"{says}.*return a harness.api.Algorithm whose step"):
        algorithm = from_optax(transform())
        state = TrainState(params, algorithm.init(params, jax.random.key(0)), {}, jnp.int32(0), jnp.int32(0))
        algorithm.step(Loss(), state, {}, jax.random.key(0))  # type: ignore[arg-type]


def test_an_error_of_the_submission_s_own_transformation_is_its_own() -> None:
    def broken(params: Any) -> Any:
        return params.fast

    with pytest.raises(AttributeError):
        from_optax(optax.GradientTransformation(broken, lambda *_: None)).init({}, jax.random.key(0))
