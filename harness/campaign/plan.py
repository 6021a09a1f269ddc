"""From a RunSpec to trials: which folders take part, what identifies each trial, which are finished, which remain.

A plan is a function of the request and of the records below the output folder. Where the trials depend on the results
of searches (`rules=tuned`), the plan is made again once those are there.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from harness.campaign import expected_time, searches, typed
from harness.campaign.counting import counted
from harness.campaign.device import resolve_device
from harness.campaign.hyperparameters import Points, plan_file, points_of, rules_for, write
from harness.campaign.hyperparameters import record as record_points
from harness.campaign.pairing import Pairing, wanted_of
from harness.campaign.searches import PlannedSearch
from harness.campaign.tuned_point import Choice
from harness.data import store
from harness.data.specs import DataSet, get_command
from harness.errors import ConfigError, DataError, HarnessError, RunFolderError, SubmissionError, WorkloadError
from harness.machine.devices import check_divisible
from harness.machine.flags import Device
from harness.program import discovery, processes, submission
from harness.program import store as program_store
from harness.program.workload import SMALL, UNCHANGED, asked_variants
from harness.record import plain_data, run_folder
from harness.record.result import FAILED, UNFINISHED, Status
from harness.record.spec import Options, RunSpec, TrialSpec, Value
from harness.search import targets


@dataclass(frozen=True)
class PlannedTrial:
    """One trial of a plan.

    Attributes:
      spec, options: what `records.prepare` is given.
      root, path: the output folder, and the run folder below it.
      status: where it stands.
      again: it failed, and is to be run again.
      expected_s: seconds it will take, a guess; None where nothing is known.
      rivals: run folders of the other trials of its study, where it may end once it is slower than one of them.
    """

    spec: TrialSpec
    options: Options
    root: Path
    path: Path
    status: Status
    again: bool
    expected_s: float | None
    rivals: tuple[Path, ...] = ()

    @property
    def runnable(self) -> bool:
        """Whether there is something left to run."""
        return self.again or self.status in UNFINISHED


@dataclass(frozen=True)
class Later:
    """Trials on fresh seeds whose point is not chosen yet: the search on this workload is not finished."""

    workload: str
    submission: str
    studies: int
    expected_s: float | None


@dataclass(frozen=True)
class Plan:
    """All trials that were asked for, and what is wrong with the submissions and run folders left out.

    Attributes:
      trials: by workload, submission and study; `harness.campaign.launch.gpus.in_order` says what runs first.
      later: what follows once searches are finished.
      points: of each submission.
      searches: for the points of fresh seeds, finished or not.
      notes: what is odd and keeps nothing from running.
      added: a submission that nobody named: held-out variants are compared with it.
    """

    run: RunSpec
    trials: tuple[PlannedTrial, ...]
    problems: tuple[HarnessError, ...]
    later: tuple[Later, ...] = ()
    points: tuple[Points, ...] = ()
    searches: tuple[PlannedSearch, ...] = ()
    notes: tuple[str, ...] = ()
    added: str | None = None

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What the searches that are finished chose."""
        return tuple(search.choice for search in self.searches if search.choice is not None)

    @property
    def due(self) -> tuple[PlannedSearch, ...]:
        """The searches to run, in order."""
        return tuple(search for search in self.searches if search.choice is None)

    @property
    def runnable(self) -> tuple[PlannedTrial, ...]:
        """The trials to run."""
        return tuple(trial for trial in self.trials if trial.runnable)


