"""From a RunSpec to trials: which folders take part, what identifies each trial, which are finished, which remain."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import shutil
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from harness import discover, records, submission
from harness.data import store
from harness.errors import ConfigError, DataError, HarnessError, RunFolderError, SubmissionError, WorkloadError
from harness.records import Status
from harness.spec import SCHEMA, Clock, Device, DeviceConfig, Options, RunSpec, TrialSpec, Value
from harness.workload import WorkloadInfo

OVERHEAD_S: dict[Device, float] = {"cpu": 20.0, "gpu": 60.0}  # starting, compiling, evaluating: a first guess
_CUDA_PLUGINS = ("jax_cuda13_plugin", "jax_cuda12_plugin")


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a plan.

    Attributes:
      spec, options: what `records.prepare` is given.
      root, path: the output folder, and the run folder below it.
      status: where it stands.
      again: it failed, and is to be run again.
      expected_s: seconds it will take, a guess; None where nothing is known.
    """

    spec: TrialSpec
    options: Options
    root: Path
    path: Path
    status: Status
    again: bool
    expected_s: float | None

    @property
    def runnable(self) -> bool:
        """Whether there is something left to run."""
        return self.again or self.status in records.UNFINISHED


@dataclass(frozen=True)
class Plan:
    """All trials that were asked for, and what is wrong with the submissions and run folders left out."""

    run: RunSpec
    trials: tuple[PlannedTrial, ...]
    problems: tuple[HarnessError, ...]

    @property
    def runnable(self) -> tuple[PlannedTrial, ...]:
        """The trials to run, in order."""
        return tuple(trial for trial in self.trials if trial.runnable)


def make_plan(run: RunSpec, names: list[str], *, elsewhere: bool = False) -> Plan:
    """Plan the trials of the submissions `names` (names or paths; none: all that are found) on the workloads of `run`.

    A broken submission stops none of the others: it is a problem of the plan. One that is to be run `elsewhere` names
    its device, which need not be here. Raises ConfigError for unknown names and
    WorkloadError where a trial would end at a target that is not set.
    """
    folders = _submission_folders(names)
    workloads = [(folder, discover.workload_info(folder, run.variant)) for folder in _workload_folders(run)]
    unset = [folder.name for folder, info in workloads if info.target.value is None]
    if run.rules.stop == "target" and unset and run.variant is None and run.max_steps is None:
        command = f"python scripts/set_targets.py {' '.join(unset)}"
        raise WorkloadError(f"{', '.join(unset)}: no target is set; run `{command}`, or choose stop=horizon")
    if elsewhere and run.device.platform == "auto":
        raise ConfigError("device: a plan for another machine names its device: device=cpu, gpu or h200")
    device: Device = "gpu" if elsewhere and run.device.platform == "gpu" else resolve_device(run.device)
    earlier = _earlier_wall_s(Path(run.out))
    problems: list[HarnessError] = []
    submissions = []
    for folder in folders:
        try:
            submissions.append((folder, submission.read_info(folder)))
        except SubmissionError as error:
            problems.append(error)
    points = [(folder, _point(folder, info, run)) for folder, info in submissions]
    trials = []
    for (place, info), (folder, point), study, trial in itertools.product(
        workloads, points, range(run.rules.studies), range(run.rules.trials)
    ):
        spec = trial_spec(run, info, place, folder, point, device=device, study=study, trial=trial)
        options = Options(str(place.path), str(folder.path), run.checkpoint_s, run.hang_s)
        path = Path(run.out) / spec.folder
        try:
            status = _status(path)
        except RunFolderError as error:
            problems.append(error)
            continue
        again = run.retry and status in records.FAILED
        alike = earlier.get(_alike(spec))
        expected = statistics.median(alike) if alike else _guess(spec, info)
        trials.append(PlannedTrial(spec, options, Path(run.out), path, status, again, expected))
    return Plan(run, tuple(trials), tuple(problems))


