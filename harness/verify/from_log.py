"""From the log of a trial to its result: every number again, and the order of time in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.program.workload import WorkloadInfo, next_measurement
from harness.record.files import sha256
from harness.record.result import FAILED, UNFINISHED, Measurement, Result, Status, interpolated_crossing
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.trial.stopping import SAFETY
from harness.verify.findings import Finding, judged, near, same, unchecked

EPSILON_S = 1e-6
"""By which sums of seconds may differ."""
PAST = 1.05
"""Times the budget that a trial may have spent when it begins another chunk: what its last seconds are worth in
calibrated ones is known a little later."""
LOG = "log.jsonl"

Event = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """What a log tells, by kind."""

    path: Path
    spec: TrialSpec
    result: Result
    events: Sequence[Event]
    measurements: Sequence[Measurement]

    def of(self, *kinds: str) -> list[Event]:
        """The events of these kinds."""
        return [event for event in self.events if event["event"] in kinds]

    def last(self, kind: str) -> Event | None:
        """The last event of a kind."""
        return next((event for event in reversed(self.events) if event["event"] == kind), None)

    def wall_s(self, span: str) -> float:
        """Wall seconds of a span of the ledger."""
        reading = self.result.ledger.get(span)
        return reading.wall_s if reading else 0.0


def look(trial: Trial, info: WorkloadInfo | None) -> Iterator[Finding]:
    """Yield what is found; `info` is the workload's specification, where this version of it is here."""
    if trial.result is None or trial.status in UNFINISHED:
        yield unchecked("log", "result", f"the trial is {trial.status}: {trial.reason or 'not run yet'}")
        return
    try:
        log = Log(trial.path, trial.spec, trial.result, trial.events, trial.measurements)
        yield from _ending(log)
        yield from _steps(log)
        yield from _time(log)
        if trial.result.ledger and not (trial.status in FAILED and not trial.result.steps):
            yield from _measurements(log, info)
            yield from _ledger(log)
            yield from _scored(log)
            yield from _budget(log)
            yield from _finish(log)
        elif trial.status not in FAILED:
            yield unchecked("log", "times", "the process of the trial left no result of its own, and so no ledger")
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        yield Finding("log", "events", "differs", f"an event lacks what it should hold: {error!r} in {LOG}")


def _ending(log: Log) -> Iterator[Finding]:
    spec, result, end, decided = log.spec, log.result, log.last("end"), log.last("decided")
    yield same("log", "spec id", {spec.id}, {e["spec_id"] for e in log.of("start")} | {result.spec_id}, "start, result")
    yield same("log", "status", end and (end["status"], end["reason"]), (str(result.status), result.reason), "result")
    if end is not None and "result_sha256" in end:
        found = sha256((log.path / "result.json").read_bytes())
        yield same("log", "result as it was written", end["result_sha256"], found, "result.json")
    yield same("log", "attempts", len(log.of("start")), result.attempts, "result")
    if decided is not None:
        yield same("log", "decision", decided["status"], str(result.status), "result")
    last, chunks = log.measurements[-1] if log.measurements else None, log.of("chunk")
    examples = chunks[-1]["examples"] if chunks else 0
    asked = log.last("control")
    reached = spec.stop == "target" and last is not None and last.met
    whole = spec.stop == "horizon" and examples >= spec.horizon * spec.batch_size
    smoke = spec.max_steps is not None and result.steps >= spec.max_steps
    allowed = {
        Status.TARGET_REACHED: reached,
        Status.HORIZON_REACHED: whole or smoke,
        Status.STOPPED: asked is not None and bool((asked["answer"] or {}).get("stop")),
        Status.BUDGET_EXHAUSTED: not reached and _is_spent(log),
        Status.HOPELESS: not reached and spec.stop == "target",
        Status.DIVERGED: not reached,
    }
    yield judged("log", "reason to end", allowed.get(result.status, True), f"the log gives none to be {result.status}")


def _is_spent(log: Log) -> bool:
    decided, chunks = log.last("decided"), log.of("chunk")
    limits = log.of("budget")
    if not chunks or not limits:
        return False
    clock, train_s = limits[-1]["clock"], sum(chunk["seconds"] for chunk in chunks)
    if decided and "spent" in decided:
        spent, of = decided["spent"][clock], decided["budget_s"]
    else:
        spent, of = chunks[-1]["spent"][clock], limits[-1]["seconds"] / PAST
    calibration = log.result.calibration
    safety_s = SAFETY * log.spec.budget_steps * (calibration.baseline_step_s if calibration else math.inf)
    return bool(spent >= of or train_s >= safety_s)


