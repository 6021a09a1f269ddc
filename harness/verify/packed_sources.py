"""Which sources of a submission a pack holds: those that ran, or others that make the same programs. And whether those
of a pack that comes make its programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.campaign.pairing import wanted_of
from harness.check import static
from harness.errors import HarnessError, RunFolderError, SubmissionError
from harness.machine import hardware
from harness.program import discovery, processes, ramps, submission
from harness.program.discovery import Folder
from harness.verify.records import Record


def of_records(every: Sequence[Record]) -> dict[tuple[str, str], Folder]:
    """Return the folder of each submission, by its name and hash: as it ran, else what is found under its name now and
    makes the same programs. Raises RunFolderError where there is neither.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in every:
        spec = record.trial.spec
        groups.setdefault((spec.submission, spec.submission_hash, record.options.submission_path), []).append(record)
    found: dict[tuple[str, str], Folder] = {}
    names: dict[str, str] = {}
    for (name, source_hash, path), records_of in groups.items():
        place, folder = records_of[0].place, records_of[0].submission
        now = "" if folder is None else folder.source_hash
        if folder is None or now != source_hash or (folder.path / discovery.ORIGIN).is_file():
            other = found_now(name, records_of)
            if other is not None:
                folder, now = other, other.source_hash
            elif folder is None:
                raise RunFolderError(
                    f"{place}: the sources of {name} are gone from {path}; put them back, since a pack holds them"
                )
            elif now != source_hash:
                raise RunFolderError(
                    f"{place}: the sources in {folder.path} have changed since it ran ({source_hash} then, {now} now), "
                    "and what they make is another program; put them back, or run it again"
                )
        if names.setdefault(name, now) != now:
            raise RunFolderError(f"{place}: another version of {name} ran elsewhere; publish one of them")
        found[name, now] = folder
    return found


def found_now(name: str, of: Sequence[Record]) -> Folder | None:
    """Return the folder or file that is found under a name now, where it has the hyperparameters of these records and
    makes their programs of them: no run is needed anew.
    """
    wanted: dict[str, processes.Wanted] = {}
    try:
        folder = ramps.find(name)
        defaults = submission.read_info(folder).defaults
        for record in of:
            spec = record.trial.spec
            as_it_is = not spec.by_hand and (spec.trials or 1) == 1
            kept = spec.hyperparameters == defaults if as_it_is else spec.hyperparameters.keys() == defaults.keys()
            if record.home is None or spec.program is None or not kept:
                return None
            options = replace(record.options, workload_path=str(record.home.path), submission_path=str(folder.path))
            wanted.setdefault(spec.program, wanted_of(spec, options))
        made = processes.program_ids(list(wanted.values()))
    except HarnessError:
        return None
    ids = [None if isinstance(one, HarnessError) else one.programs for one in made]
    return folder if ids == [(program,) for program in wanted] else None


EXPORTING = ("jax", "jaxlib", "flax", "optax")
"""Packages that decide what a submission is exported as."""


def check_programs(every: Sequence[Record]) -> Iterator[str]:
    """Export the sources of a pack again, and yield a line on each submission whose programs cannot be made here: under
    other packages, for another platform or for a workload that is another here.

    Raises SubmissionError where they make other programs than those that ran, or none.
    """
    here = hardware.packages()
    groups: dict[str, dict[str, Record]] = {}
    for record in every:
        if record.trial.spec.program is not None:
            groups.setdefault(record.trial.spec.submission, {}).setdefault(record.trial.spec.program, record)
    for name, of in groups.items():
        whys = {program: _not_exported(record, here) for program, record in of.items()}
        wanted = [_wanted(record) for program, record in of.items() if not whys[program]]
        made = iter(processes.program_ids(wanted))
        for program, record in of.items():
            found = None if whys[program] else next(made)
            if isinstance(found, HarnessError):
                raise SubmissionError(f"{record.place}: the sources of {name} in this pack make no program: {found}")
            if found is not None and found.workload != record.trial.spec.workload_program:
                whys[program] = f"{record.trial.spec.task} is another program here"
            elif found is not None and found.programs != (program,):
                raise SubmissionError(
                    f"{record.place}: the sources of {name} in this pack make program {found.programs[0][:12]}, and "
                    f"{program[:12]} ran; a pack holds what ran: `harness publish` writes one from the run folders"
                )
        for why in dict.fromkeys(filter(None, whys.values())):
            yield f"note: whether the sources of {name} make its programs is not checked: {why}"


def _not_exported(record: Record, here: dict[str, str | None]) -> str:
    """Return why a record's program cannot be made here; empty where it can."""
    spec, result = record.trial.spec, record.trial.result
    there = (result.fingerprint.get("packages") if result else None) or {}
    for package in EXPORTING:
        if there.get(package) != here.get(package):
            return f"made under {package} {there.get(package)}, here is {here.get(package)}"
    if spec.device == "gpu" and not hardware.visible_gpus():
        return "made for a GPU, which is not here"
    if record.home is None or record.info is None:
        return f"{spec.task} is not here at version {spec.workload_version}"
    return ""


def _wanted(record: Record) -> processes.Wanted:
    assert record.home is not None
    return wanted_of(record.trial.spec, replace(record.options, workload_path=str(record.home.path)))


def check_page(folder: Folder) -> None:
    """Raise SubmissionError for a single file or a function: `check` asks no README.md of it, and does of its pack."""
    if (folder.path / discovery.ORIGIN).is_file() and static.page(folder.path):
        origin, name = discovery.entry(folder.path), folder.name
        if other := discovery.find_all("submissions").get(name):
            told = f"{other.path} makes other programs than ran, or has other defaults: mend that, or run it"
        elif origin.endswith(".py"):
            told = (
                f"`harness new {name}` writes one. Put {origin} in place of its submission.py, its DEFAULTS and SPACE "
                "into submission.yaml, write README.md, and publish again: where it makes the same programs nothing "
                "runs anew"
            )
        else:
            told = f"`harness new NAME --optax {name}` writes one; run that"
        raise SubmissionError(f"{origin} is not published: a board takes a folder with a README.md; {told}")
