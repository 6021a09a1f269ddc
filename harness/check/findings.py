"""What was found, as values, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from harness.report.tables import print_line, print_table

CHECKS: Mapping[str, str] = {
    "metadata": "submission.yaml, README.md, licence, search space",
    "size": "the folder is under 256 KiB",
    "advice": "no exact shapes, no names of workloads, no hyperparameter that nothing reads, no print",
    "export": "becomes a program on every toy and every workload of the suite demo; nothing is kept in Python",
    "again": "another process makes the same program",
    "space": "becomes a program at the corners of the search space and between, if there is one",
    "training": "20 steps and an evaluation run and give finite numbers (without control)",
    "determinism": "same key, same bits",
    "resume": "stopped after 10 steps and taken up from the checkpoint: same bits",
    "control": "control is pure and asks for sizes that are in batch_sizes",
}
"""Every check by name, in the order of the table."""


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, and how to mend it; on which workload, unless it is about the files."""

    check: str
    message: str
    workload: str = ""
    warning: bool = False


@dataclass(frozen=True)
class Facts:
    """What a program is, as its StableHLO says.

    Attributes:
      program_bytes: of all its functions.
      state: bytes of the optimizer's state over those of AdamW's.
      products: operations of a step's matrix products over those of one gradient.
      arguments: hyperparameters that are handed in; all others are constants.
    """

    workload: str
    program_bytes: int
    state: float
    products: float
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """What is known of one submission: `ran` are the checks that came to an end, each on every workload it is for."""

    name: str
    path: str
    findings: tuple[Finding, ...]
    ran: frozenset[str]
    programs: tuple[Facts, ...] = ()
    made_of: bool = False  # a single file or a function, which has no submission.yaml and no README of its own

    @property
    def passed(self) -> bool:
        """Whether every check ran and found nothing; warnings do not count."""
        return self.ran >= set(CHECKS) and all(finding.warning for finding in self.findings)

    def mark(self, check: str) -> str:
        """Return how one check ended."""
        found = [finding for finding in self.findings if finding.check == check]
        if any(not finding.warning for finding in found):
            return "FAILED"
        return "not run" if check not in self.ran else "warned" if found else "passed"

    def grouped(self) -> list[tuple[Finding, list[str]]]:
        """Return each different finding with the workloads on which it was made."""
        groups: dict[Finding, list[str]] = {}
        for one in self.findings:
            key = Finding(one.check, one.message, warning=one.warning)
            groups.setdefault(key, []).extend([one.workload] if one.workload else [])
        return sorted(groups.items(), key=lambda pair: list(CHECKS).index(pair[0].check))


def print_report(report: Report) -> None:
    """Print a table of the checks, one of the programs, the findings below, and a last line."""
    checks = {**CHECKS, "metadata": "what it states: defaults, search space"} if report.made_of else CHECKS
    print_table(["check", "result", "what"], [[name, report.mark(name), what] for name, what in checks.items()])
    if report.programs:
        print_line()
        rows = [
            [f.workload, f"{f.program_bytes / 1024:.0f}", f"{f.state:.2f}", f"{f.products:.2f}", " ".join(f.arguments)]
            for f in report.programs
        ]
        heads = ["program on", ">KiB", ">state / AdamW's", ">products / a gradient's", "changed without compiling anew"]
        print_table(heads, rows)
    for finding, workloads in report.grouped():
        kind = "warning" if finding.warning else "finding"
        where = f" (on {', '.join(workloads)})" if workloads else ""
        print_line(f"{kind}: {finding.check}{where}: {finding.message}", style="yellow" if finding.warning else "red")
    count = sum(not finding.warning for finding, _ in report.grouped())
    end = "all checks passed" if report.passed else f"{count} finding{'s' if count != 1 else ''}"
    print_line(f"{report.name}: {end}", style="bold")


def print_json(reports: Sequence[Report]) -> None:
    """Print {"submissions": [{name, path, passed, checks: {name: result}, programs: [...], findings: [...]}]}."""
    rows = [
        {
            "name": report.name,
            "path": report.path,
            "passed": report.passed,
            "checks": {name: report.mark(name) for name in CHECKS},
            "programs": [asdict(facts) for facts in report.programs],
            "findings": [
                {"check": f.check, "message": f.message, "workloads": workloads, "warning": f.warning}
                for f, workloads in report.grouped()
            ],
        }
        for report in reports
    ]
    print(json.dumps({"submissions": rows}, indent=1))
