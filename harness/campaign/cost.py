"""What a plan costs before it starts, in device-hours: steps that are left, times seconds per step that were measured.

A step time is, in this order, that of the program itself in a trial on the same kind of device; that of the yardstick,
the harness's own AdamW step, beside another program there; that of the reference machine, where the workload's target
was set. What is none of these is unknown, and so is time beside the steps that no trial of its kind has recorded: no
figure is made up.

Trials that ran while others kept the machine busy took longer, and their records tell: the yardstick is the same step
in each of them, so that one whose yardstick took `BUSY` times as long as the fastest had less of the machine. They
count where no quieter one is there, and are counted. Trials over several devices tell of as many devices alone.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.campaign import expected_time, searches
from harness.campaign.plan import Plan
from harness.errors import ConfigError, HarnessError
from harness.machine import hardware
from harness.machine.flags import Device
from harness.program import discovery
from harness.program.workload import SMALL, WorkloadInfo
from harness.record import pack, published, run_folder
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec
from harness.search import targets

BUSY = 1.25
"""How many times the fastest yardstick's seconds per step tell a busy machine: the same program is some 5% slower in
one process than in another, at most 10%."""
_WHOLE = frozenset({Status.TARGET_REACHED, Status.HORIZON_REACHED, Status.BUDGET_EXHAUSTED, Status.STOPPED})

Source = Literal["program", "yardstick", "reference"]


@dataclass(frozen=True)
class Kind:
    """A kind of device: a model of processor with a number of cores, or a card, by its name or a part of it."""

    platform: Device
    name: str

    def made(self, machine: str) -> bool:
        """Whether a measurement is of this kind, by the machine that its record names first."""
        if self.platform == "gpu":
            return self.name.casefold() in machine.split(",")[0].casefold()
        return f"{machine}, ".startswith(f"{self.name}, ")


@dataclass(frozen=True)
class Took:
    """What a finished trial on this kind of device took.

    Attributes:
      steps: to its end; None where it did not come to one that tells how long others take.
      step_s, yardstick_s: seconds per step of its program, and of the yardstick beside it; None where not measured.
      compile_s: of its compilation.
      beside_s: of all that is neither training nor compilation.
    """

    spec: TrialSpec
    steps: int | None
    step_s: float | None
    yardstick_s: float | None
    compile_s: float | None
    beside_s: float | None


@dataclass(frozen=True)
class StepTime:
    """Seconds per step, and where they were measured.

    Attributes:
      where: the kind of device, or the reference machine.
      here: whether that is of the kind of device that the plan is for.
      trials: how many trials stand behind it; 0 of the reference.
      busy: how many of these ran on a busy machine: all or none.
    """

    seconds: float
    source: Source
    where: str
    here: bool
    trials: int = 0
    busy: int = 0


@dataclass(frozen=True)
class Price:
    """Of an hour of a device: an amount, and the currency as it was typed, or nothing."""

    amount: float
    currency: str = ""

    def of(self, seconds: float) -> str:
        """Return what so many seconds of a device cost, for people."""
        money = self.amount * seconds / 3600
        return f"{money:{',.2f' if money >= 0.1 else '.2g'}} {self.currency}".rstrip()


def price(text: str) -> Price:
    """Return the price that a text such as `2.50`, `2.50EUR` or `$2.50` states.

    Raises ConfigError where it states none.
    """
    found = re.fullmatch(r"\s*([^\d\s.,+-]*)\s*(\d+(?:\.\d+)?|\.\d+)\s*([^\d\s.,+-]*)\s*", text)
    if found is None or (found[1] and found[3]):
        raise ConfigError(
            f"--price {text}: expected an amount for an hour of a device, with or without a currency, as in 2.50, "
            "2.50EUR or '$2.50'"
        )
    return Price(float(found[2]), found[1] or found[3])


@dataclass(frozen=True)
class Cost:
    """What is left to run of a submission on a workload. None stands for what is unknown.

    Attributes:
      workload, submission: the workload with its variant.
      trials: that are scored.
      steps, most_steps: of these together: expected, and where none reaches the target before its budget ends.
      search_steps, most_search_steps: of the search that chooses their point, 0 without one.
      step: of its program.
      most_step_s: seconds of each of `most_steps`: a budget is counted in steps of the yardstick.
      compile_s, beside_s: device-seconds of all trials together, beside their training.
      devices: that each trial is spread over.
      paid: how many of these have a price of their own: on a CPU all are this machine.
    """

    workload: str
    submission: str
    trials: int
    steps: int | None
    most_steps: int | None
    search_steps: int | None
    most_search_steps: int | None
    step: StepTime | None
    most_step_s: float | None
    compile_s: float | None
    beside_s: float | None
    devices: int = 1
    paid: int = 1

    @property
    def step_s(self) -> float | None:
        """Seconds per step of its program."""
        return None if self.step is None else self.step.seconds

    @property
    def search_s(self) -> float | None:
        """Device-seconds of the search's steps."""
        return _times(self.search_steps, self.step_s, self.paid)

    @property
    def scored_s(self) -> float | None:
        """Device-seconds of the scored trials' steps."""
        return _times(self.steps, self.step_s, self.paid)

    @property
    def most_s(self) -> float | None:
        """Device-seconds of all steps, where no trial ends before its budget; None where a part is unknown."""
        search, scored = (
            _times(self.most_search_steps, self.step_s, self.paid),
            _times(self.most_steps, self.most_step_s, self.paid),
        )
        return None if search is None or scored is None else search + scored

    @property
    def parts(self) -> Mapping[str, float | None]:
        """Device-seconds by what they go into."""
        return {
            "search": self.search_s,
            "scored": self.scored_s,
            "compile": self.compile_s,
            "beside": self.beside_s,
        }


