"""What `harness score` is asked to score: run folders and files of published records, alone or together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, RunFolderError, suggest
from harness.record import pack, run_folder
from harness.record.run_folder import Trial
from harness.report import leaderboard, staleness
from harness.report.scores import print_scores
from harness.report.tables import print_line


@dataclass(frozen=True)
class Sources:
    """The trials found.

    Attributes:
      trials: of run folders.
      published: of each file of published records, and of each pack.
      problems: run folders that cannot be read; they are left out.
    """

    trials: list[Trial]
    published: dict[Path, list[Trial]]
    problems: list[RunFolderError]


def read(places: Sequence[Path], rules: str | None = None) -> Sources:
    """Read every run folder and every published file at or below `places`; with `rules` only trials by that ruleset.

    Raises RunFolderError for a place that holds neither, ConfigError where no trial was run by these rules.
    """
    paths: dict[Path, None] = {}
    files: dict[Path, None] = {}
    for place in places:
        found, tables = run_folder.find_trials(place), leaderboard.boards(place)
        if not found and not tables:
            if place.is_file() and place.name.endswith(pack.SUFFIX):
                pack.read(place)  # which says what is wrong with it
            if "=" in place.name:
                raise RunFolderError(
                    f"{place}: expected folders or packs; runs/WORKLOAD holds the runs on one workload"
                )
            raise RunFolderError(f"no run folder at or below {place}, nor published records; `harness run` makes some")
        paths |= dict.fromkeys(found)
        files |= dict.fromkeys(tables)
    trials, problems = [], []
    for path in paths:
        try:
            trials.append(run_folder.read_trial(path))
        except RunFolderError as error:
            problems.append(error)
    held = {file: leaderboard.read_board(file) for file in files}
    if rules:
        known = {trial.spec.rules for trial in itertools.chain(trials, *held.values())}
        trials = [trial for trial in trials if trial.spec.rules == rules]
        held = {file: kept for file, of in held.items() if (kept := [t for t in of if t.spec.rules == rules])}
        if not trials and not held:
            raise ConfigError(f"no run by rules {rules}; {suggest(rules, known, 'there are')}")
    return Sources(trials, held, problems)


def print_all(sources: Sources, *, json: bool, csv: Path | None, **options: Any) -> None:
    """Print a table of the run folders, or one for each published file, with the run folders among its trials.

    `options` are those of `harness.report.scores.print_scores`. Raises RunFolderError where several files can only be
    scored one by one.
    """
    trials, held = sources.trials, sources.published
    if len(held) > 1 and (trials or json or csv):
        names = ", ".join(map(str, held))
        raise RunFolderError(f"{len(held)} files of published records are scored one by one; name one of them: {names}")
    if not held:
        print_scores(trials, json=json, csv=csv, **options)
    for number, (file, kept) in enumerate(held.items()):
        if len(held) > 1:
            print_line(f"{chr(10) * bool(number)}{file}", style="bold")
        both = [*kept, *trials]
        unscored = None if trials else leaderboard.unscored(both)
        print_scores(both, unscored=unscored, json=json, csv=csv, **options)
        if not json:
            stale = [f"stale: {line}" for line in staleness.since_published(kept)]
            for line in [*leaderboard.what_it_shows(kept), *stale]:
                print_line(f"note: {line}")