def _steps(log: Log) -> Iterator[Finding]:
    step = examples = 0
    sizes: dict[int, int] = {}
    fault = ""
    for chunk in log.of("chunk"):
        count, size = len(chunk["metrics"]["loss"]), chunk["batch_size"]
        step, examples, sizes[size] = step + count, examples + count * size, sizes.get(size, 0) + count
        if (chunk["step"], chunk["examples"]) != (step, examples):
            told = f"{chunk['step']} steps and {chunk['examples']} examples"
            fault = f"expected {step} steps and {examples} examples, found {told} in a chunk of {LOG}"
            break
    yield judged("log", "chunks", not fault, fault)
    yield same("log", "steps and examples", (step, examples), (log.result.steps, log.result.examples), "result")
    calibration = log.result.calibration
    if calibration is not None and calibration.steps:
        yield same("log", "steps by batch size", sizes, calibration.steps, "result: calibration")


def _time(log: Log) -> Iterator[Finding]:
    """Time goes forward, and no chunk takes more of it than passes."""
    fault, before, last_chunk = "", 0.0, 0.0
    for event in log.events:
        if "t" not in event:
            continue
        kind, t = event["event"], event["t"]
        if t < before - EPSILON_S:
            fault = f"t goes back from {before} to {t} at a {kind} of step {event.get('step')} in {LOG}"
            break
        if kind == "chunk":
            if not 0 <= event["seconds"] <= t - last_chunk + EPSILON_S:
                fault = f"{event['seconds']} s of training, where {t - last_chunk:.6f} s passed, in the chunk to step "
                fault += f"{event['step']} of {LOG}"
                break
            last_chunk = t
        before = t
    yield judged("log", "time goes forward", not fault, fault)
    if log.result.wall_s:
        late = f"the log goes on to t={before}, wall_s is {log.result.wall_s}"
        yield judged("log", "time ends", before <= log.result.wall_s + EPSILON_S, late)


def _measurements(log: Log, info: WorkloadInfo | None) -> Iterator[Finding]:
    spec, result, found = log.spec, log.result, log.measurements
    at = {chunk["step"]: chunk["examples"] for chunk in log.of("chunk")}
    odd = [m.step for m in found if at.get(m.step) != m.examples]
    odd += [b.step for a, b in itertools.pairwise(found) if b.step <= a.step]
    yield judged("log", "measurements", not odd, f"no chunk ends at that of step {odd[:1]}, or they are out of order")
    wrong = [m.step for m in found if m.met != _meets(spec, m.metrics.get(spec.metric))]
    yield judged(
        "log", "met", not wrong, f"the {spec.metric} at step {wrong[:1]} is on the other side of {spec.target}"
    )
    if info is not None:
        fault = _off_grid(log, info)
        yield judged("log", "measured when due", not fault, fault)
    hit = next((m for m in found if m.met), None)
    values = [m.metrics[spec.metric] for m in found]
    best = (min if spec.mode == "min" else max)((v for v in values if v is not None), default=None)
    crossing = None if spec.target is None else interpolated_crossing(list(found), spec.metric, spec.target)
    where = "result"
    yield same("log", "time to target", hit.scored if hit else None, result.time_to_target, where)
    yield same("log", "steps to target", hit.step if hit else None, result.steps_to_target, where)
    yield near("log", "crossing", crossing, result.interpolated_steps_to_target, where)
    yield same("log", "best and last", (best, values[-1] if values else None), (result.best, result.last), where)


def _meets(spec: TrialSpec, value: float | None) -> bool:
    if spec.target is None or value is None:
        return False
    return value <= spec.target if spec.mode == "min" else value >= spec.target


def _off_grid(log: Log, info: WorkloadInfo) -> str:
    """Return where a measurement is missing or too many; empty where there is one at every point of the grid."""
    spec, left, done = log.spec, list(log.measurements), 0
    chunks = log.of("chunk")
    for number, chunk in enumerate(chunks):
        due = chunk["examples"] >= next_measurement(spec.horizon, done, info.measurements) * spec.batch_size
        there = bool(left) and left[0].step == chunk["step"]
        cut = number == len(chunks) - 1 and log.result.status in FAILED | {Status.DIVERGED}
        if due != there and not cut:
            return (
                f"{'no' if due else 'a'} measurement at step {chunk['step']}, where one is {'' if due else 'not '}due"
            )
        if there:
            done = left.pop(0).examples // spec.batch_size
    return ""


def _ledger(log: Log) -> Iterator[Finding]:
    result = log.result
    negative = [name for name, reading in result.ledger.items() if min(reading.wall_s, reading.cpu_s) < 0]
    yield judged("log", "spans", not negative, f"less than nothing in {', '.join(negative)} of the ledger")
    yield near("log", "spans sum to wall time", sum(r.wall_s for r in result.ledger.values()), result.wall_s, "result")
    trained = sum(chunk["seconds"] for chunk in log.of("chunk"))
    yield near("log", "chunks sum to the train span", trained, log.wall_s("train"), "result: ledger")
    if result.steps:
        yield near("log", "seconds per step", log.wall_s("train") / result.steps, result.train_step_s, "result")


