"""What a reader of the scores has to know, in a line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from harness.record.result import FAILED, Status
from harness.record.run_folder import Trial
from harness.record.spec import Clock
from harness.scoring import bootstrap, gaps
from harness.scoring.algoperf_targets import Targets
from harness.scoring.gaps import Gap
from harness.scoring.outcomes import Cells, Outcome
from harness.scoring.speeds import FEW, SLOWEST, Speed

LOOSE = 0.1  # half-width of the 95% interval of a trial's own step ratio, as a share, beyond which a reader is told
COARSE = 0.1  # share of a time that lies between two measurements, beyond which a reader is told


def of_missing(outcomes: Sequence[Outcome], missing: Sequence[Gap], allowed: bool, again: str = "") -> list[str]:
    """What is missing from run folders, and what became of it. `again` is the command that goes on with it."""
    what = "left out of the median" if allowed else "counted as missed"
    lines = []
    unfinished = Counter((one.submission, one.workload) for one in outcomes if not one.finished)
    due = {(gap.submission, gap.workload): gap.studies_expected for gap in missing}
    for (submission, workload), _ in sorted(unfinished.items()):
        of = [one for one in outcomes if (one.submission, one.workload) == (submission, workload)]
        told = of_unfinished(of, due.get((submission, workload), 0))
        stopped = again and any(one.status != Status.RUNNING for one in of)
        more = f": go on with `{again}`, and what else it began with" if stopped else ""
        lines.append(f"{submission} on {workload}: {told}, {what} so far{more}")
    failed: dict[tuple[str, str, int], list[str]] = {}
    for one in outcomes:
        failed.setdefault(_study(one), []).append(one.status)
    for (submission, workload, study), statuses in sorted(failed.items()):
        if FAILED.issuperset(statuses):
            how = ", ".join(sorted(set(statuses)))
            lines.append(f"failed, counted as missed: study {study} of {submission} on {workload} ({how})")
    ran = {(one.submission, one.workload) for one in outcomes}
    absent: dict[str, list[str]] = {}
    for gap in missing:
        if (gap.submission, gap.workload) not in ran:
            absent.setdefault(gap.submission, []).append(gap.workload)
        elif gap.trials == unfinished[gap.submission, gap.workload]:
            continue
        elif gap.studies:
            lines.append(f"missing, {what}: {gap.text}" + ("" if allowed else "; --allow-missing leaves it out"))
        else:
            lines.append(f"missing, the fastest of the others counts: {gap.text}")
    lines += [f"{name} was not run on {', '.join(workloads)}: counted as missed" for name, workloads in absent.items()]
    return lines


def of_unfinished(outcomes: Iterable[Outcome], due: int = 0) -> str:
    """Return how many studies of one submission on one workload are finished, of those that are there or `due`, and how
    the others stand: as "1 of 2 studies finished; 1 interrupted".
    """
    studies: dict[int, list[Outcome]] = {}
    for one in outcomes:
        studies.setdefault(one.study, []).append(one)
    left = [[one.status for one in of if not one.finished] for of in studies.values()]
    open_ = Counter(Status.RUNNING if Status.RUNNING in of else of[0] for of in left if of)
    number = max(due, len(studies))
    told = ", ".join(f"{count} {status}" for status, count in sorted(open_.items()))
    return f"{len(studies) - open_.total()} of {number} {'study' if number == 1 else 'studies'} finished; {told}"


def of_fewer(asked: Mapping[str, Sequence[int]], most: int) -> list[str]:
    """Which submissions were asked for fewer studies than others: theirs are not missing, and tell less."""
    fewer: dict[int, list[str]] = {}
    for name, studies in sorted(asked.items()):
        if len(studies) < most:
            fewer.setdefault(len(studies), []).append(name)
    return [
        f"{', '.join(names)}: {count} of the {most} studies that others have, and scored on these; "
        f"studies={most} runs the others"
        for count, names in sorted(fewer.items())
    ]


def of_rules(outcomes: Sequence[Outcome], targets: Targets, self_tuning: bool) -> list[str]:
    """Where the logs are not what the rules of their version ask for."""
    lines = []
    most, studies_found = gaps.trials_in_a_study(outcomes), len({one.study for one in outcomes})
    if self_tuning and most > 1:
        lines.append(f"some studies have {most} trials, and self-tuning allows one: the fastest counts")
    if not self_tuning and most == 1:
        lines.append("no study has more than one trial: are these self-tuning logs? Then add --self-tuning")
    if studies_found > targets.studies:
        lines.append(
            f"{studies_found} studies are there, and version {targets.version} asks for {targets.studies}: all count"
        )
    return lines


def of_calibration(trials: Sequence[Trial], ranking: Clock) -> list[str]:
    """Trials in which the machine stalled: what their own yardstick says is uncertain."""
    if ranking != "calibrated":
        return []
    errors: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        error = trial.result.calibration.step_ratio_error if trial.result and trial.result.calibration else None
        if error is not None and error > LOOSE:
            errors.setdefault((trial.spec.submission, trial.spec.workload), []).append(error)
    if not errors:
        return []
    worst = sorted(errors, key=lambda cell: (-max(errors[cell]), cell))
    told = [f"{max(errors[cell]):.0%} for {cell[0]} on {cell[1]}" for cell in worst[:3]]
    told += [f"{LOOSE:.0%} or more for {len(worst) - 3} others"] if len(worst) > 3 else []
    return [
        f"the machine was busy: in single trials the yardstick is uncertain by {', '.join(told)}; these count less in "
        "the speed of their program, and `harness run ... out=DIR` measures anew"
    ]


def of_precision(
    cells: Cells, speeds: Mapping[tuple[str, str], Speed], ranked: Collection[str], ranking: Clock
) -> list[str]:
    """How far times may be off: a target is met at a measurement, and a program's speed is known so well."""
    spans: dict[tuple[str, str], tuple[float, Outcome]] = {}
    for name, row in cells.items():
        for workload in sorted(set(row) & set(ranked)):
            studies = row[workload].values()
            if reached := sorted((one for one in studies if one.reached and one.before is not None), key=_span):
                middle = reached[len(reached) // 2]
                spans[name, workload] = _span(middle), middle
    lines = []
    coarse = sorted((cell for cell, (span, _) in spans.items() if span >= COARSE), key=lambda c: (-spans[c][0], c))
    if coarse:
        told = [
            f"{share:.0%} for {cell[0]} on {cell[1]} (steps {one.before} and {one.steps})"
            for cell, (share, one) in ((cell, spans[cell]) for cell in coarse[:3])
        ]
        told += [f"{COARSE:.0%} or more for {len(coarse) - 3} others"] if len(coarse) > 3 else []
        lines.append(
            "a time is that of the first measurement that meets the target; the one before it came earlier by "
            f"{', '.join(told)}: differences within that are not resolved"
        )
    timed = {
        (name, workload)
        for name, row in cells.items()
        for workload in set(row) & set(ranked)
        if any(one.reached for one in row[workload].values())
    }
    of = {cell: one for cell, one in speeds.items() if cell in timed} if ranking == "calibrated" else {}
    if of:
        worst, least = max(of, key=lambda cell: of[cell].error), min(one.error for one in of.values())
        ends = list(dict.fromkeys((f"{least:.1%}", f"{of[worst].error:.1%}")))
        lines.append(
            f"the speed of a program is known within {' to '.join(ends)} (95%; "
            f"{worst[0]} on {worst[1]} least), and so is what its calibrated times owe to it"
        )
    return lines


def _span(one: Outcome) -> float:
    return ((one.steps or 0) - (one.before or 0)) / (one.steps or 1)


def of_speeds(speeds: Mapping[tuple[str, str], Speed], ranking: Clock) -> list[str]:
    """Over how many processes calibrated times are pooled, and how far these differ."""
    scatters = {cell: one.scatter for cell, one in speeds.items() if one.scatter is not None}
    if ranking != "calibrated" or not scatters:
        return []
    numbers = sorted({len(speeds[cell].processes) for cell in scatters})
    many = str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    worst = max(scatters, key=lambda cell: scatters[cell])
    lines = [
        f"calibrated times are at each program's mean speed over {many} processes, which differ by up to "
        f"{scatters[worst]:.1%} (standard deviation, {worst[0]} on {worst[1]})"
    ]
    if uneven := [cell for cell, one in sorted(speeds.items()) if max(one.processes) > SLOWEST]:
        which = ", ".join(f"{submission} on {workload}" for submission, workload in uneven)
        lines.append(
            f"steps that cost {SLOWEST - 1:.0%} more in some process than in the mean, and are charged: {which}"
        )
    if numbers[0] < FEW:
        lines.append(f"under {FEW} processes of a program: its speed may be off by as much; studies={FEW} runs more")
    return lines


def of_hopeless(outcomes: Sequence[Outcome], ranking: Clock, stopped_by: Clock) -> list[str]:
    """Trials that were ended early, and what that means where another clock ranks."""
    number = sum(one.status == Status.HOPELESS and one.finished for one in outcomes)
    if not number:
        return []
    text = f"{number} trial{'s' * (number > 1)} ended early, slower than another of the study on the {stopped_by} clock"
    return [text + (f"; on the {ranking} clock it might have been faster" if ranking != stopped_by else "")]


def of_studies(outcomes: Sequence[Outcome]) -> list[str]:
    """What the numbers of submissions and studies allow to be said."""
    lines = []
    if len(names := {one.submission for one in outcomes}) == 1:
        other = "nadamw" if names == {"adamw"} else "adamw"
        lines.append(f"Only one submission here, so ratios say nothing; add another, for example {other}.")
    studies = Counter((submission, workload) for submission, workload, _ in {_study(one) for one in outcomes})
    least, most = min(studies.values()), max(studies.values())
    if most == 1:
        logs = any("steps" in one.times for one in outcomes)  # AlgoPerf's, whose runs are not ours to go on with
        more = "" if logs else f"; `harness run ... studies={bootstrap.MIN_STUDIES + 1}` runs more seeds"
        lines.append(f"one study: no interval, so a small difference may be chance{more}")
    elif least < most:
        lines.append(f"not all have the same number of studies: from {least} to {most}")
    return lines


def of_chance(studies: tuple[int, int]) -> list[str]:
    """What stands beside the numbers, by the fewest and the most studies of a cell."""
    least, most = studies
    if most == 1 or least >= bootstrap.MIN_STUDIES:
        return []
    return [
        f"under {bootstrap.MIN_STUDIES} studies ({least} on some workload): beside the numbers stands the range of the "
        "studies, no interval"
    ]


def _study(one: Outcome) -> tuple[str, str, int]:
    return one.submission, one.workload, one.study
