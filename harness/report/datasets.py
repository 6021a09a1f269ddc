"""What `harness data` does: list, get and verify."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data import fetch, sharded, store
from harness.data.get import downloads, get
from harness.data.specs import DATASETS, DataSet, get_command
from harness.errors import ConfigError, DataError, HarnessError, suggest
from harness.program import discovery
from harness.report.tables import print_line, print_table

_MIB = 2**20


@dataclass(frozen=True)
class Stand:
    """How a data set stands after an action on it; `error` is what the action met."""

    dataset: DataSet
    state: store.State
    why: str
    error: HarnessError | None = None


def run(
    action: str, names: Sequence[str], *, everything: bool, mirror: str | None, shards: int | None = None
) -> list[Stand]:
    """Do one action on the named data sets (default: all) and return how they stand then.

    Raises ConfigError for an unknown action or name, or an option of another action.
    """
    if action not in _ACTIONS:
        raise ConfigError(f"harness data: unknown action '{action}'; {suggest(action, _ACTIONS, 'actions')}")
    if action != "get" and (mirror or everything):
        raise ConfigError(f"harness data {action} takes no {'--mirror' if mirror else '--all'}; that is for get")
    if action == "get" and not names and not everything:
        raise ConfigError(f"name data sets to get, or all of them with --all; {suggest('', DATASETS, 'data sets')}")
    for name in names:
        if name not in DATASETS:
            raise ConfigError(f"unknown data set '{name}'; {suggest(name, DATASETS, 'data sets')}")
    chosen = [DATASETS[name] for name in dict.fromkeys(names)] or list(DATASETS.values())
    if everything:  # these are large, and asked for by name
        chosen = [one for one in chosen if not one.shards and not one.images]
    if mirror and (images := [one.name for one in chosen if one.images]):
        raise ConfigError(
            f"{images[0]} takes no --mirror, since nothing of it is downloaded: put its images, or links to them, "
            f"below {store.root() / images[0]}, then type: {get_command(images[0])}"
        )
    _check_shards(action, chosen, shards)
    if action == "verify" and not names:  # a set that is not here is no fault, unless it was asked for
        absent = [one for one in chosen if store.state(one.name)[0] == "missing"]
        for one in absent:
            print_line(f"{one.name}: not here; `{get_command(one.name)}` gets it")
        chosen = [one for one in chosen if one not in absent]
    errors = _get(chosen, mirror, shards) if action == "get" else _verify(chosen) if action == "verify" else {}
    return [Stand(one, *store.state(one.name), errors.get(one.name)) for one in chosen]


def exit_code(stands: Sequence[Stand]) -> int:
    """Return 0, or that of an error that an action met."""
    return max((stand.error.exit_code for stand in stands if stand.error), default=0)


def as_json(stands: Sequence[Stand]) -> dict[str, Any]:
    """Return what `harness data --json` prints; sizes are in bytes."""
    return {
        "folder": str(store.root()),
        "datasets": [
            {
                "name": stand.dataset.name,
                "state": stand.state,
                "problem": str(stand.error) if stand.error else stand.why or None,
                "download_bytes": _download_bytes(stand.dataset),
                "prepared_bytes": stand.dataset.prepared_bytes,
                "sha256": stand.dataset.sha256,
                "licence": stand.dataset.licence,
                "needed_by": used_by(stand.dataset.name),
                "what": stand.dataset.what,
            }
            for stand in stands
        ],
    }


def used_by(name: str) -> list[str]:
    """Return the workloads that need a data set; those that cannot be read are left out."""
    found = []
    for folder in discovery.find_all("workloads").values():
        with contextlib.suppress(HarnessError):
            if name in discovery.workload_info(folder).datasets:
                found.append(folder.name)
    return found


def print_list(stands: Sequence[Stand]) -> None:
    """Print a table of the data sets, and what is wrong with those that are damaged or there in part."""
    rows = [
        [
            one.dataset.name,
            sharded.count(one.dataset, store.root() / one.dataset.name) if one.state == "partial" else one.state,
            _mib(size) if (size := _download_bytes(one.dataset)) else "-",
            _mib(one.dataset.prepared_bytes),
            one.dataset.licence,
            ", ".join(used_by(one.dataset.name)) or "-",
            one.dataset.what,
        ]
        for one in stands
    ]
    print_table(["name", "state", ">download MiB", ">prepared MiB", "licence", "needed by", "what"], rows)
    for one in stands:
        if one.state in ("damaged", "partial"):
            print_line(one.why, style="red" if one.state == "damaged" else "yellow")
    print_line(f"\nfolder: {store.root()} (the environment variable HARNESS_DATA names another)")


def _download_bytes(dataset: DataSet) -> int:
    return sum(file.bytes for file in dataset.files)


def _check_shards(action: str, chosen: Sequence[DataSet], shards: int | None) -> None:
    """Raise ConfigError where --shards stands beside another action, no set of shards, or a number that is not there;
    and where a set of shards is to be got without it.
    """
    sharded = [one for one in chosen if one.shards]
    if action != "get" or not sharded:
        if shards is not None:
            raise ConfigError("--shards goes with `harness data get` and a set of shards, as in get fineweb --shards 8")
        return
    for one in sharded:
        have = len(one.files) - 1
        if shards is None or not 1 <= shards <= have:
            told = "is missing" if shards is None else f"is {shards}"
            raise ConfigError(
                f"--shards {told}; {one.name} has {have} training shards of {_mib(one.files[1].bytes)} MiB each, its "
                f"workloads take {one.shards}: {get_command(one.name)}"
            )


def _get(datasets: Sequence[DataSet], mirror: str | None, shards: int | None) -> dict[str, HarnessError]:
    errors: dict[str, HarnessError] = {}
    for dataset in datasets:
        try:
            with _progress() as (show, say):
                get(dataset.name, mirror, show, say, shards=shards)
        except DataError as error:
            _print_error(error)
            errors[dataset.name] = error
        except KeyboardInterrupt:
            for part in sorted(downloads(dataset.name).glob("*")):
                if part.suffix != ".from":
                    print_line(f"{dataset.name}: kept {part}, {_mib(part.stat().st_size)} MiB")
            raise
    return errors


def _verify(datasets: Sequence[DataSet]) -> dict[str, HarnessError]:
    errors: dict[str, HarnessError] = {}
    for dataset in datasets:
        try:
            store.verify(dataset.name)
        except DataError as error:
            _print_error(error)
            errors[dataset.name] = error
        else:
            own = "each image as it was indexed" if dataset.images else "each shard as it came"
            how = f"content sha256 {dataset.sha256}" if dataset.sha256 else own
            print_line(f"{dataset.name}: whole, {how}")
    return errors


_ACTIONS = ("list", "get", "verify")


def _print_error(error: HarnessError) -> None:
    """Print an error where more is to be done after it."""
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _progress() -> Iterator[tuple[fetch.Show, Callable[[str], None]]]:
    """Yield how to show a download and how to say something: with a bar on a terminal, else in plain lines."""
    if not sys.stdout.isatty():
        yield _plain_show(), lambda text: print(text, flush=True)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.text import Text

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), transient=True) as progress:
        tasks = {}

        def show(name: str, have: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total)
            progress.update(tasks[name], completed=have, total=total)

        yield show, lambda text: progress.console.print(Text(text))


def _plain_show() -> fetch.Show:
    shown: dict[str, int] = {}  # tenths of each download that were told

    def show(name: str, have: int, total: int | None) -> None:
        tenth = 10 * have // total if total else have // (32 * _MIB)
        if tenth != shown.get(name):
            shown[name] = tenth
            of = f" of {_mib(total)}" if total else ""
            print(f"{name}: {_mib(have)}{of} MiB", flush=True)

    return show


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f}"
