"""Whether this machine can run the suite: versions, devices, space, data, targets, folders, and what to do about it.

Needs no jax in its own process: what jax sees is asked of a subprocess with a time limit, so that a broken driver
cannot hang it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.campaign.device import resolve_device
from harness.data import store
from harness.data.specs import DATASETS
from harness.errors import ConfigError, HarnessError
from harness.machine import children, flags, hardware, load
from harness.machine.cache import cache_folder
from harness.machine.flags import Device
from harness.program import confinement, discovery
from harness.program.discovery import Folder
from harness.record.spec import DeviceConfig, RunSpec
from harness.report import listing
from harness.report.tables import print_line, print_table
from harness.search import targets

OK, BROKEN, DATA_MISSING = 0, 2, 3  # exit codes

_PROBE = "import json, jax; print(json.dumps([d.device_kind for d in jax.local_devices()]))"
_PROBE_S = 120.0  # a first look at a GPU may take a while
_CALIBRATION_S = 1800.0
_LITTLE_SPACE = 2**30  # bytes; checkpoints and the compile cache of a small suite
_CHOICES = {"cache": "the environment variable HARNESS_CACHE", "data": "the environment variable HARNESS_DATA"}


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: what was looked at and what was found.

    `state` says whether it stands in the way: "data" is a missing data set, "broken" anything else that a run needs.
    `hint` is what to do about it.
    """

    name: str
    found: str
    state: Literal["ok", "note", "data", "broken"] = "ok"
    hint: str = ""


def run(run: RunSpec, calibrate: bool) -> int:
    """Print what was found and what to do; return the exit code. See `look`."""
    found = look(run, calibrate, _print)
    todo = hints(found)
    print_line("\nto do" if todo else "\nnothing to do", style="bold")
    for hint in todo:
        print_line(f"  {hint}")
    return exit_code(found)


def look(
    run: RunSpec, calibrate: bool, on_section: Callable[[str, list[Finding]], object] = lambda title, findings: None
) -> dict[str, list[Finding]]:
    """Return the findings by section, each of which is handed to `on_section` as soon as it is there.

    With `calibrate`, measure the baseline's step time on every workload of `run` too.
    """
    workloads, unusable = _workloads(run)
    asked = f"workloads of the suite {run.suite.name}" if run.workload is None else "workloads asked for"
    sections: dict[str, Callable[[], list[Finding]]] = {
        "versions": _versions,
        "machine": lambda: [*_machine(), *_devices(run.device), *_space({"run folders": Path(run.out)})],
        asked: lambda: [*unusable, *_targets(run, workloads), *_data(workloads)],
        "all that was found": lambda: [*_folders("workloads"), *_folders("submissions")],
    }
    if calibrate:
        sections["the baseline's step"] = lambda: _baseline(run, workloads)
    found = {}
    for title, findings in sections.items():
        found[title] = findings()
        on_section(title, found[title])
    return found


def hints(found: Mapping[str, Sequence[Finding]]) -> list[str]:
    """Return what there is to do, each thing once."""
    return list(dict.fromkeys(f"{f.name}: {f.hint}" for findings in found.values() for f in findings if f.hint))


def exit_code(found: Mapping[str, Sequence[Finding]]) -> int:
    """Return 0 where all is well, 2 for something broken, 3 for missing data."""
    states = {f.state for findings in found.values() for f in findings}
    return BROKEN if "broken" in states else DATA_MISSING if "data" in states else OK


def as_json(found: Mapping[str, Sequence[Finding]]) -> dict[str, Any]:
    """Return what `harness doctor --json` prints."""
    rows = [{"section": title, **asdict(finding)} for title, findings in found.items() for finding in findings]
    return {"findings": rows, "to_do": hints(found)}


def _versions() -> list[Finding]:
    found = [Finding("python", sys.version.split()[0])]
    for name, version in hardware.packages().items():
        if version:
            found.append(Finding(name, version))
        elif name == "training-harness":
            found.append(Finding(name, "run from its sources"))
        else:
            hint = "install it; requirements.lock holds versions that were tested together"
            found.append(Finding(name, "missing", "broken", hint))
    return found


def _machine() -> list[Finding]:
    machine = hardware.machine()
    memory = f"{machine['memory_bytes'] / 2**30:.1f} GiB"
    return [
        Finding("processor", f"{machine['cpu']}, {machine['cores']} usable core(s)"),
        Finding("memory", memory),
        Finding("system", machine["os"]),
        *_load(),
        _confinement(),
    ]


def _load() -> list[Finding]:
    """What others do on this machine; nothing where it does not tell."""
    if (used := load.others()) is None:
        return []
    told = load.warning(used) or ""
    return [Finding("load", load.told(used), "note" if told else "ok", told)]


def _confinement() -> Finding:
    """What holds the processes that import a submission, on this kernel."""
    held = confinement.kernel()
    whole = bool(held["seccomp"]) and int(held["landlock"]) >= confinement.WHOLE
    hint = "" if whole else "harness/SECURITY.md says what a submission can do here; import those that you trust"
    return Finding("confinement", confinement.told(held), "ok" if whole else "note", hint)


