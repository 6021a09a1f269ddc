"""What was found, as values, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.tables import print_line, print_table

CHECKS: Mapping[str, str] = {
    "metadata": "submission.yaml, README.md, licence, search space",
    "size": "the folder is under 256 KiB",
    "lint": "no files, network, processes, threads, clocks, settings of jax, internals of the harness",
    "build": "imports and builds at the defaults",
    "contract": "init, step and eval_variables keep trees, shapes and dtypes; no gradient in evaluation",
    "inputs": "what is handed in is not changed in place",
    "space": "builds and steps at the corners of the search space and between",
    "training": "20 steps and an evaluation run and give finite numbers",
    "compile": "compiled once: nothing more is while it trains",
    "control": "control is pure and asks for sizes that are in batch_sizes",
    "determinism": "same key, same bits; built again, same bits",
    "resume": "stopped after 10 steps and taken up from the checkpoint: same bits",
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
class Report:
    """What is known of one submission: `ran` are the checks that came to an end, each on every workload."""

    name: str
    path: str
    findings: tuple[Finding, ...]
    ran: frozenset[str]

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
    """Print a table of the checks, the findings below it, and a last line."""
    print_table(["check", "result", "what"], [[name, report.mark(name), what] for name, what in CHECKS.items()])
    for finding, workloads in report.grouped():
        kind = "warning" if finding.warning else "finding"
        where = f" (on {', '.join(workloads)})" if workloads else ""
        print_line(f"{kind}: {finding.check}{where}: {finding.message}", style="yellow" if finding.warning else "red")
    count = sum(not finding.warning for finding, _ in report.grouped())
    end = "all checks passed" if report.passed else f"{count} finding{'s' if count != 1 else ''}"
    print_line(f"{report.name}: {end}", style="bold")


def print_json(reports: Sequence[Report]) -> None:
    """Print {"submissions": [{name, path, passed, checks: {name: result}, findings: [...]}]}."""
    rows = [
        {
            "name": report.name,
            "path": report.path,
            "passed": report.passed,
            "checks": {name: report.mark(name) for name in CHECKS},
            "findings": [
                {"check": f.check, "message": f.message, "workloads": workloads, "warning": f.warning}
                for f, workloads in report.grouped()
            ],
        }
        for report in reports
    ]
    print(json.dumps({"submissions": rows}, indent=1))
