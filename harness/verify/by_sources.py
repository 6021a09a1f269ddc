"""Whether workload, data sets and submission are here as the record names them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

from harness.data import store as data_store
from harness.errors import DataError, HarnessError
from harness.machine import hardware
from harness.program import processes
from harness.program.discovery import Folder
from harness.verify.findings import Finding, judged, same, unchecked
from harness.verify.records import Record


def look(record: Record) -> Iterator[Finding]:
    """Yield what is found. Programs of workloads that the store lacks are exported, which imports no submission."""
    spec, home, info = record.trial.spec, record.home, record.info
    what = f"workload {spec.task}"
    if home is None:
        yield unchecked("sources", what, f"it is not here{_commit(record)}")
    elif info is None:
        yield unchecked("sources", what, f"it is at another version here than {spec.workload_version}{_commit(record)}")
    elif spec.workload_program is None:
        yield unchecked("sources", what, "the record is older than programs")
    else:
        yield _workload(record, home)
    yield from data(record)
    source = record.submission
    if source is None:
        yield unchecked("sources", f"submission {spec.submission}", "its sources are not here")
    elif (found := source.source_hash) == spec.submission_hash:
        yield Finding("sources", f"submission {spec.submission}", "ok")
    else:
        told = f"they have the hash {found} now, it ran with {spec.submission_hash}{_commit(record)}"
        yield unchecked("sources", f"submission {spec.submission}", told)


def _workload(record: Record, home: Folder) -> Finding:
    """Its program is the one that these sources are exported as."""
    spec = record.trial.spec
    what = f"workload {spec.task}"
    (found,) = _exported(home, spec.variant, spec.device)
    if isinstance(found, HarnessError):
        return unchecked("sources", what, str(found))
    if found == spec.workload_program:
        return Finding(
            "sources", what, "ok", "" if home.source_hash == spec.workload_hash else "other text, same program"
        )
    told = f"its sources here ({home.source_hash}) are exported as {found[:12]}, the record ({spec.workload_hash}) has "
    told += f"{spec.workload_program[:12]}{_commit(record)}" if spec.workload_program else "none"
    versions = (record.trial.result.fingerprint.get("packages") or {}) if record.trial.result else {}
    if versions.get("jax") != hardware.packages()["jax"]:
        return unchecked("sources", what, f"{told}; that was jax {versions.get('jax')}, and this is another")
    return Finding("sources", what, "differs", told)


@functools.cache
def _exported(home: Folder, variant: str | None, device: str) -> tuple[str | HarnessError, ...]:
    return tuple(processes.workload_ids([(home, variant)], device))  # type: ignore[arg-type]


def data(record: Record) -> Iterator[Finding]:
    """Yield whether each data set is here as the trial had it. What a set is, its specification pins; of a folder of
    images the record alone tells, by the hash of its index.
    """
    result = record.trial.result
    noted = (result.fingerprint.get("images") or {}) if result else {}
    root = data_store.root()
    for name, sha256 in sorted(record.info.datasets.items()) if record.info is not None else ():
        found = _data(name, sha256, root)
        yield found
        if found.verdict == "ok" and (here := _index(name, root)):
            yield _images(name, noted.get(name), here)


def _images(name: str, noted: str | None, here: str) -> Finding:
    what = f"images of {name}"
    if noted is None:
        return unchecked("sources", what, "the record does not say which they were")
    told = (
        f"the index of its images had the hash {noted}, that of {data_store.root() / name} has {here}: names, sizes, "
        "checksums or what was excluded are others; verify it where its images are, or index the same images here"
    )
    return judged("sources", what, noted == here, told)


def lacking(record: Record) -> str:
    """Return why a trial cannot be trained or evaluated on the data that are here; empty where it can."""
    others = [one.what for one in data(record) if one.verdict != "ok"]
    return f"the data here are not known to be those of the trial: {', '.join(others)}, see sources" if others else ""


@functools.cache
def _index(name: str, root: Path) -> str | None:
    return data_store.identity(name)


@functools.cache
def _data(name: str, sha256: str, root: Path) -> Finding:
    """Hash a data set, once."""
    what = f"data set {name}"
    try:
        dataset = data_store.find(name)
        if dataset.sha256 != sha256:
            return same("sources", what, sha256, dataset.sha256, "harness/data")
        data_store.verify(name)
    except DataError as error:
        return unchecked("sources", what, str(error))
    return Finding("sources", what, "ok")


def _commit(record: Record) -> str:
    held = record.trial.result.fingerprint if record.trial.result else {}
    commit = (held.get("git") or {}).get("commit")
    return f"; it ran at commit {str(commit)[:10]}" if commit else ""