def trial_spec(
    run: RunSpec, info: WorkloadInfo, place: discover.Folder, folder: discover.Folder, point: dict[str, Value],
    *, device: Device, study: int, trial: int,
) -> TrialSpec:  # fmt: skip
    """Return the identity of one trial of the submission in `folder` on the workload in `place`."""
    rules = run.rules
    budget = 2 * info.step_hint if info.target.value is None else info.target.budget_steps
    automatic: Clock = "wall" if device == "gpu" else "steps"
    return TrialSpec(
        schema=SCHEMA,
        workload=place.name,
        workload_version=info.target.version,
        workload_hash=place.source_hash,
        metric=info.metric,
        mode=info.mode,
        target=info.target.value,
        step_hint=info.step_hint,
        batch_size=info.batch_size,
        budget_steps=round(budget * rules.budget_factor),
        reference_step_s=info.target.reference_step_s,
        submission=folder.name,
        submission_hash=folder.source_hash,
        hyperparameters=point,
        rules=rules.name,
        stop=rules.stop if info.variant is None else "horizon",
        clock=automatic if rules.clock == "auto" else rules.clock,
        score_compile=rules.score_compile,
        compile_cap_s=rules.compile_cap_gpu_s if device == "gpu" else rules.compile_cap_cpu_s,
        free_batch_size=rules.free_batch_size,
        study=study,
        trial=trial,
        seed=run.seed,
        tuning=False,
        device=device,
        deterministic=run.device.deterministic or device == "cpu",  # a CPU always is
        max_steps=run.max_steps,
        variant=info.variant,
    )


def check_data(plan: Plan) -> None:
    """Raise DataError with the command that gets them where data sets are missing that trials left to run need."""
    places = {Path(trial.options.workload_path) for trial in plan.runnable}
    infos = [discover.workload_info(discover.Folder("workloads", place.name, place)) for place in sorted(places)]
    names = sorted({name for info in infos for name in info.datasets})
    told = {name: why for name in names if (why := store.state(name)[1])}
    missing = [name for name in told if not store.find(name).embedded]
    if told and not missing:
        raise DataError("; ".join(told.values()))
    if missing:
        text = f"data sets that the trials need are missing from {store.root()} or damaged: {', '.join(missing)}"
        raise DataError(f"{text}; get them with: harness data get {' '.join(missing)}")


def resolve_device(
    config: DeviceConfig,
    *,
    importable: Callable[[str], bool] = lambda name: importlib.util.find_spec(name) is not None,
    visible: Callable[[], bool] = lambda: bool(shutil.which("nvidia-smi") or any(Path("/dev").glob("nvidia[0-9]*"))),
) -> Device:
    """Return where to run. Does not import jax. Raises ConfigError saying what a GPU run lacks."""
    if config.platform == "cpu":
        return "cpu"
    platforms = os.environ.get("JAX_PLATFORMS", "")
    lacking = None
    if not any(map(importable, _CUDA_PLUGINS)):
        lacking = "jax's CUDA plugin is not installed; install the package with its extra: training-harness[gpu]"
    elif os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        lacking = "CUDA_VISIBLE_DEVICES hides every GPU; unset it"
    elif platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        lacking = f"JAX_PLATFORMS={platforms} leaves it out; unset it"
    elif not visible():
        lacking = "no NVIDIA GPU is visible: there is neither nvidia-smi nor /dev/nvidia0"
    if lacking is None:
        return "gpu"
    if config.platform == "gpu":
        raise ConfigError(f"device: a GPU was asked for, but {lacking}; or choose device=cpu")
    return "cpu"


def make_ready(planned: PlannedTrial) -> Path:
    """Create the run folder just before its trial; one that failed is moved aside to `<folder>.failed-N`."""
    if planned.again and planned.path.exists():
        number = 1
        while (aside := planned.path.with_name(f"{planned.path.name}.failed-{number}")).exists():
            number += 1
        planned.path.rename(aside)
    return records.prepare(planned.root, planned.spec, planned.options)


