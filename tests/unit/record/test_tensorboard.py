"""The TensorBoard view, read back with TensorBoard's own readers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from harness.record import run_folder
from harness.record.tensorboard import EventView, points, rebuild
from harness.trial import loop
from harness.trial.clock import Ledger

DESCRIBED = ("_hparams_/session_start_info", "spec")  # what the trial is, beside its scalars


def attempt(resume_step: int, number: int = 1) -> dict[str, Any]:
    return {"v": 1, "event": "attempt", "attempt": number, "resume_step": resume_step}


def chunk(step: int, losses: list[float | None], *, t: float = 0.0) -> dict[str, Any]:
    return {
        "v": 1, "event": "chunk", "t": t, "step": step, "examples": 32 * step, "seconds": 0.5,
        "metrics": {"loss": losses, "norm": [2.0] * len(losses)},
        "scored": {"wall": step / 10, "cpu": step / 5, "calibrated": step / 20, "energy": None},
        "spent": {"wall": step / 10, "cpu": step / 5, "calibrated": step / 20, "energy": None},
    }  # fmt: skip


def measurement(step: int, loss: float | None) -> dict[str, Any]:
    return {"v": 1, "event": "measurement", "step": step, "metrics": {"loss": loss}, "scored": {}, "met": False}


def view(folder: Path, events: list[dict[str, Any]]) -> None:
    opened = EventView(folder)
    for event in events:
        opened.add(event)
    opened.close()


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar as `tensorboard` reads it: step and value by tag."""
    reader = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=True)
    reader.Reload()
    found = {tag: [(s.step, s.value) for s in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}
    assert read_as_the_server_does(folder) == {tag: [s for s, _ in series] for tag, series in found.items()}
    return found


def read_as_the_server_does(folder: Path) -> dict[str, list[int]]:
    reader = PluginEventAccumulator(str(folder / "tensorboard"), size_guidance={"tensors": 0})
    reader.Reload()
    tensors = {tag: reader.Tensors(tag) for tag in reader.Tags()["tensors"] if tag not in DESCRIBED}
    assert all(make_ndarray(t.tensor_proto).shape == () for series in tensors.values() for t in series)
    return {tag: [t.step for t in series] for tag, series in tensors.items()}


def final(step: int) -> dict[str, Any]:
    metrics = {"validation": {"loss": 0.5}, "test": {"loss": 0.25}}
    return {"v": 1, "event": "final", "step": step, "metrics": metrics}


def test_what_the_loop_writes_is_shown(make_trial) -> None:
    """All of it, to the last step: the events that are made by hand below have no key that it does not write."""
    path = make_trial("quadratic", "adamw", stop="horizon", max_steps=150)
    spec, options = run_folder.read_spec(path)
    with run_folder.hold(path) as folder:
        result = loop.run_trial(spec, options, folder, Ledger(), lambda: False)
    events = run_folder.read_events(path)
    view(path, events)
    found = read(path)
    losses = [loss for e in events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]
    assert [value for _, value in found["train/loss"]] == pytest.approx(losses)
    assert [step for step, _ in found["train/loss"]] == list(range(1, 151))
    assert result.validation
    assert result.test
    for split, metrics in (("validation", result.validation), ("test", result.test)):
        for name, value in metrics.items():
            assert found[f"final_{split}/{name}"] == [(150, pytest.approx(value))]
    measured = [(e["step"], pytest.approx(e["metrics"]["loss"])) for e in events if e["event"] == "measurement"]
    assert measured
    assert found["validation/loss"] == measured
    assert {"clock/wall", "clock/cpu", "clock/calibrated", "steps_per_second"} <= set(found)
    written: dict[str, set[str]] = {}
    for event in events:
        written.setdefault(event["event"], set()).update(event)
    for made in (attempt(0), chunk(1, [1.0]), measurement(1, 1.0), final(1)):
        assert set(made) <= written[made["event"]]


def test_what_is_written(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(2, [4.0, 3.0]), chunk(4, [2.0, 1.0]), measurement(4, 1.5), final(4)])
    found = read(tmp_path)
    assert found["train/loss"] == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert found["train/norm"] == [(step, 2.0) for step in (1, 2, 3, 4)]
    assert found["validation/loss"] == [(4, 1.5)]
    assert found["steps_per_second"] == [(2, 4.0), (4, 4.0)]
    assert found["clock/wall"] == [(2, pytest.approx(0.2)), (4, pytest.approx(0.4))]
    assert found["final_validation/loss"] == [(4, 0.5)]
    assert found["final_test/loss"] == [(4, 0.25)]
    assert "clock/energy" not in found  # not measured


