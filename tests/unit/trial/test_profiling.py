"""What is read from a trace of XLA's profiler, and that a trial with a trace is the same as one without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from harness.campaign.launch import profiling as launch
from harness.errors import HarnessError
from harness.record import run_folder
from harness.trial import profiling

CALLS, LOOPS = 5, 3


@pytest.mark.filterwarnings("ignore:builtin type event_stats has no __module__:DeprecationWarning")  # of jax 0.11
def test_operations_of_a_real_trace(tmp_path: Path) -> None:
    def work(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, LOOPS, lambda _, x: jnp.sin(x @ w), x)

    x = jnp.ones((200, 200))
    compiled = jax.jit(work).lower(x, x).compile()
    jax.block_until_ready(compiled(x, x))
    with jax.profiler.trace(tmp_path):
        jax.block_until_ready([compiled(x, x) for _ in range(CALLS)])
    (file,) = tmp_path.rglob("*.xplane.pb")
    found = profiling.operations(jax.profiler.ProfileData.from_file(str(file)), compiled.as_text())
    counts = {one.source.rpartition("/")[2]: one.count for one in found}
    assert counts["dot_general"] == counts["sin"] == CALLS * LOOPS
    assert "while" not in {one.kind for one in found}, "its time is that of the operations within"
    assert sum(one.share for one in found) == pytest.approx(1.0)
    assert [one.seconds for one in found] == sorted((one.seconds for one in found), reverse=True)
    assert all(one.kind in compiled.as_text() for one in found)


def test_a_trial_is_traced_and_stays_as_it_is(
    make_trial: Callable[..., Path], run_worker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_trial("quadratic", "adamw", max_steps=30)
    before = run_worker(path)
    held = {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}
    found = launch.profile(path)
    assert found["steps"] == profiling.STEPS and found["wall_s"] > 0
    assert 0 < len(found["operations"]) <= profiling.DEAREST
    assert all(one["count"] % found["steps"] == 0 for one in found["operations"]), "each step does the same"
    assert Path(found["trace"]).is_relative_to(path / profiling.FOLDER) and Path(found["trace"]).is_file()
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()} == held
    assert run_folder.read_trial(path) == before
    assert run_folder.find_trials(path.parents[2]) == [path]


def test_no_trace_is_told(make_trial: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = make_trial("quadratic", "adamw", max_steps=30)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "empty"))
    with pytest.raises(HarnessError, match=r"no trace: .* is not in .*; plan the trial anew"):
        launch.profile(path)