def make_plan(
    run: RunSpec, names: list[str], *, elsewhere: bool = False, on_export: Callable[[str], object] = str
) -> Plan:
    """Plan the trials of the submissions `names` (names or paths; none: all that are found) on the workloads of `run`.

    Programs that are not in the store yet are exported; `on_export` is told of each, with its number. A broken
    submission stops none of the others: it is a problem of the plan. One that is to be run `elsewhere` names its
    device, which need not be here. Raises ConfigError for unknown names, and where a batch cannot be split over the
    devices, and WorkloadError where a trial would end at a target that is not set.
    """
    folders = submission_folders(names)
    workloads = [
        (folder, discovery.workload_info(folder, variant))
        for folder in workload_folders(run)
        for variant in _variants(run, folder)
    ]
    compared = any(info.variant == UNCHANGED for _, info in workloads)
    added = None if not compared or targets.REFERENCE in {folder.name for folder in folders} else targets.REFERENCE
    if added:
        folders.append(discovery.find("submissions", added))
    unset = [info for _, info in workloads if info.target.value is None]
    needs_target = run.rules.stop == "target" or run.rules.counts == "mean"
    if needs_target and unset and run.variant is None and run.max_steps is None:
        which = ", ".join(info.name for info in unset)
        command = targets.set_target_command(*unset)
        raise WorkloadError(f"{which}: no target is set; run `{command}`, or choose stop=horizon")
    for _, info in workloads:
        check_divisible((info.batch_size,), run.device.devices, info.name, ConfigError)
    if elsewhere and run.device.platform == "auto":
        raise ConfigError("device: what runs on another machine names its device: add device=cpu, gpu, h100 or h200")
    device: Device = "gpu" if elsewhere and run.device.platform == "gpu" else resolve_device(run.device)
    earlier = expected_time.earlier_wall_s(Path(run.out))
    problems: list[HarnessError] = []
    entries = []
    for folder in folders:
        try:
            about = submission.read_info(folder)
            rules = rules_for(run.rules, about)
            own = replace(run, hp={}) if folder.name == added else run  # hp.NAME is for those that are named
            entries.append((folder, about, rules, points_of(folder, about, rules, own)))
        except (SubmissionError, RunFolderError) as error:
            problems.append(error)
        except ConfigError as error:  # of its hyperparameters
            if len(folders) == 1:
                raise
            apart = f"hp. goes to every submission of a command, so type one for {folder.name} and one for the others"
            raise ConfigError(f"{folder.name}: {error}; {apart}") from None
    odd = [line for _, about, _, of in entries for line in submission.outside(about, of.studies[0][0], of.fixed)]
    takers = [about.name for _, about, _, of in entries if of.fixed]
    if len(takers) > 1:
        odd.append(f"hp. goes to every submission of a command, here to {', '.join(takers)}; type one command for each")
    plan = Plan(run, (), (), points=tuple(points for *_, points in entries), notes=tuple(odd), added=added)
    pairings = [
        Pairing(run, rules, device, place, info, folder, about, points)
        for (place, info), (folder, about, rules, points) in itertools.product(workloads, entries)
    ]
    wanted = [pairing.wanted for pairing in pairings]
    found = processes.program_ids(wanted, counted(on_export, wanted))
    for pairing, programs in zip(pairings, found, strict=True):
        if isinstance(programs, HarnessError):
            problems.append(typed.of_own_file(programs, pairing.folder))
        else:
            try:
                _check_batches(pairing, programs)
            except SubmissionError as error:
                problems.append(error)
            else:
                plan = _extended(plan, replace(pairing, found=programs), earlier, problems)
    return replace(plan, problems=tuple({str(problem): problem for problem in problems}.values()))


def _check_batches(pairing: Pairing, found: processes.Found) -> None:
    """Raise SubmissionError where a batch that one of its programs trains on cannot be split over the devices."""
    for program_id in set(found.programs) if pairing.run.device.devices > 1 else ():
        program = program_store.read(program_id)
        sizes = program.manifest.contract.batch_sizes if program else ()
        whose = f"{pairing.folder.name} on {pairing.info.name}"
        check_divisible(sizes, pairing.run.device.devices, whose, SubmissionError)


