"""Command-line overrides to a frozen RunSpec: composed by Hydra, then checked key by key; nothing is passed over.

Hydra is imported here alone, and only when `compose` is called. It merges the files and reads the values; which keys
there are is decided by `harness.record.spec`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from harness.errors import ConfigError, suggest
from harness.record import plain_data
from harness.record.spec import DeviceConfig, LauncherConfig, Rules, RunSpec, Suite

GROUPS: dict[str, type] = {"suite": Suite, "rules": Rules, "device": DeviceConfig, "launcher": LauncherConfig}
SHORT = {name: f"rules.{name}" for name in ("stop", "clock", "studies", "trials", "steps")}
SHORT |= {name: f"device.{name}" for name in ("devices", "sharding")}
_POSITIVE = (
    "budget_factor", "checkpoint_s", "hang_s", "studies", "trials", "steps", "max_steps", "max_hours", "cpus",
    "devices", "memory_gb", "hours", "max_jobs", "save_s",
)  # fmt: skip


def split(words: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return (names, overrides): a path may hold `=`, and the key of key=value holds no slash."""
    names: list[str] = []
    overrides: list[str] = []
    for word in words:
        key, equals, _ = word.partition("=")
        is_path = "/" in key and not key.startswith("hydra/")
        (overrides if equals and not is_path else names).append(word)
    return names, overrides


def compose(overrides: Iterable[str]) -> RunSpec:
    """Return what `key=value` overrides on top of configs/config.yaml ask for; of two for one key the later wins.

    Raises ConfigError for a key, group option or type that does not exist, naming the nearest one that does.
    """
    chosen = dict(_split(text) for text in overrides)
    for key, value in chosen.items():
        _check_key(key, value)
    run = plain_data.read(RunSpec, _hydra(chosen), "configuration")
    _check_values(run)
    return run


def folders() -> list[Path]:
    """Return where configuration files are looked for: the harness's own folder, then `./configs` if it is another."""
    package = Path(__file__).resolve().parents[1]
    own = package / "_bundled" if (package / "_bundled").is_dir() else package.parent
    mine = (Path.cwd() / "configs").resolve()
    return [own / "configs", *([mine] if mine.is_dir() and mine != own / "configs" else [])]


def options(group: str) -> dict[str, list[Path]]:
    """Return the files of each option of a group, by name."""
    found: dict[str, list[Path]] = {}
    for folder in folders():
        for path in sorted((folder / group).glob("*.yaml")):
            found.setdefault(path.stem, []).append(path)
    return found


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if key[:1] in ("+", "~"):
        raise ConfigError(f"'{text}': write key=value; keys cannot be added with '+' nor removed with '~'")
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        raise ConfigError(f"'{text}': Hydra's own settings cannot be changed; {suggest(key, _keys(), 'known keys')}")
    if not equals or not re.fullmatch(r"\w+(\.\w+)*", key):
        raise ConfigError(f"'{text}': expected key=value, as in seed=1, rules=quick or hp.learning_rate=0.01")
    return SHORT.get(key, key), value


def _check_key(key: str, value: str) -> None:
    top, _, rest = key.partition(".")
    if top not in _keys():
        homes = [f"{group}.{key}" for group, cls in GROUPS.items() if key in _fields(cls)]
        hint = f"did you mean '{homes[0]}'? known keys: {', '.join(sorted(_keys()))}" if homes else None
        if not homes:
            hint = suggest(key, [*_keys(), *SHORT], "known keys") + f" (a hyperparameter is set as hp.{key}={value})"
        raise ConfigError(f"unknown key '{key}'; {hint}")
    if top in GROUPS and rest:
        if rest not in _fields(GROUPS[top]):
            raise ConfigError(f"unknown key '{key}'; {suggest(rest, _fields(GROUPS[top]), f'keys of {top}')}")
        if rest == "name":
            raise ConfigError(f"'{key}={value}': {top}.name is the file's name; choose with {top}=NAME")
    elif top in GROUPS:
        _check_option(top, value)
    elif top == "hp":
        if not rest or "." in rest:
            raise ConfigError(f"'{key}={value}': expected hp.NAME=VALUE, as in hp.learning_rate=0.01")
    elif rest:
        raise ConfigError(f"unknown key '{key}': {top} holds a single value; write {top}=VALUE")


def _check_option(group: str, name: str) -> None:
    found = options(group)
    if name not in found:
        raise ConfigError(f"unknown {group} '{name}'; {suggest(name, found, f'choices of {group}')}")
    if len({path.read_bytes() for path in found[name]}) > 1:
        own, mine = found[name]
        raise ConfigError(f"{mine} differs from {own}, which comes with the harness under that name; give it another")


