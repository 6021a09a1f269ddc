"""From trials to scores: run folders, or AlgoPerf's logs. What is shown and what is written are views of `Scores`."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from harness.campaign.tuned_point import Choice
from harness.errors import ConfigError
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.record.spec import Clock, TrialSpec
from harness.scoring import gaps, looks, notes, selection, speedrun, speeds, tuned
from harness.scoring.algoperf import Logs
from harness.scoring.algoperf_targets import Targets
from harness.scoring.gaps import Gap
from harness.scoring.outcomes import (
    UNITS,
    Cells,
    Outcome,
    by_study,
    by_time,
    measured_clocks,
    outcome,
    settled,
    studies,
)
from harness.scoring.profiles import Integral
from harness.scoring.speedrun import Verdict
from harness.scoring.speeds import Speed
from harness.scoring.standings import Standings, standings
from harness.scoring.studies import Redrawn, StudyTimes, gather

Times: TypeAlias = dict[str, dict[str, float | None]]
"""By submission, then by workload; None where the target was not reached."""

_REACH = {"min": "at most", "max": "at least"}


@dataclass(frozen=True)
class Scores:
    """All that is shown and written.

    Attributes:
      rules: the ruleset; None where no trial counts.
      clock, unit: what ranks, and its unit.
      targets: what is to be reached on each workload that is shown, for people.
      levels: the target of each that has one.
      metrics: the metric of each.
      ranked: names of the workloads that enter the score, sorted.
      held_out: variants of AlgoPerf v0.5, each with its workload.
      cells: the trial that stands for each study, by submission and workload, on the ranking clock.
      times: median time to target on each clock that was measured at every hit, the ranking clock first.
      standings: of the ranked workloads, on each of these clocks; empty where there are none.
      gaps: what is missing.
      choices: of the points, where searches made them.
      speeds: by submission and workload, of the program that most of its trials ran.
      looks: versions of each submission that were measured (`harness.scoring.looks`).
      verdicts: where the mean of the final metric counts; nothing is ranked then.
      notes: lines.
    """

    rules: str | None = None
    clock: Clock | None = None
    unit: str = ""
    targets: dict[str, str] = field(default_factory=dict)
    levels: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    ranked: tuple[str, ...] = ()
    held_out: dict[str, str] = field(default_factory=dict)
    cells: Cells = field(default_factory=dict)
    times: dict[Clock, Times] = field(default_factory=dict)
    standings: dict[Clock, Standings] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    choices: tuple[Choice, ...] = ()
    speeds: dict[tuple[str, str], Speed] = field(default_factory=dict)
    looks: dict[str, int] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def submissions(self) -> list[str]:
        """Names, sorted."""
        return sorted(self.cells)

    @property
    def ranking(self) -> Standings | None:
        """The standings on the ranking clock; None where no workload is ranked."""
        return self.standings.get(self.clock) if self.clock else None

    @property
    def scores(self) -> dict[str, float | None]:
        """The score of each submission; None for one that ran on no ranked workload."""
        found = self.ranking
        if found is None:
            return dict.fromkeys(self.submissions)
        return {name: found.score[name].value if name in found.score else None for name in self.submissions}

    @property
    def several(self) -> bool:
        """Whether any submission has more than one study."""
        return any(len(row) > 1 for cell in self.cells.values() for row in cell.values())

    def reached(self, name: str, workload: str) -> str:
        """Return how many studies reached the target, as "2 of 3"."""
        row = self.cells[name][workload].values()
        return f"{sum(one.reached for one in row)} of {len(row)}"

    def status(self, name: str, workload: str) -> str:
        """Return how the trials that stand for the studies ended: an unfinished one first, then the commonest."""
        row = self.cells[name][workload].values()
        unfinished = Counter(one.status for one in row if not one.finished)
        return max(sorted((unfinished or Counter(one.status for one in row)).items()), key=lambda item: item[1])[0]

    def standing(self, name: str, workload: str) -> str:
        """Return the same for people: with several studies, how many are finished and how the others stand."""
        row = list(self.cells[name][workload].values())
        if len(row) < 2 or all(one.finished for one in row):
            return self.status(name, workload)
        return notes.of_unfinished(row)

    def steps(self, name: str, workload: str) -> float | None:
        """Return the median of the training steps to the target; None where it was missed."""
        return _median(one.steps for one in self.cells[name][workload].values())

    def test(self, name: str, workload: str) -> float | None:
        """Return the median of the metric on the test split at the end; None where it was not evaluated."""
        return _median(one.test for one in self.cells[name][workload].values())


def score(
    trials: Sequence[Trial],
    unscored: Collection[str] = (),
    *,
    clock: Clock | None = None,
    baseline: str | None = None,
    every_baseline: bool = False,
    allow_missing: bool = False,
) -> Scores:
    """Score the run folders that count.

    A study's time is that of its fastest trial; a submission's time on a workload is the median over its studies, a
    miss taking part as infinity (the rule of AlgoPerf: Dahl et al. 2023, arXiv:2306.07179). A study that was asked for
    and is missing or not finished is a miss too, unless `allow_missing` takes the median over the rest. A submission
    that was asked for fewer than others has those, and a gap that is named; older records do not say, and are taken to
    be asked for what any has.
    Calibrated times are those at the speed of a trial's program, the mean over the processes that ran it.

    `unscored` names the workloads that are shown and do not enter the score; `clock` ranks in place of the rules' own;
    `every_baseline` adds the speed-ups over each submission on that clock. Raises RunFolderError where the trials
    cannot be scored together, ConfigError where the baseline is not among them.
    """
    chosen = selection.select(trials, unscored)
    if not chosen.trials:
        return Scores(notes=chosen.notes)
    specs = {t.spec.workload: t.spec for t in chosen.trials}
    known = speeds.pooled(chosen.trials)
    outcomes = settled(
        outcome(trial, speeds.own_over_pooled(trial, known), speeds.drawn(trial, known)) for trial in chosen.trials
    )
    ranked = tuple(sorted(w for w, spec in specs.items() if w not in unscored and spec.target is not None))
    ranking = clock or chosen.trials[0].spec.clock
    declared = max(t.spec.studies or 0 for t in chosen.trials)
    expected = sorted({one.study for one in outcomes} | set(range(declared)))
    number = gaps.trials_in_a_study(outcomes)
    told = {t.spec.submission: t.spec.trials or number for t in chosen.trials}
    entered = {one.submission for one in outcomes if one.workload in ranked}
    missing = gaps.find(outcomes, entered, ranked, dict.fromkeys(entered, expected), told)
    asked = asked_studies(chosen.trials, expected)
    owed = gaps.find(outcomes, entered, ranked, asked, told)
    lines = list(chosen.notes)
    if aside := sorted(set(told) - entered) if ranked else []:
        lines.append(f"on no workload that is scored, so without a score: {', '.join(aside)}")
    if shown := sorted(set(specs) & set(unscored)):
        lines.append(f"shown but not part of the score: {', '.join(shown)}")
    again = selection.command([trial for trial in chosen.trials if trial.status in UNFINISHED])
    lines += notes.of_missing(outcomes, owed, allow_missing, again)
    lines += notes.of_fewer({name: asked[name] for name in entered}, len(expected))
    found_choices, remarks = tuned.choices(chosen.trials)
    of_programs = speeds.by_cell(chosen.trials, known)
    lines += notes.of_speeds({cell: one for cell, one in of_programs.items() if cell[1] in ranked}, ranking)
    lines += notes.of_calibration([t for t in chosen.trials if t.spec.workload in ranked], ranking)
    looked = {name: n for name, n in looks.looks(trials).items() if name in told}
    lines += looks.note(looked)
    lines += remarks + notes.of_hopeless(outcomes, ranking, chosen.trials[0].spec.clock)
    if chosen.trials[0].spec.counts == "mean":
        verdicts, ranked = speedrun.verdicts(chosen.trials, ranking, len(expected), allow_missing), ()
    else:
        verdicts, lines = (), lines + notes.of_studies(outcomes)
    return _scores(
        outcomes,
        Scores(
            rules=chosen.trials[0].spec.rules,
            clock=ranking,
            unit=UNITS[ranking],
            targets={w: target_text(spec) for w, spec in sorted(specs.items())},
            levels={w: spec.target for w, spec in specs.items() if spec.target is not None},
            metrics={w: spec.metric for w, spec in sorted(specs.items())},
            ranked=ranked,
            gaps=missing,
            choices=found_choices,
            speeds=of_programs,
            looks=looked,
            verdicts=verdicts,
            notes=tuple(lines),
        ),
        expected=None if allow_missing else asked,
        baseline=baseline,
        every_baseline=every_baseline,
        paired=len({trial.spec.seed for trial in chosen.trials}) == 1,
        redrawn=tuned.redrawn(found_choices),
    )


def asked_studies(trials: Sequence[Trial], every: Sequence[int]) -> dict[str, list[int]]:
    """Return the studies that each submission was asked for: those it has, and as many as its records say there are to
    be; `every` one of the table where they do not say.
    """
    found: dict[str, set[int]] = {}
    for trial in trials:
        spec = trial.spec
        found.setdefault(spec.submission, set()).update(
            {spec.study}, every if spec.studies is None else range(spec.studies)
        )
    return {name: sorted(studies) for name, studies in found.items()}


def score_logs(
    logs: Logs,
    targets: Targets,
    *,
    self_tuning: bool = False,
    compat: bool = False,
    clock: Clock | None = None,
    baseline: str | None = None,
    every_baseline: bool = False,
    allow_missing: bool = False,
) -> Scores:
    """Score AlgoPerf's logs by its written rules, or with `compat` by the arithmetic of its code.

    The two differ in the trial that stands for a study (the smallest time; the smallest index of the evaluation that
    met the target, ties by time) and in the integral (exact; trapezoid over 100 points). In both a missing study is
    left out of the median and a workload without any trial counts as missed, as upstream has it. Raises ConfigError
    where nobody has a trial on a workload that is to be scored, unless `allow_missing` lets all miss it.
    """
    outcomes = logs.outcomes
    absent = [w for w in (*targets.base, *targets.held_out) if w not in {one.workload for one in outcomes}]
    if absent and not allow_missing:
        raise ConfigError(
            f"{targets.where} scores {', '.join(absent)}, and the logs have no trial there; use the targets file of "
            "these logs, or --allow-missing to count it as missed by all"
        )
    ranking: Clock = clock or "wall"
    if ranking not in ("wall", "steps"):
        raise ConfigError(f"AlgoPerf's logs have no {ranking} clock; rank by wall (submission time) or steps")
    numbers = sorted({one.study for one in outcomes})
    numbers += [n for n in range(targets.studies) if n not in numbers][: max(0, targets.studies - len(numbers))]
    columns = (*targets.base, *targets.held_out)
    told = dict.fromkeys((o.submission for o in outcomes), 1 if self_tuning else 5)
    missing = gaps.find(outcomes, set(told), columns, dict.fromkeys(told, numbers), told)
    lines = [*logs.notes, *notes.of_rules(outcomes, targets, self_tuning)]
    lines += [f"missing: {gap.text}" for gap in missing]
    lines += notes.of_studies([one for one in outcomes if one.workload in targets.base])
    ruleset = f"AlgoPerf {targets.version}, {'self-tuning' if self_tuning else 'external tuning'}"
    return _scores(
        outcomes,
        Scores(
            rules=ruleset + (", arithmetic of its code" if compat else ""),
            clock=ranking,
            unit="seconds" if ranking == "wall" else "training steps",
            targets={
                w: f"{t.metric} {_REACH[t.mode]} {t.value:g}" for w, t in sorted(targets.known.items()) if w in columns
            },
            levels={w: t.value for w, t in targets.known.items() if w in columns},
            metrics={w: t.metric for w, t in sorted(targets.known.items()) if w in columns},
            ranked=tuple(sorted(targets.base)),
            held_out=targets.held_out,
            gaps=missing,
            notes=tuple(lines),
        ),
        expected=None,
        baseline=baseline,
        every_baseline=every_baseline,
        key=_by_evaluation if compat else by_time,
        integral="grid" if compat else "exact",
    )


def target_text(spec: TrialSpec) -> str:
    """Return what is to be reached, for people."""
    if spec.target is None:
        return f"{spec.metric}, no target"
    return f"{spec.metric} {_REACH[spec.mode]} {spec.target:g}, version {spec.workload_version}"


def _scores(
    outcomes: Sequence[Outcome],
    frame: Scores,
    *,
    expected: Mapping[str, Sequence[int]] | None,
    baseline: str | None,
    every_baseline: bool,
    key: Callable[[Clock], Callable[[Outcome], tuple[float, ...]]] = by_time,
    integral: Integral = "exact",
    paired: bool = False,
    redrawn: Mapping[tuple[str, str], Redrawn] | None = None,
) -> Scores:
    """Fill the frame: cells, times and standings on every clock that was measured. `expected` are the studies of each
    submission that count as missed where they are not there; without it they are left out.
    """
    assert frame.clock is not None
    times: dict[Clock, Times] = {}
    found: dict[Clock, Standings] = {}
    found_studies = by_study(outcomes)
    speed_of = {study: statistics.fmean(one.drawn for one in of) for study, of in found_studies.items()}
    numbers = sorted({one.study for one in outcomes} | {study for of in (expected or {}).values() for study in of})
    cells: dict[Clock, Cells] = {}
    for clock in (frame.clock, *(c for c in measured_clocks(outcomes) if c != frame.clock)):
        cells[clock] = studies(found_studies, key(clock))
        lists = _study_times(cells[clock], clock, numbers, expected or {})
        own = clock == "calibrated" and any(speed != 1.0 for speed in speed_of.values())
        beside = {
            name: {w: [speed_of.get((name, w, n), 1.0) for n in numbers] for w in row} for name, row in lists.items()
        }
        times[clock] = _medians(gather(lists, frame.targets))
        if frame.ranked:
            array = gather(
                {name: row for name, row in lists.items() if set(row) & set(frame.ranked)},
                frame.ranked,
                frame.held_out,
                speeds=beside if own else None,
                paired=paired,
                redrawn=redrawn,
            )
            asked = every_baseline and clock == frame.clock
            found[clock] = standings(
                array, baseline=baseline, every_baseline=asked, integral=integral, pairs=clock == frame.clock
            )
    chance = notes.of_chance(found[frame.clock].studies) if frame.ranked else []
    chance = notes.of_precision(cells[frame.clock], frame.speeds, frame.ranked, frame.clock) + chance
    return replace(
        frame,
        notes=(*frame.notes, *chance),
        cells=cells[frame.clock],
        times=times,
        standings=found,
    )


def _study_times(
    cells: Cells, clock: Clock, numbers: Sequence[int], expected: Mapping[str, Sequence[int]]
) -> dict[str, dict[str, list[float | None]]]:
    """Return the time of each of these studies, None for a miss; one that is not there or not finished is a miss where
    it is expected of the submission, else NaN.
    """

    def time(one: Outcome | None, *, due: bool) -> float | None:
        if one is not None and one.reached:
            return one.time(clock)
        return None if due or (one is not None and one.finished) else math.nan

    return {
        name: {
            workload: [time(row.get(n), due=n in expected.get(name, ())) for n in numbers]
            for workload, row in cell.items()
        }
        for name, cell in cells.items()
    }


def _medians(array: StudyTimes) -> Times:
    return {
        name: {w: None if np.isinf(t) else float(t) for w, t in zip(array.workloads, row, strict=True)}
        for name, row in zip(array.submissions, array.medians_SW, strict=True)
    }


def _by_evaluation(clock: Clock) -> Callable[[Outcome], tuple[float, ...]]:
    """Upstream's order of trials. Its own ties go to whichever folder the file system lists first."""
    by_clock = by_time(clock)
    return lambda one: (one.evaluation if one.reached else np.inf, *by_clock(one))


def _median(values: Iterable[float | None]) -> float | None:
    middle = statistics.median(math.inf if value is None else value for value in values)
    return None if math.isinf(middle) else float(middle)