def _devices(config: DeviceConfig) -> list[Finding]:
    """What a trial would run on, as the configuration says and as jax sees it."""
    try:
        platform = resolve_device(config)
    except ConfigError as error:
        return [Finding("device", "not there", "broken", str(error))]
    name = f"jax devices ({platform})"
    environment = children.environment() | {
        "JAX_PLATFORMS": flags.PLATFORMS[platform],
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    answer = _ask([sys.executable, "-c", _PROBE], environment, _PROBE_S)
    if isinstance(answer, str):
        other = "; device=cpu does without a GPU" if platform == "gpu" else ""
        return [Finding(name, answer, "broken", f"see what `python -c 'import jax; jax.devices()'` says{other}")]
    findings = [Finding(name, ", ".join(map(str, answer)))]
    if platform == "cpu" and config.platform == "auto" and shutil.which("nvidia-smi"):
        findings.append(Finding("GPU", "not used", "note", _why_no_gpu()))
    return findings


def _why_no_gpu() -> str:
    try:
        resolve_device(DeviceConfig("gpu"))
    except ConfigError as error:
        return str(error)
    return ""


def _space(places: dict[str, Path]) -> list[Finding]:
    findings = []
    places = places | {"cache": cache_folder(), "data": store.root()}
    for name, place in places.items():
        there = place.resolve()
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        found = f"{place}, {free / 2**30:.1f} GiB free"
        if not os.access(there, os.W_OK):
            option = _CHOICES.get(name, "out=DIR")
            findings.append(Finding(name, f"{found}, not writable", "broken", f"choose another folder with {option}"))
        elif free < _LITTLE_SPACE:
            findings.append(Finding(name, found, "note", "little space is left"))
        else:
            findings.append(Finding(name, found))
    return findings


def _workloads(run: RunSpec) -> tuple[list[Folder], list[Finding]]:
    """The workloads that were asked for, and a finding on each that cannot be used."""
    names = run.suite.workloads if run.workload is None else [n.strip() for n in run.workload.split(",")]
    usable, findings = [], []
    for name in names:
        try:
            folder = discovery.find("workloads", name)
            discovery.workload_info(folder)
        except HarnessError as error:
            findings.append(Finding(name, "unusable", "broken", str(error)))
        else:
            usable.append(folder)
    return usable, findings


def _targets(run: RunSpec, workloads: Iterable[Folder]) -> list[Finding]:
    findings = []
    for folder in workloads:
        info = discovery.workload_info(folder)
        found = f"{info.metric} {listing.target_text(info)}" if info.target.value is not None else "no target"
        if info.target.value is None:
            hint = f"set its target with `{targets.set_target_command(info)}`, or choose stop=horizon"
            state: Literal["broken", "note"] = "broken" if run.rules.stop == "target" else "note"
            findings.append(Finding(folder.name, found, state, hint))
        elif info.target.version == 0:
            hint = (
                f"times to a provisional target are no leaderboard entry; `{targets.set_target_command(info)}` sets it"
            )
            findings.append(Finding(folder.name, found, "note", hint))
        else:
            findings.append(Finding(folder.name, found))
    return findings


def _data(workloads: Iterable[Folder]) -> list[Finding]:
    names = sorted({name for folder in workloads for name in discovery.workload_info(folder).datasets})
    return [_data_set(name) for name in names]


def _data_set(name: str) -> Finding:
    label = f"data set {name}"
    if name not in DATASETS:
        return Finding(label, "unknown to this harness", "data", "a newer harness may know it")
    what = DATASETS[name].what
    state, why = store.state(name)
    if state in ("missing", "partial", "damaged"):
        return Finding(label, f"{state}: {what}", "data", why)
    return Finding(label, f"{what}: {state if state == 'embedded' else store.root() / name}")


def _folders(kind: discovery.Kind) -> list[Finding]:
    folders = discovery.find_all(kind).values()
    broken = {folder.name: reason for folder in folders if (reason := listing.problem(folder))}
    good = [folder.name for folder in folders if folder.name not in broken]
    findings = [Finding(kind, ", ".join(good) or "none")]
    findings += [Finding(name, f"a broken {kind[:-1]}", "note", reason) for name, reason in broken.items()]
    return findings


def _baseline(run: RunSpec, workloads: Iterable[Folder]) -> list[Finding]:
    """What the baseline's step takes here on each workload, beside the reference machine."""
    try:
        platform = resolve_device(run.device)
    except ConfigError:
        return []  # told already
    findings = []
    for folder in workloads:
        print_line(f"measuring the baseline's step on {folder.name} ...")
        findings.append(_measured(folder, platform))
    return findings


def _measured(folder: Folder, platform: Device) -> Finding:
    """Measure the baseline's step in a process of its own."""
    environment = children.environment() | flags.environment(platform, deterministic=False)
    command = children.command("harness.trial.yardstick", str(folder.path), platform)
    answer = _ask(command, environment, _CALIBRATION_S)
    seconds = answer.get("baseline_step_s") if isinstance(answer, dict) else None
    if not isinstance(seconds, int | float) or not 0 < seconds < _CALIBRATION_S:
        reason = answer if isinstance(answer, str) else f"its answer was {answer!r}"
        return Finding(folder.name, "not measured", "broken", f"the measurement failed: {reason}")
    reference = discovery.workload_info(folder).target.reference_step_s
    beside = f", {seconds / reference:.2f} times the reference machine's" if reference else ""
    return Finding(folder.name, _milliseconds(seconds) + beside)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.3f} ms per step"


def _ask(command: list[str], environment: dict[str, str], timeout_s: float) -> dict[str, object] | list[object] | str:
    """Return the JSON value on the last line that a command prints, or a string saying why there is none."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {timeout_s:.0f} s"
    except OSError as error:
        return str(error)
    errors = done.stderr.strip().splitlines()
    if done.returncode != 0:
        return errors[-1] if errors else f"exit code {done.returncode}"
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return "it printed no JSON"
    return answer if isinstance(answer, dict | list) else "it printed no JSON object"


def _print(title: str, findings: Iterable[Finding]) -> None:
    print_line(f"\n{title}", style="bold")
    marks = {"ok": "", "note": "note", "data": "missing", "broken": "BROKEN"}
    print_table(["what", "found", "state"], ([f.name, f.found, marks[f.state]] for f in findings))