def _scored(log: Log) -> Iterator[Finding]:
    """Scored wall time is init, control and train, and the hit's eval_variables; the other clocks go with it."""
    spec, result = log.spec, log.result
    beyond = max(0.0, log.wall_s("compile") - spec.compile_cap_s) if spec.score_compile else 0.0
    least, most = log.wall_s("init"), log.wall_s("init") + log.wall_s("control") + beyond
    fault, trained, base, cpu, ends = "", 0.0, least, 0.0, dict[int, tuple[float, float]]()
    for chunk in log.of("chunk"):
        trained += chunk["seconds"]
        now = chunk["scored"]["wall"] - trained
        if not base - EPSILON_S <= now <= most + EPSILON_S or chunk["scored"]["cpu"] < cpu - EPSILON_S:
            fault = f"{chunk['scored']} after {trained:.6f} s of training and {now:.6f} s beside, in the chunk to step "
            fault += f"{chunk['step']} of {LOG}"
            break
        base, cpu = max(base, now), chunk["scored"]["cpu"]
        ends[chunk["step"]] = chunk["scored"]["wall"], now
    yield judged("log", "scored time of chunks", not fault, fault)
    if fault:
        return
    odd = ""
    for m in log.measurements:
        own = m.scored.wall - ends[m.step][0]
        empty = m.scored.wall > 0 and (
            m.scored.cpu <= 0 or (m.scored.calibrated is not None and m.scored.calibrated <= 0)
        )
        if not -EPSILON_S <= own <= log.wall_s("eval_variables") + EPSILON_S or m.scored.wall <= 0 or empty:
            odd = f"{m.scored}, where the chunk ended at {ends[m.step][0]:.6f} s, in the measurement at step {m.step}"
            break
    yield judged("log", "scored time of measurements", not odd, odd)
    hit, calibration = next((m for m in log.measurements if m.met), None), result.calibration
    ended_there = hit is not None and result.status is Status.TARGET_REACHED and spec.stop == "target"
    if odd or not ended_there or hit is None or hit.scored.calibrated is None:
        return
    if calibration is None or not calibration.steps:
        yield unchecked("log", "calibrated seconds", "the record is older than what they follow from")
        return
    worth = sum(calibration.step_ratio[size] * count for size, count in calibration.steps.items())
    fixed, prepared = ends[hit.step][1], max(0.0, hit.scored.wall - ends[hit.step][0])
    unit = spec.reference_step_s or calibration.baseline_step_s
    expected = (worth + (fixed + prepared) / calibration.baseline_step_s) * unit
    slack = 4 * prepared / calibration.baseline_step_s * unit  # what the yardstick took around it is not in the record
    close = abs(expected - hit.scored.calibrated) <= slack + 1e-6 * expected
    told = f"expected {expected!r} of the calibration, found {hit.scored.calibrated!r} at the hit"
    yield judged("log", "calibrated seconds", close, told)


def _budget(log: Log) -> Iterator[Finding]:
    spec, limit, chunks = log.spec, log.last("budget"), log.of("chunk")
    if limit is None:
        yield unchecked("log", "budget", "the record is older than the event that tells it")
        return
    clock = limit["clock"]
    yield same("log", "budget in steps", spec.budget_steps, limit["baseline_steps"], LOG)
    if clock == "calibrated" and spec.reference_step_s:
        yield near("log", "budget in seconds", spec.budget_steps * spec.reference_step_s, limit["seconds"], LOG)
    if spec.stop == "target" and len(chunks) > 1:
        spent = chunks[-2]["spent"][clock]
        late = f"the last chunk begins at {spent:.4g} s of {limit['seconds']:.4g} s"
        yield judged("log", "budget kept", spent < PAST * limit["seconds"] or clock != "calibrated", late)


def _finish(log: Log) -> Iterator[Finding]:
    result, final, kept = log.result, log.last("final"), log.last("evaluated")
    metrics = (final or {}).get("metrics", {})
    told = metrics.get("validation"), metrics.get("test")
    yield same("log", "validation and test", told, (result.validation, result.test), "result")
    if final is not None:
        yield same("log", "evaluated at the end", result.steps, final["step"], LOG)
    if kept is not None or result.evaluated is not None:
        yield same("log", "hash of what was evaluated", (kept or {}).get("sha256"), result.evaluated, "result")
    warm = next((e for e in reversed(log.of("phase")) if "cost" in e), None)
    if warm is not None:
        yield same("log", "cost of a step", warm["cost"], result.cost, "result")
