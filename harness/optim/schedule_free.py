"""Schedule-free AdamW and SGD: averaging in the place of a decaying learning rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from harness.api import OptState, Params, PyTree
from harness.errors import SubmissionError
from harness.optim.checks import expect, expect_rate
from harness.optim.schedules import Steps, larger, share


class ScheduleFreeState(NamedTuple):
    """Scalars are float32 at least: in bfloat16 the sum of weights would stop growing after some 300 steps.

    Attributes:
      count: steps done, int32.
      b1: share of x in y, for `schedule_free_eval_params`.
      max_lr: highest learning rate so far.
      weight_sum: sum of the averaging weights.
      z: the iterate that the steps are taken from, like the parameters.
      inner: state of what scales the gradient.
    """

    count: jax.Array  # type: ignore[assignment]
    b1: jax.Array
    max_lr: jax.Array
    weight_sum: jax.Array
    z: PyTree
    inner: OptState


def schedule_free_adamw(
    learning_rate: optax.ScalarOrSchedule = 0.0025,
    warmup_steps: Steps = 0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> optax.GradientTransformation:
    """Return schedule-free AdamW. The parameters it moves are y; evaluate `schedule_free_eval_params`.

    With k = 0, 1, ... and g the gradient at y, x = z = y at the start:

        lr <- learning_rate min(1, (k + 1) / warmup_steps)             never 0
        v  <- b2 v + (1 - b2) g^2                 vh = v / (1 - b2^(k + 1))
        z  <- z - lr (g / (sqrt(vh) + eps) + weight_decay y)            no first moment; decay at y
        w   = (k + 1)^r (highest lr so far)^weight_lr_power             c = w / sum of all w
        x  <- (1 - c) x + c z
        y  <- b1 x + (1 - b1) z

    State: z and v, two numbers per parameter; x is not stored, since x = (y - (1 - b1) z) / b1.

    Args:
      learning_rate: a number, or a schedule called with k and multiplied by the warm-up.
      b1: interpolation between x and z; it takes the place of momentum and must not be 0.
      mask: tree of booleans like the parameters (or a function to one): where weight decay applies.
      r: above 0, later iterates weigh more.

    Raises SubmissionError for hyperparameters out of range.

    Source: Defazio et al. (2024), arXiv:2405.15682, Algorithm 1, and the package published with it.
    """
    rule = "schedule_free_adamw"
    _expect(rule, learning_rate, warmup_steps, b1, weight_decay, weight_lr_power)
    expect(f"{rule}: b2", b2, 0, 1)
    expect(f"{rule}: eps", eps, 0)
    scaled = optax.scale_by_rms(decay=b2, eps=eps, eps_in_sqrt=False, bias_correction=True)
    inner = optax.chain(scaled, optax.add_decayed_weights(weight_decay, mask))
    return _averaged(inner, learning_rate, warmup_steps, b1, r, weight_lr_power)


def schedule_free_sgd(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    warmup_steps: Steps = 0,
    b1: float = 0.9,
    weight_decay: float = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
    r: float = 0.0,
    weight_lr_power: float = 2.0,
) -> optax.GradientTransformation:
    """Return schedule-free SGD: `schedule_free_adamw` with another step of z.

        z <- z - lr (g + weight_decay y)

    Its learning rate is 10 to 50 times that of SGD with momentum. State: z, one number per parameter.

    Source: Defazio et al. (2024), arXiv:2405.15682, eq. 3 to 5, and the package published with it.
    """
    _expect("schedule_free_sgd", learning_rate, warmup_steps, b1, weight_decay, weight_lr_power)
    inner = optax.add_decayed_weights(weight_decay, mask)
    return _averaged(inner, learning_rate, warmup_steps, b1, r, weight_lr_power)


def schedule_free_eval_params(state: OptState, params: Params) -> Params:
    """Return x, the average that is to be evaluated, from an optimizer state and the parameters y that go with it.

    The state may hold the schedule-free one anywhere (`optax.chain`, `optax.partition`); parameters that no
    schedule-free rule moves are returned as they are. Raises SubmissionError where there is none.
    """

    def is_state(node: Any) -> bool:
        return isinstance(node, ScheduleFreeState)

    found = [node for node in jax.tree.leaves(state, is_leaf=is_state) if is_state(node)]
    if not found:
        raise SubmissionError(
            "schedule_free_eval_params: the optimizer state holds no ScheduleFreeState; it must come from "
            "schedule_free_adamw or schedule_free_sgd of harness.optim"
        )
    for one in found:
        params = _map_unmasked(lambda z, y, b1=one.b1: ((y - (1 - b1) * z) / b1).astype(y.dtype), one.z, params)
    return params


def _map_unmasked(function: Callable[..., Any], z: PyTree, y: PyTree) -> PyTree:
    def is_masked(node: Any) -> bool:
        return isinstance(node, optax.MaskedNode)

    return jax.tree.map(lambda z, y: y if is_masked(z) else function(z, y), z, y, is_leaf=is_masked)


def _averaged(
    inner: optax.GradientTransformation,
    learning_rate: optax.ScalarOrSchedule,
    warmup_steps: Steps,
    b1: float,
    r: float,
    weight_lr_power: float,
) -> optax.GradientTransformation:
    """Return the transform of y around `inner`, which makes z's direction u out of the gradient.

    Putting x = (y - (1 - b1) z) / b1 into the rule leaves no difference of near-equal numbers, and nothing but z's step
    needs the old z, which XLA would have to copy before a donated state is overwritten:

        z <- z - lr u
        y <- y + c (z - y) - lr (1 - b1) (1 - c) u
    """

    def init(params: PyTree) -> ScheduleFreeState:
        dtype = jnp.result_type(jnp.float32, *(p.dtype for p in jax.tree.leaves(params)))
        return ScheduleFreeState(
            count=jnp.zeros((), jnp.int32),
            b1=jnp.array(b1, dtype),
            max_lr=jnp.zeros((), dtype),
            weight_sum=jnp.zeros((), dtype),
            z=jax.tree.map(jnp.copy, params),  # buffers of its own: the parameters may be donated
            inner=inner.init(params),
        )

    def update(grads: PyTree, state: ScheduleFreeState, params: PyTree = None) -> tuple[PyTree, ScheduleFreeState]:
        if params is None:
            raise SubmissionError("schedule-free: update() needs the parameters, which are its y")
        u, inner_state = inner.update(grads, state.inner, params)
        k, dtype = state.count, state.weight_sum.dtype
        base = learning_rate(k) if callable(learning_rate) else learning_rate
        lr = jnp.asarray(base, dtype) * jnp.minimum(1, share((k + 1).astype(dtype), larger(1, warmup_steps)))
        max_lr = jnp.maximum(state.max_lr, lr)
        w = (k + 1).astype(dtype) ** r * max_lr**weight_lr_power
        weight_sum = state.weight_sum + w
        c = w / jnp.where(weight_sum > 0, weight_sum, 1)
        z = jax.tree.map(lambda z, u: (z - lr * u).astype(z.dtype), state.z, u)
        updates = jax.tree.map(
            lambda y, z, u: (c * (z - y) - lr * (1 - b1) * (1 - c) * u).astype(y.dtype), params, z, u
        )
        return updates, ScheduleFreeState(k + 1, state.b1, max_lr, weight_sum, z, inner_state)

    return optax.GradientTransformation(init, update)


def _expect(
    rule: str,
    learning_rate: optax.ScalarOrSchedule,
    warmup_steps: Steps,
    b1: float,
    weight_decay: float,
    weight_lr_power: float,
) -> None:
    expect_rate(rule, learning_rate)
    expect(f"{rule}: warmup_steps", warmup_steps, 0, whole=True)
    expect(f"{rule}: b1", b1, 0, 1, above=True)
    expect(f"{rule}: weight_decay", weight_decay, 0)
    expect(f"{rule}: weight_lr_power", weight_lr_power, 0)