def _extended(
    plan: Plan, pairing: Pairing, earlier: Mapping[expected_time.Alike, list[float]], problems: list[HarnessError]
) -> Plan:
    """Return the plan with the trials of one submission on one workload, and what they lead to."""

    held_out = pairing.info.variant not in (None, SMALL)  # a step of it takes about as long as the workload's own
    known = discovery.workload_info(pairing.place) if held_out else pairing.info

    def planned(specs: list[TrialSpec]) -> list[PlannedTrial]:
        found = []
        for spec in specs:
            try:
                found.append(_planned(pairing, spec, specs, expected_time.expected_s(spec, known, earlier)))
            except RunFolderError as error:
                problems.append(error)
        return found

    def fresh(point: dict[str, Value]) -> list[TrialSpec]:
        return [pairing.spec(point, study, 0) for study in range(pairing.rules.studies)]

    lists = pairing.points.studies
    if pairing.rules.counts != "fresh_seeds":
        specs = [pairing.spec(point, s, t) for s, points in enumerate(lists) for t, point in enumerate(points)]
        return replace(plan, trials=plan.trials + tuple(planned(specs)))
    if pairing.points.trials == 1:  # nothing to choose from
        return replace(plan, trials=plan.trials + tuple(planned(fresh(lists[0][0]))))
    try:
        search = searches.planned(pairing)
    except RunFolderError as error:
        problems.append(error)
        return plan
    plan = replace(plan, searches=(*plan.searches, search))
    if search.choice is None:
        expected = expected_time.expected_s(fresh(lists[0][0])[0], pairing.info, earlier)
        later = Later(pairing.place.name, pairing.folder.name, pairing.rules.studies, expected)
        return replace(plan, later=(*plan.later, later))
    return replace(plan, trials=plan.trials + tuple(planned(fresh(search.choice.point))))


def _planned(pairing: Pairing, spec: TrialSpec, specs: list[TrialSpec], expected_s: float | None) -> PlannedTrial:
    run, root = pairing.run, Path(pairing.run.out)
    options = Options(str(pairing.place.path), str(pairing.folder.path), run.checkpoint_s, run.hang_s)
    path = root / spec.folder
    rivals: tuple[Path, ...] = ()
    if pairing.rules.stop_hopeless and pairing.rules.counts == "fastest":
        rivals = tuple(root / other.folder for other in specs if other.study == spec.study and other != spec)
    status = run_folder.read_trial(path).status if (path / "spec.json").exists() else Status.PLANNED
    again = run.retry and status in FAILED
    again = again or (status is Status.HOPELESS and _least_time(rivals) is None)  # the rival is gone
    return PlannedTrial(spec, options, root, path, status, again, expected_s, rivals)


def _least_time(rivals: Iterable[Path]) -> float | None:
    """Return the least time in which one of these trials reached the target on the ranking clock."""
    times = []
    for path in rivals:
        with contextlib.suppress(RunFolderError):  # one that is damaged is told of where it is planned itself
            if (path / "spec.json").exists():
                times.append(_target_time(run_folder.read_trial(path)))
    return min((time for time in times if time is not None), default=None)


def _target_time(trial: run_folder.Trial) -> float | None:
    """Return the time to the target on the ranking clock; None for a trial that did not reach it, failed or goes on."""
    hit = None if trial.status in FAILED | UNFINISHED else trial.hit
    return getattr(hit.scored, trial.spec.clock) if hit else None


def record(plan: Plan) -> None:
    """Write the points, before the first run, and the choices that searches have led to."""
    root = Path(plan.run.out)
    for points in plan.points:
        record_points(root, points)
        choices = [choice for choice in plan.choices if choice.submission == points.submission]
        if choices:
            file = plan_file(root, points)
            write(file.with_suffix(".choices.json"), {"choices": plain_data.to_plain(choices)})
    for search in plan.searches:
        searches.record(search)


def check_data(plan: Plan) -> None:
    """Raise DataError with the command that gets them where data sets are missing that what is left to run needs."""
    places = {(trial.options.workload_path, trial.spec.variant) for trial in plan.runnable}
    places |= {(str(search.pairing.place.path), search.pairing.info.variant) for search in plan.due}
    found = [(discovery.Folder("workloads", Path(path).name, Path(path)), variant) for path, variant in places]
    check_data_of(found)


def check_data_of(workloads: Iterable[tuple[discovery.Folder, str | None]]) -> None:
    """Raise DataError where data sets are missing or damaged that these workloads or variants of them need: it says of
    each what is wrong, and how to mend it.
    """
    wanted: dict[str, int] = {}  # training shards, of a set of them
    for folder, variant in workloads:
        for name in discovery.workload_info(folder, variant).datasets:
            wanted[name] = max(wanted.get(name, 0), _training_shards(folder, variant, store.find(name)))
    told = {name: store.state(name, wanted[name]) for name in sorted(wanted)}
    absent = [name for name, (state, _) in told.items() if state == "missing" and store.find(name).files]
    absent = [name for name in absent if not store.find(name).shards]  # those say how many
    parts = [why for name, (_, why) in told.items() if why and name not in absent]
    if absent:
        text = f"data sets that the trials need are missing from {store.root()}: {', '.join(absent)}"
        parts.insert(0, f"{text}; get them with: {get_command(*absent)}")
    if parts:
        raise DataError("; ".join(parts))


