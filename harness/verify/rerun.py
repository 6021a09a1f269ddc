"""A trial again, from the program in its record, in a folder that is thrown away: does it do the same?

No code of a submission runs but that of `control`, where the program has one: in the confined process that trials have
for it, from sources with the hash that the program holds.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.campaign.launch import local
from harness.campaign.plan import PlannedTrial
from harness.errors import HarnessError
from harness.machine import hardware
from harness.program import store
from harness.program.discovery import Folder
from harness.program.manifest import Manifest
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.record.spec import Options, TrialSpec
from harness.verify import by_sources
from harness.verify.examined import differing
from harness.verify.findings import TIME, Finding, judged, same, unchecked
from harness.verify.records import Record

SPREADS = 3.0
"""Of the workload's final metric over seeds: so far may another kind of machine end from the record."""
SLOWER = 0.25
"""As a share: so much longer may the same kind of machine take, where the record is of ENOUGH_S or more."""
UNSURE = 0.35
"""So much more than that is left open, not found wrong, where the machine stalled: twice the errors of both
calibrations, behind which are few stretches, but no more than this: a record could give itself any error."""
ENOUGH_S = 5.0
SAME_METRICS = "same validation and test"
LONGER = 10  # times its budget that it may take: it is to end where the record does, and not sooner


def look(record: Record) -> Iterator[Finding]:
    """Train and yield how it compares."""
    trial, home, own, program = record.trial, record.home, record.program("workload"), record.program("submission")
    result = trial.result
    if result is None or trial.status in FAILED | UNFINISHED or not result.steps:
        yield unchecked("rerun", "rerun", f"the trial is {trial.status}")
    elif own is None or program is None or home is None or record.info is None:
        yield unchecked("rerun", "rerun", "its programs or its workload are not here at this version")
    elif lacking := by_sources.lacking(record):
        yield unchecked("rerun", "rerun", lacking)
    else:
        with tempfile.TemporaryDirectory(prefix="harness-rerun-") as root:
            try:
                put(own)
                control = bool(put(program).contract.control)
                if control and record.submission is None:
                    yield unchecked("rerun", "rerun", "its `control` decides, and its sources are not here")
                    return
                if control:
                    yield Finding("rerun", "control", "ok", "the submission's own, in a confined process")
                spec = limited(trial.spec, home, result.steps, result.status, control)
                source = str(record.submission.path) if record.submission else f"{root}/none/{trial.spec.submission}"
                options = Options(str(home.path), source, checkpoint_s=1e9)
                planned = PlannedTrial(spec, options, Path(root), Path(root) / spec.folder, Status.PLANNED, False, None)
                yield from compare(record, local.run_trial(planned, note=lambda text: None))
            except HarnessError as error:
                here, there = hardware.packages()["jax"], (result.fingerprint.get("packages") or {}).get("jax")
                if here == there:
                    yield Finding("rerun", "rerun", "differs", str(error))
                else:
                    yield unchecked("rerun", "rerun", f"it ran under jax {there}, and this is {here}: {error}")


def put(folder: Path) -> Manifest:
    """See to it that the store holds a program, and return its manifest. Its id is checked by the trial that loads it.

    Raises HarnessError where it is not whole.
    """
    if folder.parent != store.root() and store.read(folder.name) is None:
        with store.scratch() as scratch:
            shutil.copytree(folder, scratch / "program")
            store.add(scratch / "program", folder.name)
    found = store.read(folder.name)
    if found is None:
        raise HarnessError(f"the program {folder.name} is not whole")
    return found.manifest


def limited(spec: TrialSpec, home: Folder, steps: int, status: Status, control: bool) -> TrialSpec:
    """Return the spec of the same trial that ends where the record does, not where time decides. What `control` is told
    stays. The workload's text may be another one here, its program may not.
    """
    spec = replace(spec, workload_hash=home.source_hash)
    budget = spec.budget_steps if control else LONGER * spec.budget_steps
    if status is Status.TARGET_REACHED and spec.stop == "target":
        return replace(spec, budget_steps=budget)
    return replace(spec, budget_steps=budget, max_steps=steps)