HEAD = ("workload", "submission", "study/trial", "status", ">minutes")


def rows(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """Return a row below `HEAD` for each trial."""
    return [
        (
            t.spec.workload,
            t.spec.submission,
            f"{t.spec.study}/{t.spec.trial}",
            f"{t.status}, again" if t.again else str(t.status),
            "-" if not t.runnable else "?" if t.expected_s is None else f"{t.expected_s / 60:.1f}",
        )
        for t in plan.trials
    ]


def total(plan: Plan) -> str:
    """Return one line on what is left to run."""
    count = len(plan.runnable)
    text = f"{count} of {len(plan.trials)} trials to run"
    known = [t.expected_s for t in plan.runnable if t.expected_s is not None]
    if known:
        text += f", about {sum(known) / 60:.1f} minutes"
    if known and len(known) < count:
        text += f" and {count - len(known)} of unknown length"
    failed = sum(t.status in records.FAILED and not t.again for t in plan.trials)
    if failed:
        text += f"; {failed} failed earlier: retry=true runs {'it' if failed == 1 else 'them'} again"
    return text


def _workload_folders(run: RunSpec) -> list[discover.Folder]:
    names = run.suite.workloads if run.workload is None else run.workload.split(",")
    return _once(discover.find("workloads", name.strip()) for name in names)


def _submission_folders(names: list[str]) -> list[discover.Folder]:
    if not names:
        found = list(discover.find_all("submissions").values())
        if not found:
            raise ConfigError("no submission found; put a folder of yours in ./submissions, or name the path of one")
        return found
    workloads = discover.find_all("workloads")
    for name in names:
        if name in workloads and name not in discover.find_all("submissions"):
            raise ConfigError(f"'{name}' is a workload; choose it with workload={name}")
    return _once(discover.find("submissions", name) for name in names)


def _once(folders: Iterable[discover.Folder]) -> list[discover.Folder]:
    return list({folder.path: folder for folder in folders}.values())


def _point(folder: discover.Folder, info: submission.SubmissionInfo, run: RunSpec) -> dict[str, Value]:
    """Return the hyperparameters; one that does not fit is the user's slip and stops all before it starts."""
    try:
        return submission.choose_point(folder, info, run.hp)
    except SubmissionError as error:
        raise ConfigError(str(error)) from None


def _status(path: Path) -> Status:
    return records.read_trial(path).status if (path / "spec.json").exists() else Status.PLANNED


_Alike = tuple[str, str | None, Device, str, int | None]


def _alike(spec: TrialSpec) -> _Alike:
    """What trials share that take about the same time."""
    return spec.workload, spec.variant, spec.device, spec.stop, spec.max_steps


def _earlier_wall_s(root: Path) -> dict[_Alike, list[float]]:
    """Return how long the finished trials below `root` took; folders that cannot be read do not count."""
    found: dict[_Alike, list[float]] = {}
    for path in records.find_trials(root):
        try:
            spec, _ = records.read_spec(path)
            result = json.loads((path / "result.json").read_text())
            status, wall_s = Status(result["status"]), float(result["wall_s"])
        except (OSError, ValueError, KeyError, TypeError, RunFolderError):
            continue
        if status not in records.FAILED | records.UNFINISHED and wall_s > 0:
            found.setdefault(_alike(spec), []).append(wall_s)
    return found


def _guess(spec: TrialSpec, info: WorkloadInfo) -> float | None:
    """Return seconds from the recorded runs of the baseline; they were of one machine, which may be another."""
    steps = info.step_hint if spec.stop == "horizon" else info.target.steps_to_target
    if spec.max_steps is not None:
        steps = min(steps or spec.max_steps, spec.max_steps)
    if not steps or not info.target.reference_step_s:
        return None
    return steps * info.target.reference_step_s + OVERHEAD_S[spec.device]
