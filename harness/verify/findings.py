"""What `harness verify` found, as values, lines and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from harness.report.tables import print_line

Verdict = Literal["ok", "differs", "unchecked", "no entry"]
"""`no entry`: the record is whole, and its run is not by the rules that it names."""

TIME = "time"
"""What a rerun took beside the record: in a line of its own, since it is a number for the reader to judge."""

CHECKS: Mapping[str, str] = {
    "identity": "the record is of one experiment, under its own id",
    "log": "every number of the result follows from the log",
    "rules": "workload, ruleset, seeds, budget, flags are those of the rules",
    "sources": "workload, submission and data sets are those of the record",
    "program": "identity, signature, constants and custom calls follow from the StableHLO",
    "metrics": "what was evaluated gives the metrics again",
    "rerun": "trained again from its program, it does the same",
    "campaign": "no study is missing or there twice",
}
"""Every group of checks, in order."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
      check: of `CHECKS`.
      what: was checked.
      verdict: how that came out.
      text: expected, found and where; why it could not be checked; or what else there is to know.
    """

    check: str
    what: str
    verdict: Verdict
    text: str = ""


@dataclass(frozen=True)
class Report:
    """What was found of one trial, or of all together."""

    place: str
    findings: tuple[Finding, ...]

    @property
    def differs(self) -> bool:
        """Whether anything is not what it should be."""
        return any(one.verdict == "differs" for one in self.findings)


def same(check: str, what: str, expected: Any, found: Any, where: str = "") -> Finding:
    """Return whether two values are equal."""
    return judged(check, what, bool(expected == found), f"expected {_short(expected)}, found {_short(found)}", where)


def near(check: str, what: str, expected: float | None, found: float | None, where: str = "") -> Finding:
    """Return whether two numbers are equal but for the rounding of sums."""
    if expected is None or found is None:
        return same(check, what, expected, found, where)
    close = math.isclose(expected, found, rel_tol=1e-6, abs_tol=1e-6)
    return judged(check, what, close, f"expected {expected!r}, found {found!r}", where)


def judged(check: str, what: str, fine: bool, otherwise: str, where: str = "") -> Finding:
    """Return a finding that is ok, or differs and says how."""
    text = f"{otherwise}{f' in {where}' if where else ''}"
    return Finding(check, what, "ok") if fine else Finding(check, what, "differs", text)


def unchecked(check: str, what: str, why: str) -> Finding:
    """Return a finding about what could not be looked at."""
    return Finding(check, what, "unchecked", why)


def print_report(report: Report, verbose: bool = False) -> None:
    """Print a line on each thing that differs or is no entry, and on each that a rerun showed; nothing where there is
    none. With `verbose` also on what could not be checked, and on each group of checks.
    """
    if not verbose:
        told = [one for one in report.findings if one.verdict in ("differs", "no entry") or one.check == "rerun"]
        report = Report(report.place, tuple(told))
        if not told:
            return
    print_line(report.place, style="bold")
    for check in CHECKS:
        found = [one for one in report.findings if one.check == check]
        fine = [one for one in found if one.verdict == "ok"]
        if listed := [one.what + (f" ({one.text})" if one.text else "") for one in fine if one.what != TIME]:
            print_line(f"  {check:8}  ok         {', '.join(listed)}")
        for one in (one for one in fine if one.what == TIME):
            print_line(f"  {check:8}  ok         {one.what}: {one.text}")
        for one in found:
            if one.verdict == "differs":
                print_line(f"  {check:8}  DIFFERS    {one.what}: {one.text}", style="red")
            elif one.verdict != "ok":
                print_line(f"  {check:8}  {one.verdict:9}  {one.what}: {one.text}", style="yellow")


def print_counts(reports: Sequence[Report]) -> None:
    """Print how many things are ok in each group of checks, and what could not be checked, a line for each reason."""
    for check in CHECKS:
        counts = [sum(one.check == check and one.verdict == "ok" for one in report.findings) for report in reports]
        if fine := sum(counts):
            of = "" if check == "campaign" else f" in {_counted(sum(map(bool, counts)), 'record')}"
            print_line(f"  {check:8}  ok         {_counted(fine, 'thing')}{of}")
    left: dict[tuple[str, str, str], list[str]] = {}
    for report in reports:
        for one in report.findings:
            if one.verdict == "unchecked":
                left.setdefault((one.check, one.what, one.text), []).append(report.place)
    for (check, what, text), places in left.items():
        where = places[0] if len(places) == 1 else f"{len(places)} records, the first {places[0]}"
        print_line(f"  {check:8}  unchecked  {what}: {text} (in {where})", style="yellow")


def print_json(reports: Sequence[Report]) -> None:
    """Print {"fine": ..., "records": [{"place", "fine", "findings": [{"check", "what", "verdict", "text"}]}]}."""
    records = [
        {"place": one.place, "fine": not one.differs, "findings": [asdict(f) for f in one.findings]} for one in reports
    ]
    print(json.dumps({"fine": not any(one.differs for one in reports), "records": records}, indent=1))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
