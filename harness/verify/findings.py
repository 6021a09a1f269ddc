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


def print_report(report: Report) -> None:
    """Print a line on each group of checks, and one on each thing that differs or could not be checked."""
    print_line(report.place, style="bold")
    for check in CHECKS:
        found = [one for one in report.findings if one.check == check]
        fine = [one.what + (f" ({one.text})" if one.text else "") for one in found if one.verdict == "ok"]
        if fine:
            print_line(f"  {check:8}  ok         {', '.join(fine)}")
        for one in found:
            if one.verdict == "differs":
                print_line(f"  {check:8}  DIFFERS    {one.what}: {one.text}", style="red")
            elif one.verdict != "ok":
                print_line(f"  {check:8}  {one.verdict:9}  {one.what}: {one.text}", style="yellow")


def print_json(reports: Sequence[Report]) -> None:
    """Print {"fine": ..., "records": [{"place", "fine", "findings": [{"check", "what", "verdict", "text"}]}]}."""
    records = [
        {"place": one.place, "fine": not one.differs, "findings": [asdict(f) for f in one.findings]} for one in reports
    ]
    print(json.dumps({"fine": not any(one.differs for one in reports), "records": records}, indent=1))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
