"""Programs and evaluations as a process that imports no submission finds them (`harness.trial.examination`)."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.machine import children, hardware
from harness.program.manifest import Way
from harness.record import plain_data
from harness.trial.examination_messages import Case, Request
from harness.verify import by_sources
from harness.verify.findings import Finding, judged, near, same, unchecked
from harness.verify.records import Record

TOLERANCE = 1e-3
"""Of a metric, or of 1 where that is larger: what another processor or jax may make of the same variables."""
EVALUATED = "evaluated.npz"
METRICS = "validation and test"


def look(records: Sequence[Record]) -> list[list[Finding]]:
    """Return what is found of each record. Raises HarnessError where the process ends before its time."""
    found: list[list[Finding]] = [[] for _ in records]
    cases: dict[tuple[Any, ...], list[int]] = {}
    for number, record in enumerate(records):
        spec = record.trial.spec
        own, program = record.program("workload"), record.program("submission")
        if spec.program is None:
            found[number].append(unchecked("program", "programs", "the record is older than programs"))
        elif own is None or program is None:
            kind = "workload" if own is None else "submission"
            why = f"the {kind}'s is not in {record.programs}; `harness plan` exports it, or verify a pack"
            found[number].append(unchecked("program", "programs", why))
        else:
            key = spec.device, spec.deterministic, own, program, spec.variant, _way(record)
            cases.setdefault(key, []).append(number)
    for device, deterministic in dict.fromkeys(key[:2] for key in cases):
        keys = [key for key in cases if key[:2] == (device, deterministic)]
        there = device == "cpu" or bool(hardware.run("nvidia-smi", "-L"))
        asked = tuple(_case(records, key, cases[key], there) for key in keys)
        request = Request(device if there else "cpu", deterministic, asked)
        machine: dict[str, Any] = {}
        for answer in _answers(request):
            machine = answer.get("machine", machine)
            if "case" in answer:
                numbers = cases[keys[answer["case"]]]
                for number in numbers:
                    found[number] += _findings(records[number], answer, machine)
        for key in keys:
            for number in cases[key]:
                found[number] += _left_open(records[number], found[number], there)
    return found


def _case(records: Sequence[Record], key: tuple[Any, ...], numbers: Sequence[int], there: bool) -> Case:
    _, _, own, program, variant, way = key
    first = records[numbers[0]]
    home = first.home if first.info is not None and there else None
    kept = [records[n] for n in numbers if home is not None and (records[n].trial.path / EVALUATED).is_file()]
    folders = tuple(str(record.trial.path) for record in kept if not by_sources.lacking(record))
    return Case(str(own), str(program), str(home.path) if home else None, variant, way, folders)


def _way(record: Record) -> Way:
    choices = (record.trial.result.fingerprint.get("choices") or {}) if record.trial.result else {}
    return "cudnn" if any(str(said).startswith("cudnn") for said in choices.values()) else "xla"


def _answers(request: Request) -> Iterator[dict[str, Any]]:
    """Yield what the process answers."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            children.command("harness.trial.examination"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
            env=children.environment(),
        )  # fmt: skip
        try:
            said, _ = process.communicate(json.dumps(plain_data.to_plain(request)).encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
        lines = [json.loads(line) for line in said.splitlines()]
        if not lines or "end" not in lines[-1]:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
            raise HarnessError(f"the process that looks at programs ended, exit code {process.returncode}: {last[0]}")
    yield from lines


def _findings(record: Record, answer: Mapping[str, Any], machine: Mapping[str, Any]) -> Iterator[Finding]:
    result = record.trial.result
    if "verdict" in answer:
        yield Finding("program", answer["what"], answer["verdict"], answer["text"])
    elif "cost" in answer and result is not None and result.cost:
        for size, cost in result.cost.items():
            told = answer["cost"].get(size, {})
            yield near(
                "program", f"products of step_{size}", told.get("products"), _number(cost.get("products")), "result"
            )
        missing = [line for line in answer["flagged"] if line not in result.flagged]
        yield judged("program", "flagged", not missing, f"the result leaves out: {'; '.join(missing)}")
    elif answer.get("folder") == str(record.trial.path):
        if "error" in answer:
            yield Finding("metrics", "what was evaluated", "differs", answer["error"])
        else:
            yield from _metrics(record, answer, machine)


def _metrics(record: Record, answer: Mapping[str, Any], machine: Mapping[str, Any]) -> Iterator[Finding]:
    trial, result = record.trial, record.trial.result
    assert result is not None
    yield same("metrics", "hash of what was evaluated", result.evaluated, answer["sha256"], EVALUATED)
    odd = differing(result.fingerprint, machine)
    bits = not odd
    last = trial.measurements[-1] if trial.measurements and trial.measurements[-1].step == result.steps else None
    told = {"validation_slice": last.metrics if last else None, "validation": result.validation, "test": result.test}
    how = "the same bits" if bits else f"within {TOLERANCE:g}, since {odd} is another here"
    for split, metrics in told.items():
        if metrics is None:
            yield unchecked("metrics", split, "the record has none at the last step")
            continue
        found = answer["metrics"][split]
        wrong = [name for name in metrics | found if not close(metrics.get(name), found.get(name), bits)]
        text = ", ".join(f"{n}: expected {metrics.get(n)!r}, found {found.get(n)!r}" for n in wrong)
        fine = Finding("metrics", split, "ok", how)
        yield Finding("metrics", split, "differs", f"{text} ({how} asked for)") if wrong else fine


def close(expected: float | None, found: float | None, bits: bool, tolerance: float = TOLERANCE) -> bool:
    """Whether a metric is what it was: to the bit, or within a tolerance of it or of 1."""
    if bits or expected is None or found is None:
        return expected == found
    return abs(expected - found) <= tolerance * max(1.0, abs(expected))


def differing(held: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Return what of machine and versions, which decide bits, is another one here; empty where nothing is."""
    names = ("cpu", "cores") if machine.get("platform") == "cpu" else ("device",)
    for name in ("platform", *names):
        if held.get(name) != machine.get(name):
            return f"{name} of the machine"
    for name in ("jax", "jaxlib"):
        if (held.get("packages") or {}).get(name) != machine["packages"][name]:
            return name
    images = held.get("images") or {}
    if images and images.get("pillow") != importlib.metadata.version("pillow"):
        return "pillow"
    one, other = (hardware.steering(h.get("flags") or {}).get("XLA_FLAGS") for h in (held, machine))
    return "" if one == other else "XLA_FLAGS"


def _left_open(record: Record, found: Sequence[Finding], there: bool) -> Iterator[Finding]:
    """Say why nothing was evaluated."""
    if any(one.check == "metrics" for one in found) or record.trial.result is None:
        return
    if not (record.trial.path / EVALUATED).is_file():
        if record.trial.result.evaluated is not None or record.trial.result.validation is not None:
            why = "what was evaluated is not here; `harness publish --with-states` packs it, --rerun makes it again"
            yield unchecked("metrics", METRICS, why)
    elif not there:
        yield unchecked("metrics", METRICS, "the programs are for a GPU, and there is none here")
    elif any(one.check == "program" and one.verdict == "differs" for one in found):
        yield unchecked("metrics", METRICS, "the programs are not what they should be")
    elif lacking := by_sources.lacking(record):
        yield unchecked("metrics", METRICS, lacking)
    else:
        yield unchecked("metrics", METRICS, "the workload is not here at this version")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
