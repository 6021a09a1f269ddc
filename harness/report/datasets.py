"""What `harness data` does: list, get and verify."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence

from harness.data import fetch, store
from harness.data.get import downloads, get
from harness.data.specs import DATASETS, DataSet, get_command
from harness.errors import ConfigError, DataError, HarnessError, suggest
from harness.program import discovery
from harness.report.tables import print_line, print_table

_MIB = 2**20


def run(action: str, names: Sequence[str], *, everything: bool, mirror: str | None) -> int:
    """Do one action on the named data sets; return the exit code."""
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
    if action == "verify" and not names:  # a set that is not here is no fault, unless it was asked for
        absent = [one for one in chosen if store.state(one.name)[0] == "missing"]
        for one in absent:
            print_line(f"{one.name}: not here; `{get_command(one.name)}` gets it")
        chosen = [one for one in chosen if one not in absent]
    return _ACTIONS[action](chosen, mirror)


def used_by(name: str) -> list[str]:
    """Return the workloads that need a data set; those that cannot be read are left out."""
    found = []
    for folder in discovery.find_all("workloads").values():
        with contextlib.suppress(HarnessError):
            if name in discovery.workload_info(folder).datasets:
                found.append(folder.name)
    return found


def _list(datasets: Sequence[DataSet], _: str | None) -> int:
    rows, damaged = [], []
    for dataset in datasets:
        state, why = store.state(dataset.name)
        damaged += [why] if state == "damaged" else []
        size = sum(file.bytes for file in dataset.files)
        rows.append(
            [
                dataset.name,
                state,
                _mib(size) if size else "-",
                _mib(dataset.prepared_bytes),
                dataset.licence,
                ", ".join(used_by(dataset.name)) or "-",
                dataset.what,
            ]
        )
    print_table(["name", "state", ">download MiB", ">prepared MiB", "licence", "needed by", "what"], rows)
    for why in damaged:
        print_line(why, style="red")
    print_line(f"\nfolder: {store.root()} (the environment variable HARNESS_DATA names another)")
    return 0


def _get(datasets: Sequence[DataSet], mirror: str | None) -> int:
    code = 0
    for dataset in datasets:
        try:
            with _progress() as (show, say):
                get(dataset.name, mirror, show, say)
        except DataError as error:
            _print_error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            for part in sorted(downloads(dataset.name).glob("*")):
                if part.suffix != ".from":
                    print_line(f"{dataset.name}: kept {part}, {_mib(part.stat().st_size)} MiB")
            raise
    return code


def _verify(datasets: Sequence[DataSet], _: str | None) -> int:
    code = 0
    for dataset in datasets:
        try:
            store.verify(dataset.name)
        except DataError as error:
            _print_error(error)
            code = error.exit_code
        else:
            print_line(f"{dataset.name}: whole, content sha256 {dataset.sha256}")
    return code


_ACTIONS: dict[str, Callable[[Sequence[DataSet], str | None], int]] = {"list": _list, "get": _get, "verify": _verify}


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
