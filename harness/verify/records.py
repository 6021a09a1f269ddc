"""What `harness verify` and `harness publish` are given: run folders and packs, with where their programs and sources
lie.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.errors import HarnessError, RunFolderError
from harness.program import discovery, store
from harness.program.discovery import Folder
from harness.program.workload import WorkloadInfo
from harness.record import pack, published, run_folder
from harness.record.run_folder import Trial
from harness.record.spec import Options


@dataclass(frozen=True)
class Record:
    """A trial, and what belongs to it.

    Attributes:
      place: for people.
      trial: as read.
      options: of its `spec.json`, with the submission's folder where that is.
      told_id: the id that `spec.json` states.
      programs: the folder that holds a folder for each program.
      submission: the folder of its sources, where there is one; of those in a pack, in the pack.
    """

    place: str
    trial: Trial
    options: Options
    told_id: str
    programs: Path
    submission: Folder | None

    @property
    def home(self) -> Folder | None:
        """The workload's folder here: what is found by its name, and never by a path that a record brings, since it is
        imported; else where a run of this machine had it.
        """
        path = Path(self.options.workload_path)
        there = path.is_absolute() and (path / "workload.py").is_file()
        had = Folder("workloads", path.name, path) if there else None
        return discovery.find_all("workloads").get(self.trial.spec.workload, had)

    @property
    def info(self) -> WorkloadInfo | None:
        """The workload's specification, where it is here at the version of the record."""
        home, spec = self.home, self.trial.spec
        if home is None:
            return None
        try:
            info = discovery.workload_info(home, spec.variant)
        except HarnessError:
            return None
        return info if info.target.version == spec.workload_version else None

    def program(self, kind: str) -> Path | None:
        """The folder of one of its programs ("workload", "submission"); None where it is not there."""
        spec = self.trial.spec
        name = spec.workload_program if kind == "workload" else spec.program
        there = name is not None and (self.programs / name / store.MANIFEST).is_file()
        return self.programs / name if name is not None and there else None


OnProblem = Callable[[str, RunFolderError], object]


def refuse(place: str, problem: RunFolderError) -> None:
    """Raise what is wrong with a record."""
    raise problem


Reader = Callable[[], Record]


@contextmanager
def opened(places: Sequence[Path], on_problem: OnProblem = refuse) -> Iterator[dict[str, list[Record]]]:
    """Yield the records at or below these places, by the place or pack that holds them; packs are unpacked while it
    lasts. What cannot be read is handed to `on_problem`. Raises RunFolderError for a place that holds no records.
    """
    with ExitStack() as stack:
        found: dict[str, list[Record]] = {}
        for place in places:
            folders = run_folder.find_trials(place) if place.is_dir() else []
            packs = pack.find(place, damaged=True)
            if not place.exists():
                raise RunFolderError(
                    f"{place}: no such file or folder; name run folders, folders that hold some (runs), or packs of "
                    "`harness publish`; --only NAME takes one submission's of these"
                )
            if published.find(place) and not folders and not packs:
                raise RunFolderError(
                    f"{place}: results without logs and programs, which nobody can verify; `harness score` shows it"
                )
            if place.is_file() and not packs:
                pack.read(place)  # which says what is wrong with it
            if not folders and not packs:
                raise RunFolderError(f"no run folder at or below {place}, nor a pack; `harness run` makes some")
            if folders:
                readers = [(str(path), functools.partial(of_folder, path)) for path in folders]
                found[str(place)] = list(_readable(readers, on_problem))
            for file in packs:
                try:
                    about, root = stack.enter_context(pack.unpacked(file))
                except RunFolderError as error:
                    on_problem(str(file), error)
                    continue
                found[str(file)] = list(_readable(of_pack(file, about, root), on_problem))
        yield found


def of_folder(path: Path) -> Record:
    """Return the record of a run folder; its programs are in the store."""
    trial, options = run_folder.read_trial(path), run_folder.read_spec(path)[1]
    source = Path(options.submission_path)
    there = (source / "submission.py").is_file()
    folder = Folder("submissions", source.name, source) if there else None
    return Record(str(path), trial, options, _told_id(path), store.root(), folder)


def _readable(readers: Iterable[tuple[str, Reader]], on_problem: OnProblem) -> Iterator[Record]:
    for place, read in readers:
        try:
            yield read()
        except RunFolderError as error:
            on_problem(place, error)


def of_pack(file: Path, about: pack.About, root: Path) -> Iterator[tuple[str, Reader]]:
    """Yield what reads each record of an unpacked pack, and its place."""
    sources = {
        one.name: root / one.folder for one in about.submissions
    }  # of another hash, but the same programs, maybe

    def read(path: Path, place: str) -> Record:
        trial, options = run_folder.read_trial(path), run_folder.read_spec(path)[1]
        spec = trial.spec
        source = sources.get(spec.submission)
        folder = Folder("submissions", spec.submission, source) if source and source.is_dir() else None
        options = replace(options, workload_path="", submission_path=str(source or ""))
        return Record(place, trial, options, _told_id(path), root / pack.PROGRAMS, folder)

    for path in run_folder.find_trials(root / pack.TRIALS):
        place = f"{file}:{path.relative_to(root).as_posix()}"
        yield place, functools.partial(read, path, place)


def _told_id(path: Path) -> str:
    return str(json.loads((path / "spec.json").read_text()).get("id"))
