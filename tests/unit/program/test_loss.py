"""The Loss handed to submissions: its values, its refusals, and the count of what is asked of it."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import LossKind
from harness.errors import SubmissionError
from harness.program.loss import StepCost, WorkloadLoss, count_cost
from harness.program.workload import UNSET, Workload, WorkloadInfo

INFO = WorkloadInfo(
    name="toy", description="", metric="loss", mode="min", target=UNSET, batch_size=8, step_hint=200,
    num_train_examples=64, loss_kind=LossKind.MEAN_SQUARED_ERROR,
)  # fmt: skip


def toy_loss(params, model_state, batch, key, train, dropout=0.0):
    """(w x - y)^2 for each example; a running mean of x; while training, dropout on x."""
    x = batch["x"]
    if train:
        keep = jax.random.bernoulli(key, 1 - dropout, x.shape)
        model_state = {"mean": 0.5 * model_state["mean"] + 0.5 * x.mean()}
        x = jnp.where(keep, x / (1 - dropout), 0.0)
    return jnp.square(params["w"] * x - batch["y"]), model_state


TOY = Workload(
    info=INFO,
    init=lambda key: ({"w": jnp.float32(3.0)}, {"mean": jnp.float32(0.0)}),
    param_info={},
    splits=lambda: None,  # type: ignore[arg-type,return-value]
    batch=lambda train, index, key: {},
    loss=toy_loss,
    evaluate=lambda *_: {},
    loss_options={"dropout": 0.0},
)
LOSS = WorkloadLoss(TOY)
PARAMS, STATE = TOY.init(jax.random.key(0))
BATCH = {"x": jnp.array([1.0, 2.0, 3.0, 4.0]), "y": jnp.array([1.0, 1.0, 1.0, 1.0])}
KEY = jax.random.key(1)
ARGS = (PARAMS, STATE, BATCH, KEY)
B = 4


def test_values_by_hand():
    # (3x - 1)^2 at x = 1..4: 4, 25, 64, 121
    value, new_state = LOSS.value(*ARGS)
    assert (float(value), value.dtype) == ((4 + 25 + 64 + 121) / 4, jnp.float32)
    assert float(new_state["mean"]) == 1.25
    # d/dw: 2 (3x - 1) x, mean of 4, 20, 48, 88
    (again, again_state), grads = LOSS.value_and_grad(*ARGS)
    assert (again, again_state, float(grads["w"])) == (value, new_state, 40.0)
    assert LOSS.per_example(*ARGS).tolist() == [4, 25, 64, 121]
    assert LOSS.value(*ARGS, train=False)[1] == STATE, "running statistics are used, not updated"


def test_an_option_reaches_the_loss_and_none_means_the_workloads_own():
    own = WorkloadLoss(dataclasses.replace(TOY, loss_options={"dropout": 0.5}))
    values = {p: float(LOSS.value(*ARGS, dropout=p)[0]) for p in (0.0, 0.25, 0.5)}
    assert len(set(values.values())) == 3
    assert float(own.value(*ARGS)[0]) == float(own.value(*ARGS, dropout=None)[0]) == values[0.5]
    assert float(own.value(*ARGS, dropout=0.0)[0]) == values[0.0]
    assert float(own.value_and_grad(*ARGS, dropout=0.25)[0][0]) == values[0.25]
    assert own.per_example(*ARGS).tolist() == [4, 25, 64, 121], "no dropout in per_example"


def test_same_key_same_value():
    value = lambda key: float(LOSS.value(PARAMS, STATE, BATCH, key, dropout=0.5)[0])  # noqa: E731
    assert value(KEY) == value(jax.random.key(1))
    assert len({value(jax.random.key(k)) for k in range(4)}) > 1


@pytest.mark.parametrize("call", ["value", "value_and_grad"])
def test_an_option_the_loss_lacks_is_refused_by_name(call):
    with pytest.raises(SubmissionError, match=r"no option label_smoothing=0.1; it takes dropout; leave it None"):
        jax.eval_shape(lambda *args: getattr(LOSS, call)(*args, label_smoothing=0.1), *ARGS)
    bare = WorkloadLoss(dataclasses.replace(TOY, loss_options={}))
    with pytest.raises(SubmissionError, match=r"no option dropout=0.0; it takes none"):
        getattr(bare, call)(*ARGS, dropout=0.0)
    getattr(bare, call)(*ARGS, dropout=None)


def test_eval_variables_gets_no_gradients():
    forward = WorkloadLoss(TOY, gradients=False)
    assert forward.value(*ARGS)[0] == LOSS.value(*ARGS)[0]
    assert forward.per_example(*ARGS).shape == (B,)
    with pytest.raises(SubmissionError, match="eval_variables may run the loss forward but takes no gradient"):
        forward.value_and_grad(*ARGS)


def test_sampled_targets():
    with pytest.raises(SubmissionError, match="a mean_squared_error loss has no likelihood to draw from"):
        LOSS.sample_targets(*ARGS)

    def draw(params, model_state, batch, key):
        return {"y": params["w"] * batch["x"] + jax.random.normal(key, batch["x"].shape)}

    loss = WorkloadLoss(dataclasses.replace(TOY, sample_targets=draw))
    drawn = loss.sample_targets(*ARGS)
    assert drawn["x"] is BATCH["x"]
    assert drawn["y"].shape == BATCH["y"].shape
    assert not np.array_equal(drawn["y"], BATCH["y"])
    assert BATCH["y"].tolist() == [1, 1, 1, 1], "the batch handed in is left alone"


@settings(deadline=None, max_examples=5)
@given(st.integers(1, 40))
def test_any_number_of_examples(size):
    batch = {"x": jnp.arange(1.0, size + 1), "y": jnp.ones(size)}
    losses = LOSS.per_example(PARAMS, STATE, batch, KEY)
    assert losses.tolist() == [(3 * x - 1) ** 2 for x in range(1, size + 1)]
    np.testing.assert_allclose(LOSS.value(PARAMS, STATE, batch, KEY)[0], losses.mean(), rtol=1e-6)


# ---- what a step asks of the model ----


def gradient(params, batch=BATCH):
    return LOSS.value_and_grad(params, STATE, batch, KEY)[1]


def forward(params):
    return LOSS.value(params, STATE, BATCH, KEY)[0]


def scan(function, length):
    return lambda p: jax.lax.scan(lambda c, _: (function(c), None), p, length=length)[0]


def accumulated(wrap, params):
    """The sum of the losses of three micro-batches, each call wrapped; differentiated from outside."""
    batches = jax.tree.map(lambda x: jnp.stack([x, 2 * x, 3 * x]), BATCH)
    call = wrap(lambda p, batch, key: LOSS.value(p, STATE, batch, key)[0])
    scanned = (batches, jax.random.split(KEY, 3))
    return jax.lax.scan(lambda total, x: (total + call(params, *x), None), 0.0, scanned)[0]


def branch(p):
    # Two gradients, or one; the dearest arm counts.
    return jax.lax.cond(p["w"] > 0, lambda p: gradient(gradient(p)), gradient, p)


def loop(p):
    return jax.lax.while_loop(lambda p: p["w"] > 1, gradient, p)


PAIR = {"w": jnp.array([1.0, 2.0])}
CASES = {
    "nothing": (lambda p: p, PARAMS, (0, 0, True)),
    "forward": (forward, PARAMS, (0, B, True)),
    "per_example": (lambda p: LOSS.per_example(p, STATE, BATCH, KEY), PARAMS, (0, B, True)),
    "one gradient": (gradient, PARAMS, (1, B, True)),
    "two gradients": (lambda p: gradient(gradient(p)), PARAMS, (2, 2 * B, True)),
    "gradient by jax": (jax.grad(forward), PARAMS, (1, B, True)),
    "gradient by vjp": (lambda p: jax.vjp(forward, p)[1](jnp.float32(1)), PARAMS, (1, B, True)),
    "jitted": (jax.jit(gradient), PARAMS, (1, B, True)),
    "jvp": (lambda p: jax.jvp(forward, (p,), (p,))[1], PARAMS, (0, B, True)),
    "jvp of grad": (lambda p: jax.jvp(jax.grad(forward), (p,), (p,))[1], PARAMS, (1, B, True)),
    # What is differentiated from outside of a call, loop or branch counts the same.
    "gradient of a jitted": (jax.grad(jax.jit(forward)), PARAMS, (1, B, True)),
    "gradient of a jitted in a jit": (
        jax.jit(jax.grad(jax.jit(lambda p: 2 * jax.jit(forward)(p)))),
        PARAMS,
        (1, B, True),
    ),
    "gradient of a scan": (jax.grad(lambda p: accumulated(lambda f: f, p)), PARAMS, (3, 3 * B, True)),
    "gradient of a cond": (
        jax.grad(lambda p: jax.lax.cond(p["w"] > 0, forward, lambda p: 2 * forward(p), p)),
        PARAMS,
        (1, B, True),
    ),
    # Run forward twice: once for the value, once more on the way back.
    "checkpointed": (jax.grad(jax.checkpoint(forward)), PARAMS, (1, 2 * B, True)),
    "jitted and checkpointed": (jax.grad(jax.checkpoint(jax.jit(forward))), PARAMS, (1, 2 * B, True)),
    "checkpointed in a scan": (jax.grad(lambda p: accumulated(jax.checkpoint, p)), PARAMS, (3, 6 * B, True)),
    "scan": (scan(gradient, 5), PARAMS, (5, 5 * B, True)),
    "scan in a scan": (scan(scan(gradient, 3), 5), PARAMS, (15, 15 * B, True)),
    "fori_loop": (lambda p: jax.lax.fori_loop(0, 3, lambda i, p: gradient(p), p), PARAMS, (3, 3 * B, True)),
    "cond": (branch, PARAMS, (2, 2 * B, True)),
    "while": (loop, PARAMS, (1, B, False)),
    "while in a scan": (scan(loop, 2), PARAMS, (2, 2 * B, False)),
    "while without the loss": (
        lambda p: jax.lax.while_loop(lambda p: p["w"] > 1, lambda p: {"w": p["w"] / 2}, gradient(p)),
        PARAMS,
        (1, B, True),
    ),
    "vmapped forward": (jax.vmap(forward), PAIR, (0, 2 * B, True)),
    # One batched backward pass; the examples tell that it was for two.
    "vmapped gradient": (jax.vmap(gradient), PAIR, (1, 2 * B, True)),
    "another batch size": (
        lambda p: gradient(p, {k: jnp.concatenate([v, v]) for k, v in BATCH.items()}),
        PARAMS,
        (1, 2 * B, True),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_cost(name):
    function, params, expected = CASES[name]
    assert count_cost(function, params) == StepCost(*expected)


def test_cost_of_shapes_alone():
    shapes = jax.eval_shape(lambda: ARGS)
    assert count_cost(LOSS.value_and_grad, *shapes) == StepCost(1, B, True)


@jax.custom_vjp
def custom(p):
    return forward(p)


custom.defvjp(lambda p: (forward(p), p), lambda p, g: (jax.tree.map(lambda x: g * x, jax.grad(forward)(p)),))

UPPER_BOUNDS = {
    "gradient of a gradient": lambda p: jax.grad(lambda p: jax.grad(forward)(p)["w"])(p),
    "custom_vjp": jax.grad(custom),
    "linearised and transposed": lambda p: jax.linear_transpose(jax.linearize(forward, p)[1], p)(jnp.float32(1)),
}


@pytest.mark.parametrize("name", UPPER_BOUNDS)
def test_a_gradient_by_a_roundabout_way_is_never_missed(name):
    cost = count_cost(UPPER_BOUNDS[name], PARAMS)
    assert cost.gradient_calls >= 1
    assert cost.forward_examples >= B