def _check_values(run: RunSpec) -> None:
    """Refuse numbers out of range, which no type tells."""
    every: list[tuple[str, dict[str, Any]]] = [
        ("", vars(run)),
        ("hp.", dict(run.hp)),
        *((f"{group}.", vars(getattr(run, group))) for group in GROUPS),
    ]
    for where, values in every:
        for name, value in values.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ConfigError(f"configuration: {where}{name}: expected a finite number, got {value}")
            if where != "hp." and name in _POSITIVE and value is not None and value <= 0:
                key = f"{where}{name}"
                typed = name if SHORT.get(name) == key else key
                raise ConfigError(f"configuration: {typed}: expected a number above 0, got {value}")
    if run.device.sharding != "replicated" and run.device.devices == 1:
        raise ConfigError(
            f"sharding={run.device.sharding}: one device holds the whole state; add devices=N, or leave it out"
        )
    rules = run.rules
    if rules.self_tuning is not None and rules.self_tuning.budget_factor <= 0:
        raise ConfigError(
            f"configuration: rules.self_tuning.budget_factor: expected a number above 0, got "
            f"{rules.self_tuning.budget_factor}"
        )
    if rules.counts == "mean" and rules.stop != "horizon":
        raise ConfigError(
            f"rules={rules.name} stop={rules.stop}: the mean of the final metric counts, so that no trial may end at "
            "the target; leave stop=horizon, or choose other rules"
        )
    if rules.steps is not None and rules.counts != "mean":
        raise ConfigError(
            f"steps={rules.steps}: a length is declared with rules=speedrun; for a smoke test use "
            f"max_steps={rules.steps}"
        )
    if run.variant is not None and rules.points == "search":
        raise ConfigError(
            f"variant={run.variant} rules={rules.name}: held-out variants are never tuned on; choose a point with "
            "hp.NAME=VALUE, and rules=quick"
        )
    if run.variant is not None and rules.counts == "mean":
        raise ConfigError(
            f"variant={run.variant} rules={rules.name}: the mean is tested against a target, and held-out variants "
            "have none; choose rules=quick, with studies=8 for as many seeds"
        )
    if not 0 <= run.seed < 2**32:
        raise ConfigError(f"configuration: seed: expected 0 <= seed < 2**32, got {run.seed}")
    for group, chosen in ("suite", run.suite), ("rules", run.rules), ("launcher", run.launcher):
        if chosen.name not in options(group):
            raise ConfigError(
                f"configs/{group}: a file says name: {chosen.name}, but is not called so; make them equal"
            )
    for key, names in ("workload", run.workload), ("variant", run.variant):
        if names is not None and not all(map(str.strip, names.split(","))):
            raise ConfigError(f"configuration: {key}: expected names separated by commas, got '{names}'")


def _hydra(chosen: Mapping[str, str]) -> Any:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    own, *mine = folders()
    places = ",".join(_quote(f"file://{folder}") for folder in mine)
    words = [f"hydra.searchpath=[{places}]"]
    for key, value in chosen.items():
        # `++` sets a key whether or not the chosen file spells it out; that it exists has been checked.
        plain = f"{key}={_quote(value) if _is_text(key, value) else value}"
        words.append(plain if key in GROUPS else f"++{plain}")
    try:
        with initialize_config_dir(str(own), version_base="1.3"):
            return OmegaConf.to_container(hydra_compose("config", overrides=words), resolve=True, throw_on_missing=True)
    except OverrideParseException as error:
        culprit = str(error.override).removeprefix("++")
        raise ConfigError(f"'{culprit}': the value cannot be read; quote it if it is a string") from None
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        message = " ".join(str(error).split())
        several = [f"{k}={v}" for k, v in chosen.items() if f"Ambiguous value for argument '++{k}={v}'" in message]
        if several:
            raise ConfigError(f"'{several[0]}': expected one value, got several; quote it if it is a string") from None
        raise ConfigError(f"configuration cannot be read: {message}") from None


def _is_text(key: str, value: str) -> bool:
    """Whether the field wants a string, which is then taken as typed: commas, spaces and brackets included."""
    top, _, rest = key.partition(".")
    hint = None if top == "hp" else get_type_hints(GROUPS.get(top, RunSpec)).get(rest or top)
    return hint is str or (hint == str | None and value != "null")


def _quote(value: str) -> str:
    if re.fullmatch(r"""(['"]).*\1""", value):
        value = value[1:-1]
    if "${" in value:
        raise ConfigError(f"'{value}': interpolation is for configuration files; give the value itself")
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value) + "'"


def _fields(cls: type) -> list[str]:
    return [f.name for f in dataclasses.fields(cls)]


def _keys() -> list[str]:
    return _fields(RunSpec)
