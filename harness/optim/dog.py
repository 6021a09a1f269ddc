"""DoG: SGD whose rate is the distance gone over the gradients seen. What is evaluated is an average."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import OptState, Params, PyTree
from harness.errors import SubmissionError
from harness.optim.checks import expect, expect_rate
from harness.optim.layers import map_layers
from harness.optim.norms import precise
from harness.optim.rates import rate_at, with_params


class DogState(NamedTuple):
    """Distance and sum are one number for all parameters, or one for each layer.

    Attributes:
      count: steps done, int32.
      x0: the first parameters.
      distance: the largest distance from them so far.
      squares: sum of the squared norms of the gradients.
      average: of the parameters after each step; evaluate this.
    """

    count: jax.Array  # type: ignore[assignment]
    x0: PyTree
    distance: PyTree
    squares: PyTree
    average: PyTree


def dog(
    reps_rel: float = 1e-6,
    eps: float = 1e-8,
    learning_rate: optax.ScalarOrSchedule = 1.0,
    *,
    layer_wise: bool = False,
    param_info: PyTree | None = None,
    gamma: float = 8.0,
) -> optax.GradientTransformation:
    """Return DoG, or L-DoG with `layer_wise`. Evaluate `dog_eval_params`.

    With t = 1, 2, ..., the gradient g, all parameters as one vector x (each layer as its own in L-DoG):

        r  = max over all x so far of ||x - x_0||       at least reps_rel (1 + ||x_0||)
        G  = eps + sum of all ||g||^2 so far            this one in it
        x <- x - lr r / sqrt(G) g
        a <- (1 - c) a + c x                            c = (1 + gamma) / (t + gamma)

    optax's agrees, but for the average and L-DoG, which it lacks. State: x_0 and the average, two numbers per
    parameter.

    Args:
      reps_rel: of the first step; 1e-6, or 1e-4 with batch normalisation, says the paper.
      learning_rate: a number, or a schedule called with the step counted from 0; the authors keep 1.
      param_info: tree of `harness.api.ParamInfo` like the parameters, for parameters that stack several layers.
      gamma: of the average; the larger, the more the latest parameters count.

    Raises SubmissionError for hyperparameters out of range.

    Source: Ivgi, Hinder and Carmon (2023), arXiv:2302.12022, eq. 1 and section 3; Shamir and Zhang (2013),
    arXiv:1212.1824, for the average.
    """
    expect_rate("dog", learning_rate)
    expect("dog: reps_rel", reps_rel, 0, above=True)
    expect("dog: eps", eps, 0)
    expect("dog: gamma", gamma, 0)

    def lengths(tree: PyTree) -> PyTree:
        """Return the squared norm of everything, or the tree of those of layers."""
        squares = map_layers(lambda axes, x: jnp.sum(precise(x) ** 2, axis=axes, keepdims=True), param_info, tree)
        return squares if layer_wise else optax.tree.sum(squares)

    def init(params: PyTree) -> DogState:
        first = jax.tree.map(lambda n: reps_rel * (1 + jnp.sqrt(n)), lengths(params))
        copies = (jax.tree.map(jnp.copy, params) for _ in range(2))  # buffers of their own: params may be donated
        zero = jnp.zeros((), jnp.int32)
        return DogState(zero, next(copies), first, jax.tree.map(lambda n: jnp.full_like(n, eps), first), next(copies))

    def update(grads: PyTree, state: DogState, params: PyTree = None) -> tuple[PyTree, DogState]:
        params, t, lr = with_params("dog", params), state.count + 1, rate_at(learning_rate, state.count)
        gone = lengths(optax.tree.sub(params, state.x0))
        distance = jax.tree.map(lambda r, n: jnp.maximum(r, jnp.sqrt(n)), state.distance, gone)
        squares = jax.tree.map(jnp.add, state.squares, lengths(grads))
        eta = jax.tree.map(lambda r, G: -lr * r / jnp.sqrt(G), distance, squares)
        steps = eta if layer_wise else jax.tree.map(lambda _: eta, grads)
        updates = jax.tree.map(lambda step, g: (step * g).astype(g.dtype), steps, grads)
        c = (1 + gamma) / (t + gamma)
        average = jax.tree.map(
            lambda a, p, u: ((1 - c) * a + c * (p + u)).astype(a.dtype), state.average, params, updates
        )
        return updates, DogState(t, state.x0, distance, squares, average)

    return optax.GradientTransformation(init, update)


def dog_eval_params(state: OptState, params: Params) -> Params:
    """Return the average that is to be evaluated. Raises SubmissionError where the state holds none of DoG's."""

    def is_state(node: Any) -> bool:
        return isinstance(node, DogState)

    for node in jax.tree.leaves(state, is_leaf=is_state):
        if is_state(node):
            return node.average
    raise SubmissionError("dog_eval_params: the optimizer state holds no DogState; it must come from dog")
