"""NadamW beside numbers worked by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from harness.optim.nadamw import nadamw, scale_by_nadam


def test_nadamw_first_two_steps_by_hand():
    """b1 = 0.5, b2 = 0.75, gradients 2 and 4, lr 0.1, decay 0.1 on a only."""
    rule = nadamw(0.1, b1=0.5, b2=0.75, eps=0.0, weight_decay=0.1, mask={"a": True, "b": False})
    params = {"a": jnp.array([10.0]), "b": jnp.array([10.0])}
    state = rule.init(params)
    grads = {"a": jnp.array([2.0]), "b": jnp.array([2.0])}
    updates, state = rule.update(grads, state, params)
    # m = 1, v = 1; u = (0.5 x 1 + 0.5 x 2) / 0.5 = 3; vh = 1 / 0.25 = 4; 3 / 2 = 1.5
    np.testing.assert_allclose(updates["a"], [-0.1 * (1.5 + 0.1 * 10)], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [-0.1 * 1.5], rtol=1e-6)
    updates, state = rule.update({"a": jnp.array([4.0]), "b": jnp.array([4.0])}, state, params)
    # m = 2.5, v = 4.75; u = (0.5 x 2.5 + 0.5 x 4) / 0.75 = 13/3; vh = 4.75 / 0.4375
    expected = (13 / 3) / (4.75 / 0.4375) ** 0.5
    np.testing.assert_allclose(updates["b"], [-0.1 * expected], rtol=1e-6)


def test_epsilon_is_outside_of_the_root_after_the_correction():
    rule = scale_by_nadam(0.0, 0.0, eps=1.0)
    updates, _ = rule.update(jnp.array([3.0]), rule.init(jnp.zeros(1)))
    np.testing.assert_allclose(updates, [3 / (3 + 1)], rtol=1e-6)
