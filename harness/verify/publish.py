"""From run folders to a pack, and from packs to one (`harness publish`, `harness merge`)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import __version__
from harness.check.command import check
from harness.check.findings import CHECKS
from harness.errors import RunFolderError, SubmissionError
from harness.machine import hardware
from harness.program import discovery, store
from harness.program.discovery import Folder
from harness.record import pack, plain_data, run_folder
from harness.record.files import temporary_of
from harness.record.pack import About, Members, Source
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.record.search_record import file_of
from harness.record.spec import Options
from harness.report import leaderboard
from harness.report.scores import unscored_workloads
from harness.scoring import selection
from harness.verify import by_rules, packed_sources, records
from harness.verify.records import Record

MACHINE = {"cpu": ("cpu", "cores"), "gpu": ("device",)}
EVALUATED = "evaluated.npz"
MAX_SOURCE = 2**20  # bytes of a submission's folder

Say = Callable[[str], object]


def publish(places: Sequence[Path], file: Path, *, states: bool = False, say: Say = str) -> About:
    """Pack the run folders at or below these places, with their programs and sources; return the manifest. `states`
    packs what was evaluated too.

    What is no entry is left out beside entries (`entries`), and what `harness score` leaves out (`scored`). Raises
    RunFolderError for what is unfinished, incomplete, of several machines or of other programs than there are now, and
    for what is no entry where there is nothing else; SubmissionError for what `harness check` has findings about.
    """
    with records.opened(places) as found:
        if packs := [place for place, of in found.items() if Path(place).is_file() and of]:
            raise RunFolderError(f"{packs[0]} is a pack already; `harness merge` joins packs")
        every = scored(entries([record for of in found.values() for record in of], say), say)
        check_records(every)
        folders = packed_sources.of_records(every)
        check_submissions(folders.values(), say)
        members: Members = {}
        for record in every:
            members |= _of_trial(record, states)
            members |= _of_programs(record)
        listed = []
        for (name, source_hash), folder in sorted(folders.items()):
            place = f"{pack.SUBMISSIONS}/{name}-{source_hash}"
            members |= _of_folder(folder, place)
            listed.append(Source(name, source_hash, f"{place}/{name}", hardware.committed(folder.path)))
        return pack.write(file, _about([record.trial for record in every], listed, states), members)


def entries(every: Sequence[Record], say: Say = str) -> list[Record]:
    """Return the records that may stand on a board, and `say` which are left out beside them: smoke tests, toys, and
    runs that depart from their rules. Where there are no others, all are returned.
    """
    aside: dict[str, list[Record]] = {}
    for record in every:
        spec, info = record.trial.spec, record.info
        toy = info is not None and not info.scored
        why = "smoke tests" if spec.max_steps is not None else "on a toy" if toy else ""
        why = why or ", ".join(by_rules.overrides(spec, info))
        aside.setdefault(why, []).append(record)
    kept = aside.pop("", [])
    if not kept:
        return list(every)
    for why, of in aside.items():
        say(f"left out: {len(of)} trial{'s' * (len(of) > 1)} ({why}): {', '.join(record.place for record in of)}")
    return kept


def scored(every: Sequence[Record], say: Say = str) -> list[Record]:
    """Return the records without those that `harness score` leaves out, and `say` which: of several runs of one trial,
    sources or seeds it scores one. What is on held-out variants stays.
    """
    trials = [
        t for t in (record.trial for record in every) if not (t.spec.variant or t.spec.tuning or t.spec.max_steps)
    ]
    left = {trial.path for trial in trials}
    for rules in sorted({trial.spec.rules for trial in trials}):
        of_these = [trial for trial in trials if trial.spec.rules == rules]
        chosen = selection.select(of_these, unscored_workloads({trial.spec.workload for trial in of_these}))
        left -= {trial.path for trial in chosen.trials}
        for note in chosen.notes:
            if note.startswith("left out"):
                say(note)
    return [record for record in every if record.trial.path not in left]


def check_records(every: Sequence[Record]) -> None:
    """Raise RunFolderError for what is not to be published."""
    for record in every:
        trial = record.trial
        if trial.status in UNFINISHED or trial.result is None:
            raise RunFolderError(f"{record.place} is {trial.status}: {trial.reason}; `harness run` goes on with it")
        if trial.spec.max_steps is not None:
            raise RunFolderError(
                f"{record.place} is a smoke test (max_steps={trial.spec.max_steps}), which is not published; name the "
                "folders of other runs"
            )
        if selection.is_mixed(trial):
            raise RunFolderError(
                f"{record.place} is a trial {selection.MIXED}, so it is not published; remove the folder to run it anew"
            )
        if trial.spec.program is None:
            raise RunFolderError(f"{record.place} is older than programs, which a pack holds; run it again")
    check_together([record.trial for record in every])
    for record in every:
        check_rules(record)


def check_rules(record: Record) -> None:
    """Raise RunFolderError where a run departs from the ruleset that it names."""
    if told := by_rules.overrides(record.trial.spec, record.info):
        raise RunFolderError(
            f"{record.place} is no entry by the rules {record.trial.spec.rules}: {', '.join(told)}; run it without that"
        )


def check_together(trials: Sequence[Trial]) -> None:
    """Raise RunFolderError where trials cannot be compared, or are no whole campaign."""
    for rules in sorted({trial.spec.rules for trial in trials}):
        selection.check_comparable([trial for trial in trials if trial.spec.rules == rules])
    _machine(trials)
    for finding in by_rules.campaign(trials):
        if finding.verdict == "no entry":
            raise RunFolderError(f"{finding.text}; publish the folders of one alone, or run with out=DIR")
        if finding.verdict == "differs":
            raise RunFolderError(f"no whole campaign: {finding.what}: {finding.text}; `harness run` goes on with it")


def check_submissions(folders: Any, say: Say = str) -> None:
    """Raise SubmissionError naming the first finding where `harness check` has one, and for what has no README.md."""
    for folder in folders:
        packed_sources.check_page(folder)
        say(f"checking {folder.name}")
        report = check(folder)
        if report.passed:
            continue
        failed = [name for name in CHECKS if report.mark(name) in ("FAILED", "not run")]
        told = next((one.message for one in report.findings if not one.warning), "it did not run")
        raise SubmissionError(
            f"{folder.path} is not published: `harness check {folder.path}` fails {', '.join(failed)}: {told}"
        )


def merge(files: Sequence[Path], out: Path, *, newest: bool = False) -> About:
    """Join packs of one machine, jax and flags; return the new manifest. With `newest` a later pack's submissions take
    the place of those of the same names.

    Raises RunFolderError where they are of several, or hold different trials under one number, or different sources
    under one name.
    """
    held = [(file, *pack.read(file)) for file in files]
    first, about, _ = held[0]
    for file, other, _ in held:
        if _kind(other) != _kind(about):
            told = f"{file} is of {_told(other)}, {first} of {_told(about)}"
            raise RunFolderError(f"{told}; a board is of one machine and one jax")
    members: Members = {}
    sources: dict[str, Source] = {}
    for number, (file, about, files_of) in enumerate(held):
        later = {source.name for _, other, _ in held[number + 1 :] for source in other.submissions} if newest else set()
        for source in about.submissions:
            if source.name in later:
                continue
            if sources.setdefault(source.name, source).source_hash != source.source_hash:
                raise RunFolderError(
                    f"{source.name} has other sources in {file} ({source.source_hash}) than in those before it "
                    f"({sources[source.name].source_hash}); a name stands for one submission: rename one, run it anew"
                )
        for name, data in files_of.items():
            if name.startswith(f"{pack.TRIALS}/") and name.split("/")[2] in later:
                continue
            if members.setdefault(name, data) != data:
                raise RunFolderError(f"{name} is another file in {file} than in those before it; leave one out")
    needed, trials = [f"{one.folder.rpartition('/')[0]}/" for one in sources.values()], _trials(members)
    needed += [f"{pack.PROGRAMS}/{name}/" for t in trials for name in (t.spec.workload_program, t.spec.program)]
    members = {n: d for n, d in members.items() if n.startswith((f"{pack.TRIALS}/", *needed))}
    check_together(trials)
    listed = [source for _, source in sorted(sources.items())]
    return pack.write(out, _about(trials, listed, any(about.states for _, about, _ in held)), members)


def add(places: Sequence[Path], results: Path, suite: str | None = None, say: Say = str) -> list[Path]:
    """Take packs and run folders into the published records; return the files written. `say` is told what could not be
    checked.

    Raises SubmissionError for what `check_submissions` and `packed_sources.check_programs` refuse, and what
    `leaderboard.add` raises.
    """
    packs = [place for place in places if place.is_file()]
    runs = [place for place in places if not place.is_file()]
    written = []
    if runs:
        found = [records.of_folder(path) for root in runs for path in run_folder.find_trials(root)]
        entered = [record for record in found if record.trial.spec.max_steps is None]
        for record in entered:
            check_rules(record)
        check_submissions(packed_sources.of_records(entered).values())
        written += leaderboard.add(runs, results, suite)
    for file in packs:
        with pack.unpacked(file) as (about, root):
            _check_packed(file, about, root)
            for note in packed_sources.check_programs([read() for _, read in records.of_pack(file, about, root)]):
                say(note)
        target = leaderboard.file_of_pack(pack.read_trials(file), results, suite)
        new = temporary_of(target)
        try:
            merge([*([target] if target.exists() else []), file], new, newest=True)
            leaderboard.check_board(pack.read_trials(new), target)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
        written.append(target)
    return written


def _check_packed(file: Path, about: About, root: Path) -> None:
    """Raise what `check_submissions` does of an unpacked pack, with the names that the pack has for its members."""
    try:
        check_submissions([Folder("submissions", one.name, root / one.folder) for one in about.submissions])
    except SubmissionError as error:
        told = str(error).replace(f"`harness check {root}/", f"`harness check {file}:").replace(f"{root}/", f"{file}:")
        raise SubmissionError(
            f"{told}; mend its folder and `harness publish` it again: what makes the same programs needs no new runs"
        ) from None


def _trials(members: Members) -> list[Trial]:
    """Return the trials among these members."""
    with tempfile.TemporaryDirectory(prefix="harness-merge-") as folder:
        for name, data in members.items():
            if name.startswith(f"{pack.TRIALS}/"):
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / name).write_bytes(data)
        found = [run_folder.read_trial(path) for path in run_folder.find_trials(Path(folder))]
        return [replace(trial, path=trial.path.relative_to(folder)) for trial in found]


def _kind(about: About) -> tuple[Any, ...]:
    return about.device, about.machine, about.loads_with.get("jax"), about.loads_with.get("jaxlib")


def _told(about: About) -> str:
    return f"{', '.join(f'{name} {value}' for name, value in about.machine.items())}, jax {about.loads_with.get('jax')}"


def _of_trial(record: Record, states: bool) -> Members:
    """Return the files of a trial, its folders named as in the pack."""
    spec, path = record.trial.spec, record.trial.path
    options = plain_data.to_plain(record.options) | plain_data.to_plain(
        Options(f"workloads/{spec.workload}", f"submissions/{spec.submission}")
    )
    held = {"id": spec.id, "spec": json.loads((path / "spec.json").read_text())["spec"], "options": options}
    place = f"{pack.TRIALS}/{spec.folder}"
    members = {f"{place}/spec.json": (json.dumps(held, indent=1) + "\n").encode()}
    for name in ("log.jsonl", "result.json", *([EVALUATED] if states else [])):
        if (path / name).is_file():
            members[f"{place}/{name}"] = (path / name).read_bytes()
        elif name == EVALUATED and record.trial.result and record.trial.result.evaluated:
            raise RunFolderError(f"{record.place}: {EVALUATED} is gone; leave --with-states out, or run it again")
    if record.trial.search is not None:
        file = file_of(path.parent)
        members[f"{pack.TRIALS}/{spec.task}/{spec.submission}/{file.name}"] = file.read_bytes()
    return members


def _of_programs(record: Record) -> Members:
    spec, members = record.trial.spec, Members()
    for name in (spec.workload_program, spec.program):
        program = None if name is None else store.read(name)
        if program is None:
            raise RunFolderError(
                f"{record.place}: its program {name} is not in {store.root()}; `harness plan` with the same words "
                "exports it again"
            )
        place = f"{pack.PROGRAMS}/{name}"
        members[f"{place}/{store.MANIFEST}"] = (store.root() / str(name) / store.MANIFEST).read_bytes()
        members |= {f"{place}/{function}.mlir": data for function, data in program.functions.items()}
    return members


def _of_folder(folder: Folder, place: str) -> Members:
    """Return the files of a submission, and those outside of its folder that it imports, as they lie beside it."""
    files = set(discovery.files_of(folder.path))
    outside = discovery.imported(files, folder.path.parent) - files
    members: Members = {}
    for path in sorted(files | outside):
        if not path.is_relative_to(folder.path.parent):
            raise RunFolderError(f"{folder.path} imports {path}, which lies neither in it nor beside it; move it there")
        members[f"{place}/{path.relative_to(folder.path.parent).as_posix()}"] = path.read_bytes()
    if sum(map(len, members.values())) > MAX_SOURCE:
        raise RunFolderError(f"{folder.path} holds more than {MAX_SOURCE} bytes; move what is no source out of it")
    return members


def _about(trials: Sequence[Trial], sources: Sequence[Source], states: bool) -> About:
    held: Mapping[str, Any] = next((t.result.fingerprint for t in trials if t.result and t.result.fingerprint), {})
    packages = held.get("packages") or {}
    return About(
        harness=__version__,
        loads_with={name: packages.get(name) for name in ("jax", "jaxlib")},
        device=trials[0].spec.device,
        machine=_machine(trials),
        rules=tuple(sorted({trial.spec.rules for trial in trials})),
        submissions=tuple(sources),
        states=states,
    )


def _machine(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return what all trials ran on. Raises RunFolderError where that is several machines."""
    names = MACHINE[trials[0].spec.device]
    found: dict[str, dict[str, Any]] = {}
    for trial in trials:
        held = trial.result.fingerprint if trial.result else {}
        if held:
            found.setdefault(repr([held.get(name) for name in names]), {name: held.get(name) for name in names})
    if len(found) != 1:
        told = " and ".join(sorted(found)) or "none"
        raise RunFolderError(
            f"expected are trials of one machine, these ran on {told}; publish each machine's by itself"
        )
    return next(iter(found.values()))