def compare(record: Record, again: Trial) -> Iterator[Finding]:
    """Yield in what the new trial does as the record says."""
    trial = record.trial
    old, new = trial.result, again.result
    assert old is not None
    if new is None or again.status in FAILED | UNFINISHED:
        yield Finding("rerun", "rerun", "differs", f"it ended as {again.status}: {again.reason}")
        return
    machine = hardware.machine() | new.fingerprint
    odd = differing(old.fingerprint, machine)
    if not odd:
        yield same("rerun", "same steps", old.steps, new.steps, "the record and the rerun")
        yield _losses(losses(trial), losses(again))
        pairs = [[(m.step, m.metrics) for m in one.measurements] for one in (trial, again)]
        yield judged("rerun", "same measurements", pairs[0] == pairs[1], "not the same")
        yield same("rerun", "same final state", old.final_hash, new.final_hash)
        yield same("rerun", "same evaluated variables", old.evaluated or new.evaluated, new.evaluated)
        yield same("rerun", SAME_METRICS, (old.validation, old.test), (new.validation, new.test))
    else:
        yield from _within_spread(record, again, odd)
    yield _time(trial, again, odd)


def losses(trial: Trial) -> list[float | None]:
    """Return the loss of each step."""
    return [loss for e in trial.events if e["event"] == "chunk" for loss in e["metrics"]["loss"]]


def _losses(old: Sequence[float | None], new: Sequence[float | None]) -> Finding:
    first = next((n for n, (a, b) in enumerate(zip(old, new, strict=False), 1) if a != b), None)
    told = f"the first that differs is that of step {first}" if first else f"{len(old)} steps and {len(new)}"
    return judged("rerun", "same losses", list(old) == list(new), told)


def _within_spread(record: Record, again: Trial, odd: str) -> Iterator[Finding]:
    spec, info, old, new = record.trial.spec, record.info, record.trial.result, again.result
    assert old is not None
    assert new is not None
    assert info is not None
    told = "the same steps" if old.steps == new.steps else f"{old.steps} steps in the record, {new.steps} here"
    pairs = list(zip(losses(record.trial), losses(again), strict=False))
    apart = max(
        (abs(a - b) / max(abs(a), abs(b), 1e-9) for a, b in pairs if a is not None and b is not None), default=0.0
    )
    told += f", losses at most {apart:.1e} apart, as a share"
    yield Finding("rerun", "steps and losses", "ok", f"{told}; {odd} is another here, so bits are not compared")
    one, other = ((r.validation or {}).get(spec.metric) for r in (old, new))
    if one is None or other is None or not info.target.spread:
        yield unchecked("rerun", f"final {spec.metric}", "the record has none, or the workload no spread over seeds")
        return
    apart = abs(one - other) / info.target.spread
    told = f"{one:.5g} in the record, {other:.5g} here: {apart:.2f} spreads over seeds apart"
    fine = Finding("rerun", f"final {spec.metric}", "ok", told)
    yield (
        fine if apart <= SPREADS else replace(fine, verdict="differs", text=f"{told}, at most {SPREADS:g} are expected")
    )


def _time(trial: Trial, again: Trial, odd: str) -> Finding:
    """Compare the ranking clock at the hit, else at the end. A rerun that takes longer is judged: the record may have
    been made shorter. One that takes less is not: nobody gains by a longer time.
    """
    clock = trial.spec.clock
    old, new = time_of(trial, clock), time_of(again, clock)
    if not old or not new:
        return unchecked("rerun", TIME, f"there is none on the {clock} clock")
    told = f"{old:.4g} in the record, {new:.4g} here: {new / old - 1:+.1%} on the {clock} clock"
    if odd:
        return Finding("rerun", TIME, "ok", f"{told}, not judged, since {odd} is another here")
    if min(old, new) < ENOUGH_S:
        return Finding("rerun", TIME, "ok", f"{told}, too short to judge")
    unsure = min(UNSURE, 2.0 * math.hypot(_error(trial), _error(again))) if clock == "calibrated" else 0.0
    limit = f"at most {SLOWER:+.0%} is expected"
    if unsure:
        limit += f", and up to {SLOWER + unsure:+.0%} left open for the errors of both calibrations"
    if new <= (1 + SLOWER) * old:
        return Finding("rerun", TIME, "ok", f"{told}, {limit}; less is not judged")
    if new <= (1 + SLOWER + unsure) * old:
        why = "the machine's stalls in one of them may explain it: rerun it"
        return unchecked("rerun", TIME, f"{told}, {limit}; {why}")
    return judged("rerun", TIME, False, f"{told}, {limit}")


def time_of(trial: Trial, clock: str) -> float | None:
    """Return the scored time on a clock at the hit, else at the last chunk."""
    if trial.hit is not None:
        return getattr(trial.hit.scored, clock, None)
    chunks = [e for e in trial.events if e["event"] == "chunk"]
    return chunks[-1]["scored"].get(clock) if chunks else None


def _error(trial: Trial) -> float:
    held = trial.result.calibration if trial.result else None
    return (held.step_ratio_error if held else None) or 0.0
