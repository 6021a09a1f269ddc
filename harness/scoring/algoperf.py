"""Reader of AlgoPerf's published logs, from a folder or a tar file of them.

A trial is `<submission>/study_<k>/<workload>_<jax|pytorch>/trial_<n>/eval_measurements.csv`, below whatever prefix
the set has. A row is an evaluation: `score` is the accumulated submission time in seconds, `validation/<metric>` the
metric; an empty cell is NaN and never meets a target. Whatever else lies there is passed over; CSV files that are in no
trial's place are named.
"""

from __future__ import annotations

import csv
import itertools
import math
import re
import tarfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from harness.errors import RunFolderError, suggest
from harness.scoring.algoperf_targets import LogTarget, Targets
from harness.scoring.outcomes import Outcome

CSV = "eval_measurements.csv"

_STUDY = re.compile(r"study_(\d+)")
_TRIAL = re.compile(r"trial_(\d+).*")
_FRAMEWORK = re.compile(r"(.+)_(jax|pytorch)")

_SEVERAL = "further folders of a trial that has one, counted as trials of their study, as upstream has it"

_Oddities = defaultdict[str, list[str]]  # files, by what is odd about them


@dataclass(frozen=True)
class Logs:
    """What a set of logs holds.

    Attributes:
      outcomes: one for each trial of a scored workload, sorted.
      notes: a line on each oddity.
      rows: seconds, step and metric of every evaluation, by `Outcome.where`; of trials that were measured.
    """

    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...]
    rows: Mapping[str, Sequence[tuple[float, float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Place:
    """Where a CSV file stands in the tree."""

    prefix: str
    submission: str
    study: int
    workload: str
    framework: str
    trial: int


def read_logs(path: Path, targets: Targets) -> Logs:
    """Read every trial at or below `path`, a folder or a tar file, plain or compressed.

    Raises RunFolderError for what cannot be read or understood, with the file, the row and the value.
    """
    scored = {*targets.base, *targets.held_out}
    odd: _Oddities = defaultdict(list)
    outcomes: list[Outcome] = []
    measured: dict[str, list[tuple[float, float, float]]] = {}
    seen: dict[tuple[str, str, int, int], bytes] = {}
    frameworks: dict[tuple[str, str], tuple[str, str]] = {}
    prefixes: dict[str, str] = {}
    for name, content in sorted(_files(path)):
        place = _place(name, targets)
        if place is None:
            odd["CSV files that are in no trial's place and do not count"].append(name)
            continue
        prefixes.setdefault(place.prefix, name)
        if place.workload not in scored:
            odd[f"trials of {place.workload}, which the targets file does not score"].append(name)
            continue
        framework = frameworks.setdefault((place.submission, place.workload), (place.framework, name))
        if framework[0] != place.framework:
            raise RunFolderError(
                f"{place.submission} has {place.workload} in two frameworks, {framework[1]} and {name}; move one away"
            )
        trial = (place.submission, place.workload, place.study, place.trial)
        if (first := seen.setdefault(trial, content)) is not content:
            odd["copies of another trial, counted once" if first == content else _SEVERAL].append(name)
            if first == content:
                continue
        target = targets.known[place.workload]
        measured[name] = list(_rows(name, content, f"validation/{target.metric}", odd))
        outcomes.append(_outcome(place, name, measured[name], target, odd))
    if not prefixes:
        raise RunFolderError(
            f"no AlgoPerf trials in {path}: expected SUBMISSION/study_0/WORKLOAD_jax/trial_1/{CSV} there"
        )
    if len(prefixes) > 1:
        (one, first_file), (other, second_file) = list(prefixes.items())[:2]
        raise RunFolderError(
            f"{path} holds several sets of logs, '{one}' ({first_file}) and '{other}' ({second_file}), which are never "
            "scored together; name one of them"
        )
    _check_metrics(outcomes, targets, odd)
    return Logs(tuple(outcomes), tuple(_remark(what, files) for what, files in sorted(odd.items())), measured)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the path, relative to `path` and with slashes, and the content of every CSV file of evaluations."""
    if path.is_dir():
        for file in path.rglob(CSV):
            yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile() and PurePosixPath(member.name).name == CSV:
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    yield str(PurePosixPath(member.name)), content.read()
    except FileNotFoundError:
        raise RunFolderError(f"no logs at {path}; expected a folder or a tar file") from None
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise RunFolderError(f"{path} cannot be read as a tar file: {error}; is it whole?") from None


def _place(name: str, targets: Targets) -> _Place | None:
    """Return where a file stands; None for a stray. Raises RunFolderError for a workload the targets do not know."""
    parts = PurePosixPath(name).parts
    if len(parts) < 5:
        return None
    submission, study_name, workload, trial_name = parts[-5:-1]
    study, trial, named = _STUDY.fullmatch(study_name), _TRIAL.fullmatch(trial_name), _FRAMEWORK.fullmatch(workload)
    base, framework = (named[1], named[2]) if named else (workload, "")
    if not study or not trial or (not named and base not in targets.known):
        return None
    if base not in targets.known:
        raise RunFolderError(
            f"{name}: workload '{base}' is not in {targets.where}; {suggest(base, targets.known, 'known')}"
        )
    return _Place("/".join(parts[:-5]), submission, int(study[1]), base, framework, int(trial[1]))


def _outcome(
    place: _Place, name: str, rows: Sequence[tuple[float, float, float]], target: LogTarget, odd: _Oddities
) -> Outcome:
    if any(after[0] < before[0] for before, after in itertools.pairwise(rows)):
        odd["trials whose submission time goes backwards"].append(name)
    hit = next(((row, s, step) for row, (s, step, value) in enumerate(rows) if target.meets(value)), None)
    outcome = Outcome(place.submission, place.workload, place.study, place.trial, name, "missed", reached=False)
    if hit is None:
        return outcome
    row, seconds, step = hit
    if not 0 < seconds < math.inf:
        raise RunFolderError(f"{name}, row {row + 2}: the target is met and score is {seconds}; expected seconds")
    if row == 0:
        odd["trials that meet the target at their first evaluation: is the metric's direction right?"].append(name)
    return replace(
        outcome,
        status="target_reached",
        reached=True,
        times={"wall": seconds, "steps": step} if step > 0 else {"wall": seconds},
        evaluation=row,
        steps=int(step) if math.isfinite(step) else None,
    )


def _rows(name: str, content: bytes, metric: str, odd: _Oddities) -> Iterator[tuple[float, float, float]]:
    """Yield score, global_step and the metric of each evaluation; none for a file that holds no measurement."""
    try:
        table = [row for row in csv.reader(content.decode().splitlines()) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunFolderError(f"{name} is no CSV file: {error}; fetch it again") from None
    if len(table) < 2:
        odd["trials without a measurement, counted as missed"].append(name)
        return
    header = table[0]
    if "score" not in header:
        raise RunFolderError(f"{name}: expected the column 'score', got {', '.join(header)}")
    if metric not in header:
        odd[f"trials without the column {metric}, counted as missed"].append(name)
        return
    if len(table[-1]) < len(header):
        odd["trials whose last row is cut off, left out"].append(name)
        del table[-1]
    elif not content.endswith(b"\n"):
        odd["trials whose last row has no end and may be cut"].append(name)
    columns = [header.index(c) if c in header else None for c in ("score", "global_step", metric)]
    for number, row in enumerate(table[1:], 2):
        if len(row) != len(header):
            raise RunFolderError(f"{name}, row {number}: expected {len(header)} cells, got {len(row)}; fetch it again")
        try:
            score, step, value = (math.nan if c is None or not row[c] else float(row[c]) for c in columns)
        except ValueError as error:
            raise RunFolderError(f"{name}, row {number}: {error}; expected numbers or empty cells") from None
        yield score, step, value


def _check_metrics(outcomes: Sequence[Outcome], targets: Targets, odd: _Oddities) -> None:
    """Raise RunFolderError where no trial of a workload has its metric: the targets are not those of these logs."""
    trials = Counter(one.workload for one in outcomes)
    for workload, number in sorted(trials.items()):
        what = f"trials without the column validation/{targets.known[workload].metric}, counted as missed"
        without = [one.where for one in outcomes if one.workload == workload and one.where in set(odd.get(what, ()))]
        if len(without) == number:
            raise RunFolderError(
                f"no trial of {workload} has the column validation/{targets.known[workload].metric}, which "
                f"{targets.where} asks for (first: {without[0]}); use the targets file of these logs"
            )


def _remark(what: str, files: Sequence[str]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{what}: {files[0]}{more}"
