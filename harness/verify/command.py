"""`harness verify`: from run folders and packs to reports."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import ConfigError, RunFolderError
from harness.record import pack
from harness.report.tables import print_line
from harness.verify import by_rules, by_sources, examined, from_log, rerun
from harness.verify.findings import Finding, Report, print_counts, print_json, print_report, same, unchecked
from harness.verify.records import Record, opened


def run(
    places: Sequence[Path],
    *,
    only: Sequence[str] = (),
    again: bool = False,
    as_json: bool = False,
    verbose: bool = False,
) -> int:
    """Verify all records at or below these places, print what was found, and return 0 where nothing differs, else 1.
    A place may be a member of a pack, as findings name it. `only` names a submission, a workload, both, or a run. With
    `again` each trial is trained once more. What is ok is counted, and listed with `verbose`.

    Raises RunFolderError for a place without records, and ConfigError where `only` leaves nothing.
    """
    reports: list[Report] = []

    def unreadable(place: str, problem: RunFolderError) -> None:
        reports.append(Report(place, (Finding("identity", "record", "differs", str(problem)),)))
        if not as_json:
            print_report(reports[-1], verbose)

    asked: dict[Path, list[str]] = {}
    for given in places:
        file, member = pack.member(given)
        asked.setdefault(file, []).append(member)
    with opened(list(asked), unreadable) as found:
        for place, every in found.items():
            records = [record for record in every if _is_meant(record, place, asked.get(Path(place), [""]), only)]
            for report in look(place, records, again=again, together=_whole(records, every)):
                reports.append(report)
                if not as_json:
                    print_report(report, verbose)
    if not reports:
        raise ConfigError(
            f"{' '.join([*map(str, places), *(f'--only {name}' for name in only)])}: no such record is there; name a "
            "submission, a workload, both, or a run as it is printed"
        )
    if as_json:
        print_json(reports)
        return int(any(report.differs for report in reports))
    if not verbose:
        print_counts(reports)
    wrong = [report.place for report in reports if report.differs]
    open_ = sum(one.verdict == "unchecked" for report in reports for one in report.findings)
    told = f"something differs in {', '.join(wrong)}" if wrong else "nothing differs"
    outside = sum(one.verdict == "no entry" for report in reports for one in report.findings)
    told += f"; {outside} {'run is' if outside == 1 else 'runs are'} not by the rules" if outside else ""
    told += f"; {open_} {'thing' if open_ == 1 else 'things'} could not be checked" if open_ else ""
    told += "" if verbose else " (-v lists what is ok)"
    print_line(told, style="bold")
    return int(bool(wrong))


def _is_meant(record: Record, place: str, members: Sequence[str], only: Sequence[str]) -> bool:
    """Whether a record lies below one of these members of its pack, and is one of `only`."""
    spec, inside = record.trial.spec, f"{record.place.removeprefix(f'{place}:')}/"
    named = {*only} <= {spec.submission, spec.task, record.trial.path.name}
    return named and any(not member or inside.startswith(f"{member}/") for member in members)


def _whole(records: Sequence[Record], every: Sequence[Record]) -> bool:
    """Whether all that is there of these records' submissions on these workloads is among them."""
    campaigns = {(record.trial.spec.task, record.trial.spec.submission) for record in records}
    return len(records) == sum((r.trial.spec.task, r.trial.spec.submission) in campaigns for r in every)


def look(place: str, records: Sequence[Record], *, again: bool = False, together: bool = True) -> list[Report]:
    """Return a report on each record, and one on all `together` where they are several."""
    by_process = examined.look(records)
    reports = []
    for record, rest in zip(records, by_process, strict=True):
        found = [
            *identity(record),
            *from_log.look(record.trial, record.info),
            *by_rules.look(record.trial, record.info),
        ]
        found += [*by_sources.look(record), *rest]
        if again:
            found += rerun.look(record) if _is_sound(rest) else [unchecked("rerun", "rerun", _NOT_SOUND)]
            found = without_settled(found)
        reports.append(Report(record.place, tuple(found)))
    if together and (len(records) > 1 or (records and Path(place).is_file())):
        reports.append(Report(place, tuple(by_rules.campaign([record.trial for record in records]))))
    return reports


def without_settled(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out that nothing could be evaluated again, where the rerun came to the same metrics."""
    again = any((one.check, one.what, one.verdict) == ("rerun", rerun.SAME_METRICS, "ok") for one in findings)
    return [one for one in findings if not (again and one.what == examined.METRICS and one.verdict == "unchecked")]


_NOT_SOUND = "a program that is not what it says does not go into the store"


def _is_sound(by_process: Sequence[Finding]) -> bool:
    """Whether both programs were found to be what their manifests say."""
    judged = [one for one in by_process if one.check == "program"]
    return len(judged) > 1 and all(one.verdict == "ok" for one in judged)


def identity(record: Record) -> list[Finding]:
    """Return whether the record lies under the id that follows from its spec."""
    spec = record.trial.spec
    parts = record.trial.path.parts[-3:]
    return [
        same("identity", "id", spec.id, record.told_id, "spec.json"),
        same("identity", "folder", spec.folder, "/".join(parts), "the name of the run folder"),
    ]
