"""AlgoPerf's scoring configuration `workload_targets*.json`: what is scored, by which metric, to which target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, suggest
from harness.record import plain_data
from harness.record.spec import Mode

# What the metrics of AlgoPerf's workloads are; newer files say it themselves in `target_metric_goal`.
_MODES: dict[str, Mode] = {
    "loss": "min", "wer": "min", "ppl": "min", "ctc_loss": "min",
    "accuracy": "max", "ssim": "max", "bleu": "max", "mean_average_precision": "max",
}  # fmt: skip
_GOALS: dict[str, Mode] = {"minimize": "min", "maximize": "max"}
_STUDIES = {"0.5": 5}  # three from v0.6 on


@dataclass(frozen=True)
class LogTarget:
    """What is to be reached on one workload."""

    metric: str
    mode: Mode
    value: float

    def meets(self, value: float) -> bool:
        """Whether a value meets the target; equality does, NaN and infinity never do."""
        if abs(value) == float("inf"):
            return False
        return value <= self.value if self.mode == "min" else value >= self.value


@dataclass(frozen=True)
class Targets:
    """A targets file.

    Attributes:
      where: its path.
      version: of the benchmark.
      base: the workloads that are scored.
      held_out: the variants that can take a result away, each with its base workload.
      known: every workload of the file.
    """

    where: str
    version: str
    base: tuple[str, ...]
    held_out: dict[str, str]
    known: dict[str, LogTarget]

    @property
    def studies(self) -> int:
        """Studies that the rules of this version ask for."""
        return _STUDIES.get(self.version, 3)


def read_targets(path: Path) -> Targets:
    """Read and check a targets file; raises ConfigError naming the entry at fault."""
    if not path.exists():
        raise ConfigError(f"no targets file {path}; AlgoPerf's scoring/ folder holds them, one for each version")
    data = plain_data.read_json(path)
    version = _field(data, "benchmark_version", str, path)
    known = {
        name: _target(entry, f"{path}: workload '{name}'")
        for name, entry in _field(data, "workloads", dict, path).items()
    }
    base, held_out = (tuple(_field(data, key, list, path)) for key in ("base_workloads", "held_out_workloads"))
    for name in (*base, *held_out):
        if name not in known:
            tail = suggest(str(name), known, "workloads of the file")
            raise ConfigError(f"{path}: '{name}' is to be scored and has no entry in `workloads`; {tail}")
    if not base or len({*base, *held_out}) < len(base) + len(held_out):
        raise ConfigError(f"{path}: base_workloads must name at least one workload, and none twice; got {list(base)}")
    return Targets(str(path), version, base, {name: _base_of(name, base, path) for name in held_out}, known)


def _base_of(variant: str, base: tuple[str, ...], path: Path) -> str:
    """AlgoPerf's rule: the first base workload whose name is part of the variant's."""
    for name in base:
        if name in variant:
            return name
    raise ConfigError(f"{path}: held-out workload '{variant}' belongs to no base workload; it must contain one's name")


def _target(entry: Any, where: str) -> LogTarget:
    metric = _field(entry, "target_metric_name", str, where)
    value = _field(entry, "validation_target_value", (int, float), where)
    usual, goal = _MODES.get(metric), entry.get("target_metric_goal")
    if goal is not None and goal not in _GOALS:
        raise ConfigError(f"{where}: target_metric_goal is {goal!r}; expected one of {', '.join(_GOALS)}")
    mode = usual if goal is None else _GOALS[goal]
    if mode is None:
        raise ConfigError(
            f'{where}: it is not known whether {metric} is to be small or large; add "target_metric_goal": '
            '"minimize" or "maximize"'
        )
    if usual not in (None, mode):
        raise ConfigError(f"{where}: target_metric_goal is {goal!r}, the wrong direction for {metric}")
    return LogTarget(metric, mode, float(value))


def _field(data: Any, key: str, kind: type | tuple[type, ...], where: Path | str) -> Any:
    found = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(found, kind) or isinstance(found, bool):
        names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise ConfigError(f"{where}: expected the field '{key}' to be a {names}, got {found!r}")
    return found