def _training_shards(folder: discovery.Folder, variant: str | None, dataset: DataSet) -> int:
    """Return how many shards of a set of them the workload trains on, as its `training_shards(variant)` says."""
    function = getattr(discovery.load(folder), "training_shards", None)
    return int(function(variant)) if callable(function) and dataset.shards else dataset.shards


def obstacles(plan: Plan, *, elsewhere: bool = False) -> list[HarnessError]:
    """Return what keeps the plan from being run here: the device it asks for, unless it runs `elsewhere`, and data sets
    that its trials need.
    """
    found: list[HarnessError] = []
    checks: list[Callable[[], object]] = [lambda: check_data(plan)]
    if not elsewhere:
        checks.insert(0, lambda: resolve_device(plan.run.device))
    for check in checks:
        try:
            check()
        except HarnessError as error:
            found.append(error)
    return found


def make_ready(planned: PlannedTrial) -> Path:
    """Create the run folder just before its trial; one that failed is moved aside to `<folder>.failed-N`.

    It is looked at under its lock: what another process has finished since the plan was made stays where it is. Its
    programs are in the store then: one that is damaged or gone is exported again.
    """
    restore_programs(planned.spec, planned.options)
    if planned.again and planned.path.exists():
        with run_folder.hold(planned.path) as folder:
            ended = folder.ended()
            if ended is None or ended in FAILED | {Status.HOPELESS}:
                number = 1
                while (aside := planned.path.with_name(f"{planned.path.name}.failed-{number}")).exists():
                    number += 1
                planned.path.rename(aside)
    options = replace(planned.options, hopeless_s=_least_time(planned.rivals))
    return run_folder.prepare(planned.root, planned.spec, options)


def restore_programs(spec: TrialSpec, options: Options) -> None:
    """See to it that the store holds the trial's programs, whole. Raises SubmissionError where what is exported from
    the folders as they are is another program.
    """
    ids = (spec.workload_program, spec.program)
    if all(program_id is None or program_store.read(program_id) is not None for program_id in ids):
        return
    (found,) = processes.program_ids([wanted_of(spec, options)])
    if isinstance(found, HarnessError):
        raise found
    if (found.workload, *found.programs) != ids:
        raise SubmissionError(
            f"{options.submission_path}: its program on {spec.workload} is gone from {program_store.root()}, and what "
            "is exported now is another one; plan anew"
        )


def workload_folders(run: RunSpec) -> list[discovery.Folder]:
    """Return the folders of the workloads that a request names."""
    names = run.suite.workloads if run.workload is None else run.workload.split(",")
    return _once(discovery.find("workloads", name.strip()) for name in names)


def _variants(run: RunSpec, folder: discovery.Folder) -> tuple[str | None, ...]:
    """Return what runs of a workload: itself, or variants. Beside held-out ones runs what they are compared with, but
    in smoke tests, which end before there is anything to compare.
    """
    if run.variant is None:
        return (None,)
    asked = asked_variants(discovery.workload_info(folder), run.variant)
    if asked == (SMALL,) or run.max_steps is not None:
        return asked
    return tuple(dict.fromkeys((UNCHANGED, *asked)))


def submission_folders(names: list[str]) -> list[discovery.Folder]:
    """Return the folders of these submissions; without a name all that are found."""
    if not names:
        found = list(discovery.find_all("submissions").values())
        if not found:
            raise ConfigError("no submission found; put a folder of yours in ./submissions, or name the path of one")
        return found
    workloads = discovery.find_all("workloads")
    for name in names:
        if name in workloads and name not in discovery.find_all("submissions"):
            raise ConfigError(f"'{name}' is a workload; choose it with workload={name}")
    return _once(typed.find(name) for name in names)


def _once(folders: Iterable[discovery.Folder]) -> list[discovery.Folder]:
    return list({folder.path: folder for folder in folders}.values())
