"""NNX modules as pure functions on plain dicts: numbers, kinds, modes, running statistics."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from harness.api import ParamInfo, ParamKind
from harness.errors import WorkloadError
from harness.program.nnx_adapter import Model, conv, embedding, matrix, vector


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        gain, offset = vector(ParamKind.NORM), vector(ParamKind.BIAS)
        self.layers = nnx.List(
            [nnx.Linear(3, 3, kernel_metadata=matrix(), bias_metadata=offset, rngs=rngs) for _ in range(2)]
        )
        self.norm = nnx.BatchNorm(3, momentum=0.9, scale_metadata=gain, bias_metadata=offset, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


@pytest.fixture(scope="module")
def model() -> Model[Net]:
    return Model(Net)


@pytest.fixture(scope="module")
def variables(model: Model[Net]):
    return jax.jit(model.init)(jax.random.key(0))


X = jax.random.normal(jax.random.key(5), (16, 3)) + 2


def test_trees(model: Model[Net], variables) -> None:
    params, model_state = variables
    assert set(params) == {"layers", "norm"}
    assert set(params["layers"]) == {0, 1}
    assert params["layers"][1]["kernel"].shape == (3, 3)
    assert set(model_state) == {"norm"}
    assert jax.tree.map(jnp.shape, model_state) == {"norm": {"mean": (3,), "var": (3,)}}
    is_info = lambda x: isinstance(x, ParamInfo)  # noqa: E731
    assert jax.tree.structure(params) == jax.tree.structure(model.param_info, is_leaf=is_info)
    assert model.param_info["norm"]["scale"].kind is ParamKind.NORM
    assert model.param_info["norm"]["bias"] == ParamInfo(ParamKind.BIAS, (), (0,))


def test_metadata() -> None:
    assert matrix()["info"] == ParamInfo(ParamKind.MATRIX, (0,), (1,))
    assert matrix(ParamKind.HEAD)["info"].kind is ParamKind.HEAD
    stacked = matrix(in_axes=(0,), out_axes=(2,), stack_axes=((1, "qkv"),))["info"]
    assert stacked == ParamInfo(ParamKind.MATRIX, (0,), (2,), ((1, "qkv"),))
    assert conv()["info"] == ParamInfo(ParamKind.CONV, (0, 1, 2), (3,))
    assert conv(ParamKind.EMBEDDING)["info"].kind is ParamKind.EMBEDDING
    assert embedding()["info"] == ParamInfo(ParamKind.EMBEDDING, (0,), (1,))


def test_init_is_the_modules_own(variables) -> None:
    params, _ = variables
    own = Net(nnx.Rngs(jax.random.key(0)))
    # Compiled as a whole, the scaling of a draw may be rounded otherwise.
    np.testing.assert_allclose(params["layers"][0]["kernel"], own.layers[0].kernel[...], rtol=1e-6)


def test_training_uses_and_updates_the_batch_statistics(model: Model[Net], variables) -> None:
    params, model_state = variables

    @jax.jit
    def run(params, model_state, x):
        module = model.bind(params, model_state, train=True)
        return module(x), model.state_of(module)

    y, new_state = run(params, model_state, X)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    before = X
    for layer in params["layers"].values():
        before = before @ layer["kernel"] + layer["bias"][None]
    np.testing.assert_allclose(new_state["norm"]["mean"], 0.1 * before.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(new_state["norm"]["var"], 0.9 + 0.1 * before.var(axis=0), rtol=1e-4)
    assert np.array_equal(model_state["norm"]["mean"], np.zeros(3)), "the state handed in is left alone"


def test_evaluation_uses_and_keeps_the_running_statistics(model: Model[Net], variables) -> None:
    params, model_state = variables
    module = model.bind(params, model_state, train=False)
    both = module(X)
    np.testing.assert_allclose(both[:4], module(X[:4]), rtol=1e-5)
    assert np.array_equal(model.state_of(module)["norm"]["mean"], model_state["norm"]["mean"])


def test_differentiates_twice(model: Model[Net], variables) -> None:
    params, model_state = variables
    loss = lambda p: jnp.square(model.bind(p, model_state, train=True)(X) - 1).mean()  # noqa: E731
    gradient = jax.jit(jax.grad(loss))
    tangent = jax.tree.map(jnp.ones_like, params)
    _, product = jax.jvp(gradient, (params,), (tangent,))
    step = 1e-3
    up, down = (gradient(jax.tree.map(lambda p, s=s: p + s, params)) for s in (step, -step))
    finite = jax.tree.map(lambda a, b: (a - b) / (2 * step), up, down)
    for exact, approximate in zip(jax.tree.leaves(product), jax.tree.leaves(finite), strict=True):
        np.testing.assert_allclose(exact, approximate, atol=2e-2 * float(1 + jnp.abs(exact).max()))


def test_no_metadata() -> None:
    with pytest.raises(WorkloadError, match=r"parameter (bias|kernel) has no `info` metadata"):
        Model(lambda rngs: nnx.Linear(2, 3, rngs=rngs))


def test_axes_that_do_not_fit() -> None:
    make = lambda rngs: nnx.Linear(2, 3, use_bias=False, kernel_metadata=conv(), rngs=rngs)  # noqa: E731
    with pytest.raises(WorkloadError, match=r"shape \(2, 3\): ParamInfo names the axes \[0, 1, 2, 3\]"):
        Model(make)
