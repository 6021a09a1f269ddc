"""What `harness report` is asked to show: each place a board or more, and of two packs a board of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import RunFolderError
from harness.record.run_folder import Trial
from harness.report import leaderboard, score_sources
from harness.report.page import boards, two_packs
from harness.report.page.boards import Board
from harness.report.scores import unscored_workloads


@dataclass(frozen=True)
class Pack:
    """Trials by one ruleset that are scored together."""

    name: str
    trials: tuple[Trial, ...]
    published: bool

    def board(self, **options: Any) -> Board:
        """Score them; `options` are those of `harness.report.page.boards.of_trials`."""
        return boards.of_trials(self.trials, self.name, self.unscored, published=self.published, **options)

    @property
    def unscored(self) -> set[str]:
        """The workloads that are shown and do not enter the score, as `harness score` has it."""
        if self.published:
            return leaderboard.unscored(self.trials)
        return unscored_workloads({trial.spec.workload for trial in self.trials})


def packs(
    places: Sequence[Path], rules: str | None = None, *, together: bool = False
) -> tuple[list[Pack], list[RunFolderError]]:
    """Return a pack for each published file, and for each ruleset of the run folders of a place, in the order of
    places; with `together` all are one pack for each ruleset. Run folders that cannot be read are returned as problems.

    Raises RunFolderError for a place that holds neither, ConfigError where no trial was run by these rules.
    """
    read = [(places, score_sources.read(places, rules))] if together else []
    read = read or [([place], score_sources.read([place], rules)) for place in dict.fromkeys(places)]
    found: list[tuple[Path, str, list[Trial], bool]] = []
    for of, sources in read:
        trials = list(sources.trials)
        if together:
            trials += [trial for kept in sources.published.values() for trial in kept]
        else:
            found += [
                (file.with_name(file.name.removesuffix(".tar.xz").removesuffix(".jsonl")), "", kept, True)
                for file, kept in sources.published.items()
            ]
        names = sorted({trial.spec.rules for trial in trials})
        for name in names:
            same = [trial for trial in trials if trial.spec.rules == name]
            found.append((of[0], name if len(names) > 1 else "", same, False))
    labels = _labels([place for place, *_ in found])
    made = [
        Pack(f"{label}, {name}" if name else label, tuple(trials), published)
        for label, (_, name, trials, published) in zip(labels, found, strict=True)
    ]
    return made, [problem for _, sources in read for problem in sources.problems]


def of_packs(found: Sequence[Pack], below: Path | None, *, allow_missing: bool = False) -> list[Board]:
    """Return a board for each pack. Of two that share submissions and workloads a board of both comes first; where they
    cannot be scored together, a note on each says why.
    """
    names, workloads = (
        set.intersection(*({getattr(trial.spec, what) for trial in pack.trials} for pack in found))
        for what in ("submission", "workload")
    )
    two = len(found) == 2 and bool(names and workloads)
    most = boards.MOST_MEASUREMENTS // (4 if two else len(found) or 1)  # a board of both repeats all tables
    options: dict[str, Any] = {"below": below, "allow_missing": allow_missing, "most": most}
    made = [pack.board(**options) for pack in found]
    if not two:
        return made
    before, after = (pack.name for pack in found)
    trials = [
        trial
        for pack in found
        for trial in two_packs.renamed([t for t in pack.trials if t.spec.workload in workloads], pack.name)
    ]
    unscored = set.union(*(pack.unscored for pack in found))
    try:
        both = boards.of_trials(trials, f"{before} and {after}", unscored, stale=False, **options)
    except RunFolderError as error:
        for board in made:
            board["notes"].append(f"not put side by side: {error}")
        return made
    both |= {
        "packs": [before, after],
        "changes": two_packs.changes(both, before, after),
        "looks": two_packs.looks(both, before, after),
    }
    return [both, *made]


def _labels(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart."""
    whole = [place.resolve().parts for place in places]
    for length in range(1, max(map(len, whole), default=1) + 1):
        labels = ["/".join(parts[-length:]) for parts in whole]
        if len(set(labels)) == len(set(whole)):
            return labels
    return [str(place) for place in places]