def test_null_is_nan(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(2, [4.0, None]), measurement(2, None)])
    found = read(tmp_path)
    assert found["train/loss"][0] == (1, 4.0)
    assert math.isnan(found["train/loss"][1][1])
    assert math.isnan(found["validation/loss"][0][1])


def test_what_a_resumed_attempt_does_again_supersedes(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(2, [4.0, 3.0]), chunk(4, [2.0, 1.0]), measurement(4, 1.5)])
    view(tmp_path, [attempt(2, 2), chunk(3, [2.5])])
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    found = read(tmp_path)
    assert found["train/loss"] == [(1, 4.0), (2, 3.0), (3, 2.5)]
    assert found["clock/wall"] == [(2, pytest.approx(0.2)), (3, pytest.approx(0.3))]
    assert found.get("validation/loss", []) == []


def test_an_attempt_without_a_checkpoint_starts_over(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(2, [4.0, 3.0])])
    view(tmp_path, [attempt(0, 2), chunk(1, [5.0])])
    assert read(tmp_path)["train/loss"] == [(1, 5.0)]


def test_a_file_cut_short_by_a_kill_does_not_hide_the_next(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(2, [4.0, 3.0]), chunk(4, [2.0, 1.0])])
    (cut,) = (tmp_path / "tensorboard").iterdir()
    cut.write_bytes(cut.read_bytes()[:-7])
    view(tmp_path, [attempt(2, 2), chunk(4, [2.5, 1.5])])
    assert read(tmp_path)["train/loss"] == [(1, 4.0), (2, 3.0), (3, 2.5), (4, 1.5)]


def test_events_before_a_checkpoint_are_on_the_disk_at_once(tmp_path: Path) -> None:
    opened = EventView(tmp_path)
    for event in (attempt(0), chunk(2, [4.0, 3.0]), {"v": 1, "event": "checkpoint", "step": 2}):
        opened.add(event)
    try:
        assert read(tmp_path)["train/loss"] == [(1, 4.0), (2, 3.0)]
    finally:
        opened.close()


def test_relative_time_is_that_of_the_log(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(1, [4.0], t=10.0), chunk(2, [3.0], t=12.5)])
    reader = EventAccumulator(str(tmp_path / "tensorboard"))
    reader.Reload()
    first, second = reader.Scalars("train/loss")
    assert second.wall_time - first.wall_time == pytest.approx(2.5)


def test_rebuild_replaces_the_view_with_what_the_log_says(tmp_path: Path) -> None:
    view(tmp_path, [attempt(0), chunk(2, [9.0, 9.0])])
    events = [attempt(0), chunk(2, [4.0, 3.0]), chunk(4, [2.0, 1.0]), attempt(2, 2), chunk(3, [2.5])]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    rebuild(tmp_path)
    rebuild(tmp_path)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert read(tmp_path)["train/loss"] == [(1, 4.0), (2, 3.0), (3, 2.5)]


def test_other_events_hold_no_points() -> None:
    assert list(points({"event": "phase", "phase": "train"})) == []


def test_what_a_trial_is_stands_in_its_tabs(make_trial) -> None:
    from tensorboard.plugins.hparams import metadata

    path = make_trial("quadratic", "adamw", max_steps=2)
    spec, _ = run_folder.read_spec(path)
    EventView(path).close()
    reader = PluginEventAccumulator(str(path / "tensorboard"), size_guidance={"tensors": 0})
    reader.Reload()
    content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = metadata.parse_session_start_info_plugin_data(content)
    assert shown.hparams["submission"].string_value == spec.submission
    assert set(spec.hyperparameters) <= set(shown.hparams)
    (text,) = reader.Tensors("spec")
    assert f"| workload | {spec.workload} |" in make_ndarray(text.tensor_proto).item().decode()
