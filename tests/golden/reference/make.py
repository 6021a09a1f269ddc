"""Writes tests/golden/data/<name>_reference.json from the rules of this folder: python -m tests.golden.reference.make

With names, those alone. index.json gets an entry for each. The rules hold float64 throughout; each also runs in float32
to say what a port in float32 may differ by.
"""

from __future__ import annotations

import inspect
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .case import DATA, INPUTS, SHAPES, Case
from .cases import CASES
from .trees import Tree

CROSS_CHECKS = Path(__file__).resolve().parent / "cross_checks.json"  # what cross_check.py found
STEPS = 20
INDEXING = (
    "Step t=1..20. grads[t-1] is what step t is given (the gradient itself, but where 'conventions' says otherwise); "
    "params_after[t-1] and every other '..._after' is the value after step t; lr[t-1] is the rate during step t."
)


def arrays(value: Any, dtype: str) -> Any:
    """Turn nested lists and float64 arrays into arrays of this type; leave lists of plain numbers as they are."""
    if isinstance(value, dict):
        return {k: arrays(v, dtype) for k, v in value.items()}
    if isinstance(value, list) and any(isinstance(v, dict | np.ndarray) for v in value):
        return [arrays(v, dtype) for v in value]
    return value.astype(dtype) if isinstance(value, np.ndarray) else value


def inputs(dtype: str) -> tuple[Tree, list[Tree]]:
    params = {k: np.array(v, dtype) for k, v in INPUTS["params_before"].items()}
    return params, [{k: np.array(v, dtype) for k, v in g.items()} for g in INPUTS["grads"]]


def run(case: Case, dtype: str = "float64", steps: int = STEPS, **changes: Any) -> list[dict[str, Any]]:
    """Return what the rule yields after each of the first steps; `changes` replace hyperparameters."""
    params, grads = inputs(dtype)
    options = case.hyperparameters | arrays(case.given, dtype) | changes
    if "losses" in options:
        options["losses"] = options["losses"][:steps]
    if case.weight_decay is not None:
        options["weight_decay"] = case.weight_decay
    rates = [] if case.lr is None else [case.lr[:steps]]
    return list(case.rule(params, grads[:steps], *rates, **options))


def plain(value: Any) -> Any:
    """Return what JSON can hold: arrays as nested lists, of 15 significant digits (replays are held to 9)."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    return float(f"{value:.15g}") if isinstance(value, float | np.floating) else value


def largest_difference(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> float:
    """Return the largest difference of arrays over all steps."""
    pairs = ((sa[key], sb[key]) for sa, sb in zip(a, b, strict=True) for key in sa if key in sb and "params" in key)
    return max(float(np.abs(np.asarray(x[k], "float64") - y[k]).max()) for x, y in pairs for k in x)


def tolerance(case: Case, after: list[dict[str, Any]]) -> dict[str, Any]:
    in_float32 = largest_difference(run(case, "float32"), after)
    digit = 10.0 ** math.floor(math.log10(5 * in_float32))
    return {
        "float64_replay": {"rtol": 1e-09, "atol": 1e-10},
        "float32_replay": {"rtol": 0, "atol": max(5e-06, math.ceil(5 * in_float32 / digit) * digit)},
        "reference_float32_vs_float64_max_abs_diff": in_float32,
        "note": "The same reference run in float32 differs by this at most; a port may by five times that, or 5e-6.",
    }


def groups(decay: dict[str, float] | float | None) -> list[dict[str, Any]]:
    by_name = decay if isinstance(decay, dict) else dict.fromkeys(SHAPES, decay or 0.0)
    return [
        {"params": [k for k in SHAPES if by_name[k] == d], "weight_decay": d}
        for d in sorted(set(by_name.values()), reverse=True)
    ]


def document(name: str) -> dict[str, Any]:
    """Return the whole file of a case, as JSON will hold it."""
    case = CASES[name]
    after = run(case)
    source = Path(inspect.getfile(case.rule)).name
    checks = json.loads(CROSS_CHECKS.read_text()) if CROSS_CHECKS.exists() else {}
    top = {
        "schema": INPUTS["schema"],
        "name": f"{name}_reference",
        "algorithm": case.algorithm,
        "variant": case.variant,
        "signature": case.signature,
        "provenance": {
            "package": "numpy",
            "source": f"tests/golden/reference/{source}",
            "paper": inspect.getmodule(case.rule).__doc__.split("\n\n")[0].replace("\n", " "),
            "maker": f"python -m tests.golden.reference.make {name}",
            "cross_check": checks.get(name, "none: no package to compare with"),
        },
        "layout": INPUTS["layout"],
        "indexing": INDEXING,
        "dtype": "float64",
        "steps": STEPS,
        "hyperparameters": case.hyperparameters,
        "param_groups": groups(case.weight_decay),
        "lr": case.lr,
        "conventions": case.conventions,
        "shapes": INPUTS["shapes"],
        "tolerance": tolerance(case, after),
        "params_before": INPUTS["params_before"],
        "grads": INPUTS["grads"],
    }
    series = {key: [step[key] for step in after] for key in after[0]}
    return plain(top | case.given | series)


def text(data: dict[str, Any]) -> str:
    """Write a key a line; lists of trees a step a line."""

    def value(v: Any) -> str:
        if isinstance(v, list) and v and isinstance(v[0], dict | str):
            return "[\n " + ",\n ".join(json.dumps(x) for x in v) + "\n]"
        return json.dumps(v)

    return "{\n" + ",\n".join(f"{json.dumps(k)}: {value(v)}" for k, v in data.items()) + "\n}\n"


def index_entry(data: dict[str, Any]) -> dict[str, Any]:
    return {
        "file": f"{data['name']}.json",
        "stage": "reference",
        "algorithm": data["algorithm"],
        "variant": data["variant"],
        "reference": data["provenance"]["source"],
        "dtype": "float64",
        "tolerance": data["tolerance"],
        "signature": data["signature"],
    }


def main(names: list[str]) -> None:
    index = json.loads((DATA / "index.json").read_text())
    entries = {f["file"]: f for f in index["files"]}
    for name in names or CASES:
        data = document(name)
        path = DATA / f"{data['name']}.json"
        path.write_text(text(data))
        entries[path.name] = index_entry(data)
        print(
            f"{path.name}: {path.stat().st_size / 1000:.0f} kB, float32 {data['tolerance']['float32_replay']['atol']:g}"
        )
    index["files"] = list(entries.values())
    (DATA / "index.json").write_text(json.dumps(index, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
