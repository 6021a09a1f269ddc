"""Checkpoints: what is loaded is what was saved, bit for bit, and only the newest is kept."""

from __future__ import annotations

import errno
import gc
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from harness.trial.checkpoints import Checkpoints, DamagedError


@pytest.fixture(autouse=True)
def collected():
    yield
    gc.collect()


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


def test_a_save_that_fails_leaves_the_one_before_and_nothing_else(tmp_path, monkeypatch):
    from orbax.checkpoint import v1 as ocp

    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(1, {"a": jnp.arange(5.0)}, {"step": 1})
    (tmp_path / "checkpoints/2.orbax-checkpoint-tmp").mkdir()

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: No space left on device")

    monkeypatch.setattr(ocp.training.Checkpointer, "save", full)
    with pytest.raises(ValueError, match="No space left"):
        checkpoints.save(2, {"a": jnp.arange(5.0)}, {"step": 2})
    checkpoints.close()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    arrays, host = Checkpoints(tmp_path / "checkpoints").load({"a": jnp.zeros(5)})
    assert (host, arrays["a"].tolist()) == ({"step": 1}, [0.0, 1.0, 2.0, 3.0, 4.0])


def test_damage_to_any_file_is_noticed_or_without_effect(tmp_path, checkpoints):
    checkpoints.save(5, make_state(5), BOOK)
    checkpoints.close()
    refused = set()
    files = [file for file in (tmp_path / "checkpoints").rglob("*") if file.is_file()]
    for file in files:
        whole = file.read_bytes()
        turned = bytes([*whole[: len(whole) // 2], whole[len(whole) // 2] ^ 8, *whole[len(whole) // 2 + 1 :]])
        for hurt in (whole[: len(whole) // 2], b"", turned):
            file.write_bytes(hurt)
            try:
                found = Checkpoints(tmp_path / "checkpoints").load(make_state(0))
            except DamagedError:
                refused.add(file.name)
            else:
                assert found is None or (same_bits(found[0], make_state(5)) and found[1] == BOOK), file.name
            file.write_bytes(whole)
    assert len(refused) > 1
    assert same_bits(Checkpoints(tmp_path / "checkpoints").load(make_state(0))[0], make_state(5)), "whole again"


def test_a_number_that_was_changed_beside_the_arrays_is_noticed(tmp_path, checkpoints):
    checkpoints.save(5, make_state(5), {"step": 5, "told": 1234567})
    checkpoints.close()
    held = [f for f in (tmp_path / "checkpoints").rglob("*") if f.is_file() and b"1234567" in f.read_bytes()]
    assert held
    for file in held:
        file.write_bytes(file.read_bytes().replace(b"1234567", b"1234568"))
    with pytest.raises(DamagedError, match="its hash is another one"):
        Checkpoints(tmp_path / "checkpoints").load(make_state(0))


def test_what_the_machine_cannot_read_is_not_damaged(tmp_path, checkpoints, monkeypatch):
    checkpoints.save(5, make_state(5), BOOK)
    checkpoints.close()

    def refuse(self, *_):
        raise OSError(errno.EMFILE, "Too many open files", str(self))

    def fail(*_):
        raise ValueError("INTERNAL: Too many open files")

    again = Checkpoints(tmp_path / "checkpoints")
    monkeypatch.setattr(Checkpoints, "_read", fail)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        again.load(make_state(0))


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
