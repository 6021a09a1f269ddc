"""The hyperparameter points of a submission under a ruleset, and the file that records them before the first trial."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, RunFolderError, SubmissionError
from harness.program.discovery import Folder
from harness.program.search_space import distinct_points
from harness.program.submission import SubmissionInfo, choose_point
from harness.record import plain_data
from harness.record.files import write_atomic
from harness.record.spec import SCHEMA, Rules, RunSpec, Value, short_hash
from harness.search import two_passes

SEARCH_SEED = two_passes.SEED
"""What points and the streams of a search are drawn from, whatever `seed=` says: that is the nonce of the studies that
are scored, and the program and points of a submission are entered on a board before it is drawn.
"""


@dataclass(frozen=True)
class Points:
    """What the trials of a submission are run with, on every workload alike.

    Attributes:
      submission, submission_hash, rules, seed, fixed: what they follow from; `seed` is `SEARCH_SEED`, but another in
        files of earlier versions, and `fixed` is given by hp.NAME.
      origin: where they come from, for people.
      studies: the points of each study, trial by trial. Where points only choose (`fresh_seeds`) there is one list.
      schema: version of the file.
    """

    submission: str
    submission_hash: str
    rules: str
    seed: int
    fixed: dict[str, Value]
    origin: str
    studies: tuple[tuple[dict[str, Value], ...], ...]
    schema: int = SCHEMA

    @property
    def trials(self) -> int:
        """Trials in a study: fewer than the ruleset's where the submission's own list is shorter."""
        return len(self.studies[0])

    @property
    def drawn(self) -> bool:
        """Whether there is more to it than the defaults, so that a file is kept."""
        return len({short_hash(point) for study in self.studies for point in study}) > 1


def rules_for(rules: Rules, info: SubmissionInfo) -> Rules:
    """Return what a submission runs by: one that tunes itself by the self-tuning part of the ruleset, if it has one."""
    if info.tuning == "external" or rules.points == "defaults":
        return rules
    own = rules.self_tuning
    if own is None:
        return replace(rules, points="defaults", trials=1)
    return replace(rules, name=own.rules, points="defaults", trials=1, budget_factor=own.budget_factor)


def points_of(folder: Folder, info: SubmissionInfo, rules: Rules, run: RunSpec) -> Points:
    """Return the points: those recorded below the output folder, or else drawn.

    Raises ConfigError where hp.NAME does not fit, SubmissionError where the search space does not.
    """
    try:
        default = choose_point(folder, info, run.hp)
    except SubmissionError as error:  # the user's slip
        raise ConfigError(str(error)) from None
    searched = set(info.space) if rules.points == "search" else set()
    if lacking := [name for name in info.required if name not in {*run.hp, *searched}]:
        typed = " ".join(f"hp.{name}={default[name]}" for name in lacking)
        raise ConfigError(f"{folder.name} has no default for {', '.join(lacking)}; give one, as in {typed}")
    blank = Points(folder.name, folder.source_hash, rules.name, SEARCH_SEED, dict(run.hp), "", ())
    lists = 1 if rules.counts == "fresh_seeds" else rules.studies
    origin = "the defaults"
    studies = [[default] * (rules.trials if rules.points == "defaults" else 1)] * lists
    if rules.points == "search" and info.points:
        listed = [choose_point(folder, info, point | run.hp) for point in info.points]
        own = list({short_hash(point): point for point in listed}.values())
        studies, origin = [own[: rules.trials]] * lists, "the submission's own list"
    elif rules.points == "search" and (names := [name for name in info.space if name not in run.hp]):
        fixed = replace(info, defaults=default)
        origin = f"{', '.join(names)}: scrambled Halton sequence, seed {SEARCH_SEED}"
        count = lists * rules.trials
        given = replace(blank, studies=(({},) * rules.trials,) * lists)
        if (file := plan_file(Path(run.out), given)).exists():  # before scipy is imported, which draws them
            return read(file)
        drawn = distinct_points(fixed, names, count, SEARCH_SEED)
        studies = [drawn[i : i + rules.trials] for i in range(0, count, rules.trials)]
    found = replace(blank, origin=origin, studies=tuple(map(tuple, studies)))
    file = plan_file(Path(run.out), found)
    return read(file) if found.drawn and file.exists() else found


def plan_file(root: Path, points: Points) -> Path:
    """Return where points are recorded: another source, ruleset or number of trials is another file."""
    counts = [len(study) for study in points.studies]
    key = short_hash([points.submission_hash, points.rules, points.seed, points.fixed, counts])
    return root / "plans" / f"{points.submission}-{points.rules}-{key}.json"


def record(root: Path, points: Points) -> None:
    """Write the file, once."""
    file = plan_file(root, points)
    if points.drawn and not file.exists():
        write(file, plain_data.to_plain(points))


def read(file: Path) -> Points:
    """Read recorded points. Raises RunFolderError where they are damaged."""
    try:
        data = json.loads(file.read_text())
    except ValueError as error:
        raise RunFolderError(
            f"{file}, which holds the points of the trials, cannot be read ({error}); remove it to draw the same anew"
        ) from None
    return plain_data.read(Points, data, str(file), RunFolderError)


def write(file: Path, value: Any) -> None:
    """Write JSON below the output folder."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{file} cannot be written ({error.strerror}); choose another place with out=DIR"
        ) from None
    write_atomic(file, value)
