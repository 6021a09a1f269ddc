"""Checkpoints: what is loaded is what was saved, bit for bit, and only the newest is kept."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.trial.checkpoints import Checkpoints


def make_state(seed: int) -> dict[str, jax.Array]:
    a, b = jax.random.split(jax.random.key(seed))
    return {
        "params['layers'][0]": jax.random.normal(a, (3, 2)),
        "params['a.b/c']": jnp.float32(-0.0),
        "opt_state[0]['m']": jax.random.normal(b, (5,), jnp.bfloat16),
        "opt_state[0]['count']": jnp.int32(seed),
        "opt_state[1].empty": jnp.zeros((0, 4)),
        "opt_state[2]": jnp.array([jnp.nan, jnp.inf, 1e-45], jnp.float32),
        "opt_state[3]": jnp.array([True, False]),
        "step": jnp.int32(seed),
    }


def same_bits(one: dict[str, jax.Array], other: dict[str, jax.Array]) -> bool:
    return one.keys() == other.keys() and all(
        a.dtype == other[name].dtype and np.asarray(a).tobytes() == np.asarray(other[name]).tobytes()
        for name, a in one.items()
    )


BOOK = {"step": 5, "sizes": {"32": 5}, "loss": [0.1, 1 / 3, None], "text": "ü", "flag": True, "none": None}


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    yield made
    made.close()


def test_nothing_saved(checkpoints):
    assert checkpoints.load(make_state(0)) is None


def test_the_newest_comes_back_bit_for_bit_and_alone(tmp_path, checkpoints):
    checkpoints.save(3, make_state(3), {"step": 3})
    checkpoints.save(5, make_state(5), BOOK)
    again = Checkpoints(tmp_path / "checkpoints")  # another process would
    state, host = again.load(make_state(0))
    again.close()
    assert same_bits(state, make_state(5))
    assert not same_bits(state, make_state(3))
    assert host == BOOK
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()] == ["5"]


def test_saving_a_step_again_replaces_it(checkpoints):
    checkpoints.save(5, make_state(5), {"by": 1})
    checkpoints.save(5, make_state(6), {"by": 2})
    state, host = checkpoints.load(make_state(0))
    assert same_bits(state, make_state(6))
    assert host == {"by": 2}


def test_a_save_that_was_cut_off_leaves_the_one_before(tmp_path):
    """Killed while saving: what orbax leaves under a temporary name is neither loaded nor in the way."""
    first = Checkpoints(tmp_path / "checkpoints")
    first.save(3, make_state(3), BOOK)
    first.close()
    cut = tmp_path / "checkpoints" / "5.orbax-checkpoint-tmp"
    cut.mkdir()
    (cut / "half").write_text("written so far")
    again = Checkpoints(tmp_path / "checkpoints")
    assert same_bits(again.load(make_state(0))[0], make_state(3))
    again.save(5, make_state(5), {"step": 5})
    assert same_bits(again.load(make_state(0))[0], make_state(5))
    again.close()
