"""What a benchmark has measured, a JSON line a record, so that it can be stopped and goes on where it was. No jax."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ConfigError

CONTEXT = ("small", "device", "jax")  # what figures are told apart by, beside row, workload and its sources


@dataclass
class Journal:
    """The records in a file. `context` goes with each: a value for each of CONTEXT."""

    path: Path
    context: dict[str, Any]
    records: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path.exists():
            self.records = [json.loads(line) for line in self.path.read_text().splitlines() if line.strip()]

    @classmethod
    def recorded(cls, path: Path) -> Journal:
        """Return what a file holds, in the context of its newest record. Raises ConfigError where there is none."""
        journal = cls(path, {})
        if not journal.records:
            raise ConfigError(
                f"nothing is recorded in {path}; python scripts/bench_gpu.py measures, --out names its folder"
            )
        journal.context = {name: journal.records[-1][name] for name in CONTEXT}
        return journal

    def find(self, row: str, workload: str, sources: str) -> dict[str, Any] | None:
        """Return the newest record of this row in the same context."""
        for record in reversed(self.records):
            same = (record["row"], record["workload"], record["sources"]) == (row, workload, sources)
            if same and all(record.get(name) == value for name, value in self.context.items()):
                return record
        return None

    def add(self, row: str, workload: str, sources: str, values: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Append a record and return it."""
        record = {"row": row, "workload": workload, "sources": sources, **self.context}
        record |= {"utc": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "seconds": round(seconds, 1)}
        record["values"] = values
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.records.append(record)
        return record
