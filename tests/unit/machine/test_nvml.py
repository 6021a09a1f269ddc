"""What the record says of a card, from an NVML that this file makes up."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace

import pytest

from harness.machine import nvml
from harness.machine.nvml import energy_counter


class Error(Exception):
    """NVMLError."""


def fake(**answers) -> ModuleType:
    """Return a module like pynvml; `answers` replaces what a function returns."""
    module = ModuleType("pynvml")
    module.NVMLError, module.NVML_CLOCK_SM, module.NVML_TEMPERATURE_GPU = Error, 1, 0
    module.opened = []
    own = {
        "nvmlInit": None,
        "nvmlDeviceGetTotalEnergyConsumption": 5_000,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4,
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=os.getpid())],
        "nvmlDeviceGetClockInfo": 1800,
        "nvmlDeviceGetPowerUsage": 650_000,
        "nvmlDeviceGetTemperature": 61,
        "nvmlDeviceGetName": b"NVIDIA H200",
        "nvmlSystemGetDriverVersion": "580.1",
        "nvmlDeviceGetMaxClockInfo": 1980,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
    } | answers

    def answering(value):
        def function(*_):
            if isinstance(value, Exception):
                raise value
            return value.pop(0) if isinstance(value, list) and value and isinstance(value[0], list) else value

        return function

    for name, value in own.items():
        setattr(module, name, answering(value))
    module.nvmlDeviceGetHandleByIndex = lambda i: module.opened.append(i) or i
    module.nvmlDeviceGetHandleByUUID = lambda uuid: module.opened.append(uuid) or uuid
    return module


@pytest.fixture(autouse=True)
def forget():
    nvml.card.cache_clear()
    yield
    nvml.card.cache_clear()


def summary(**answers):
    watch = nvml.Watch(nvml.Card(fake(**answers), "0"))
    for _ in range(4):
        watch.look()
    return watch.summary()


def test_a_good_card_is_described_without_a_warning():
    seen = summary()
    assert (seen["name"], seen["driver"], seen["max_sm_clock_mhz"], seen["power_limit_w"]) == (
        "NVIDIA H200", "580.1", 1980, 700.0,
    )  # fmt: skip
    assert seen["power_w"] == {"min": 650.0, "median": 650.0, "max": 650.0}
    assert seen["slowed"] == {"power limit": 1.0}
    assert (seen["looks"], seen["other_processes"], seen["warnings"]) == (4, 0, [])


def test_a_hot_card_is_warned_of():
    seen = summary(nvmlDeviceGetCurrentClocksThrottleReasons=0x20 | 0x40)
    assert seen["slowed"] == {"too hot, by the driver": 1.0, "too hot, by the hardware": 1.0}
    assert seen["warnings"][0] == (
        "the card was slowed down (too hot, by the driver) in 4 of 4 looks; its times are doubtful"
    )


@pytest.mark.parametrize(
    ("pids", "others"),
    [([os.getpid()], 0), ([os.getpid(), 1], 1), ([77_777_777], 0), ([77_777_777, 1, 2], 2), ([], 0)],
    ids=["alone", "one more", "alone in a container", "two more, in a container", "none seen"],
)
def test_other_processes_are_counted_and_warned_of(pids, others):
    seen = summary(nvmlDeviceGetComputeRunningProcesses=[SimpleNamespace(pid=pid) for pid in pids])
    assert seen["other_processes"] == others
    assert any(f"{others} other process(es)" in warning for warning in seen["warnings"]) == bool(others)


@pytest.mark.parametrize(
    ("visible", "handle"), [(None, 0), ("1", 1), ("3,1", 3), ("GPU-abc,GPU-def", "GPU-abc"), ("MIG-x", "MIG-x")]
)
def test_the_card_is_the_first_visible_one(monkeypatch, visible, handle):
    module = fake()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert nvml.card() is not None
    assert module.opened == [handle]


def test_energy_is_in_joules(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", fake())
    assert energy_counter("gpu")() == 5.0
    assert energy_counter("cpu")() is None


def test_without_nvml_nothing_is_told_and_nothing_fails(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_counter("gpu")() is None
    assert "nvidia-ml-py is not installed" in capsys.readouterr().err
    nvml.card.cache_clear()
    monkeypatch.setitem(sys.modules, "pynvml", fake(nvmlDeviceGetTotalEnergyConsumption=Error("Not Supported")))
    assert energy_counter("gpu")() is None
    assert "Not Supported" in capsys.readouterr().err
    watch = nvml.Watch(None)
    watch.look()
    assert watch.summary() is None