def kind_of(plan: Plan, words: Iterable[str]) -> Kind:
    """Return the kind of device that a plan is for: this machine, or the card that a word such as `device=h200` names,
    which need not be here.
    """
    platform = next((trial.spec.device for trial in plan.trials), None)
    platform = platform or next((search.pairing.device for search in plan.searches), "cpu")
    if platform == "cpu":
        here = hardware.machine()
        return Kind("cpu", f"{here['cpu']}, {here['cores']} core(s)")
    named = [word.removeprefix("device=") for word in words if word.startswith("device=")]
    return Kind("gpu", named[-1] if named and named[-1] not in ("auto", "gpu") else hardware.gpu_names())


def recorded(places: Iterable[Path], kind: Kind) -> list[Took]:
    """Return what finished trials at or below `places` took on this kind of device: run folders, published records and
    packs. What cannot be read, or holds no programs, counts for nothing.
    """
    trials: list[Trial] = []
    for place in places:
        if not place.exists():
            continue
        for path in run_folder.find_trials(place):
            with suppress(HarnessError, OSError):
                trials.append(run_folder.read_trial(path))
        for file in published.find(place):
            with suppress(HarnessError, OSError):
                trials += published.read(file)
        for file in pack.find(place):
            with suppress(HarnessError, OSError):
                trials += pack.read_trials(file)
    return [took for trial in trials if (took := _took(trial, kind)) is not None]


def _took(trial: Trial, kind: Kind) -> Took | None:
    result, spec = trial.result, trial.spec
    if result is None or trial.status in FAILED | UNFINISHED or not result.steps or spec.program is None:
        return None
    held = result.fingerprint
    machine = held.get("device") if spec.device == "gpu" else f"{held.get('cpu')}, {held.get('cores')} core(s)"
    if spec.device != kind.platform or not kind.made(str(machine)):
        return None
    spans = {name: reading.wall_s for name, reading in result.ledger.items()}
    beside = sum(spans.values()) - spans.get("train", 0.0) - spans.get("compile", 0.0)
    trained = spans["train"] / result.steps if spans.get("train") else None
    return Took(
        spec,
        result.steps if trial.status in _WHOLE else None,
        result.train_step_s or trained,
        result.calibration.baseline_step_s if result.calibration else None,
        spans.get("compile"),
        beside if spans else None,
    )


def costs(plan: Plan, kind: Kind, took: Sequence[Took]) -> list[Cost]:
    """Return what each submission costs on each workload, as far as anything is left to run of it."""
    groups: dict[tuple[str, str], _Left] = {}
    for trial in plan.runnable:
        left = groups.setdefault((trial.spec.task, trial.spec.submission), _Left())
        left.specs.append(trial.spec)
        left.workload_path = Path(trial.options.workload_path)
    for search in plan.due:
        pairing = search.pairing
        spec = pairing.spec(dict(search.asked.points[0]), 0, 0)
        left = groups.setdefault((spec.task, spec.submission), _Left())
        left.specs += [spec] * pairing.rules.studies
        left.workload_path = pairing.place.path
        left.programs |= set(pairing.found.programs if pairing.found else ())
        left.search = searches.steps_left(search.record, pairing), searches.most_steps_left(search.record)
    return [_cost(*names, left, kind, took) for names, left in sorted(groups.items())]


@dataclass
class _Left:
    """What is left to run of a submission on a workload."""

    specs: list[TrialSpec] = field(default_factory=list)
    workload_path: Path = Path()
    programs: set[str] = field(default_factory=set)
    search: tuple[int | None, int | None] = (0, 0)


