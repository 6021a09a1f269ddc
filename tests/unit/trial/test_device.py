"""A device that is not there is trouble of the machine, and no crash of the submission."""

from __future__ import annotations

import signal
from pathlib import Path

import jax
import pytest
import written_runs

from harness.errors import MachineError
from harness.machine import backend, flags
from harness.record import run_folder
from harness.record.spec import Options
from harness.trial import EXIT_MACHINE, priming, worker


def no_plugin() -> None:
    raise AssertionError


def no_card() -> None:
    raise RuntimeError("Unable to initialize backend 'cuda': no device\nmore")


@pytest.mark.parametrize(
    ("answer", "told"), [(no_plugin, "its plugin for that is not installed; "), (no_card, "'cuda': no device; ")]
)
def test_what_is_missing_is_told(answer: object, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend.require("cpu")
    with pytest.raises(MachineError, match="it has a CPU"):
        backend.require("gpu")
    monkeypatch.setattr(jax, "local_devices", answer)
    with pytest.raises(MachineError, match=f"jax finds none here: .*{told}"):
        backend.require("gpu")


def test_a_worker_records_nothing_where_its_device_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = written_runs.replace(written_runs.SPEC, device="gpu", deterministic=False)
    path = run_folder.prepare(tmp_path, spec, Options("w", "s"))
    for module, name in ((flags, "apply"), (priming, "prime"), (backend, "configure_jax"), (signal, "signal")):
        monkeypatch.setattr(module, name, lambda *_, **__: {})
    assert worker.Work().on(path, 0.0) == EXIT_MACHINE
    assert "a GPU was asked for" in capsys.readouterr().err
    assert not (path / "result.json").exists()