def _cost(workload: str, submission: str, left: _Left, kind: Kind, took: Sequence[Took]) -> Cost:
    first, count = left.specs[0], len(left.specs)
    paid = first.devices if kind.platform == "gpu" else 1
    took = [one for one in took if one.spec.devices == first.devices]
    programs = left.programs | {spec.program for spec in left.specs if spec.program is not None}
    place = discovery.Folder("workloads", first.workload, left.workload_path)
    info = discovery.workload_info(place, SMALL if first.variant == SMALL else None)
    own = [one for one in took if one.spec.program in programs]
    beside = [one for one in took if one.spec.workload_program == first.workload_program]

    def like(spec: TrialSpec, found: Sequence[Took]) -> list[Took]:
        return [one for one in found if expected_time.alike(one.spec) == expected_time.alike(spec)]

    steps = [
        _steps(spec, info, [one.steps for one in like(spec, own) if one.spec.hyperparameters == spec.hyperparameters])
        for spec in left.specs
    ]
    reference = _reference(first, info, kind)
    known = [one.yardstick_s for one in beside if one.yardstick_s]
    known += [reference.seconds] if reference and reference.here else []
    most = BUSY * min(known, default=math.inf)
    unit = _measured(beside, "yardstick", kind, most) or reference
    step = _measured(own, "program", kind, most) or unit
    ends = step if first.stop == "horizon" else unit  # a budget is in steps of the yardstick, a horizon in its own
    compiled = [
        one.compile_s for one in own if one.spec.score_compile == first.score_compile and one.compile_s is not None
    ]
    aside = [one.beside_s for one in (like(first, own) or like(first, beside)) if one.beside_s is not None]
    return Cost(
        workload,
        submission,
        count,
        _sum(steps),
        _sum([_most(spec) for spec in left.specs]),
        *left.search,
        step,
        None if ends is None else ends.seconds,
        paid * count * statistics.median(compiled) if compiled else None,
        paid * count * statistics.median(aside) if aside else None,
        first.devices,
        paid,
    )


def _steps(spec: TrialSpec, info: WorkloadInfo, own: Iterable[int | None]) -> int | None:
    """Return the steps that a trial takes: as many as its program took at this point, else those of the horizon, or of
    the baseline to the target; None where that is not known.
    """
    if known := [steps for steps in own if steps is not None]:
        return round(statistics.median(known))
    steps = spec.horizon if spec.stop == "horizon" else info.target.steps_to_target
    if spec.max_steps is not None:
        return min(steps or spec.max_steps, spec.max_steps)
    return steps or None


def _most(spec: TrialSpec) -> int:
    steps = spec.horizon if spec.stop == "horizon" else spec.budget_steps
    return steps if spec.max_steps is None else min(steps, spec.max_steps)


def _measured(took: Iterable[Took], source: Source, kind: Kind, most_s: float) -> StepTime | None:
    """Return the median of the step times, of trials whose yardstick took at most so long wherever there are any."""
    known = [(one.step_s if source == "program" else one.yardstick_s, one.yardstick_s) for one in took]
    seconds = [(step, bool(unit and unit > most_s)) for step, unit in known if step]
    quiet = [step for step, busy in seconds if not busy]
    chosen = quiet or [step for step, _ in seconds]
    busy = 0 if quiet else len(chosen)
    return StepTime(statistics.median(chosen), source, kind.name, True, len(chosen), busy) if chosen else None


def _reference(spec: TrialSpec, info: WorkloadInfo, kind: Kind) -> StepTime | None:
    """Return the reference machine's step time; None where that is another platform's, of one device alone, or none is
    set.
    """
    target = info.target
    if not target.reference_step_s or spec.devices > 1:
        return None
    machine = _machine(target.record)
    of_cpu = machine is None or re.match(r"[^,]*, \d+ core\(s\)", machine) is not None
    if of_cpu != (kind.platform == "cpu"):
        return None
    seconds = target.reference_step_s * spec.batch_size / info.batch_size  # a variant's batch may be larger
    return StepTime(seconds, "reference", machine or "", machine is not None and kind.made(machine))


def _machine(record: str) -> str | None:
    """Return the machine that a record of targets was made on; None where the record is not here."""
    root = Path(__file__).resolve().parents[2]
    with suppress(HarnessError, OSError, ValueError):
        time = targets.read_record(root / record)[1] if record else None
        return time.machine if time else None
    return None


def _sum(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _times(steps: int | None, seconds: float | None, devices: int) -> float | None:
    if steps == 0:
        return 0.0
    return None if steps is None or seconds is None else devices * steps * seconds
