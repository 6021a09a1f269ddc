"""What a case is, and the inputs that all share: those of adamw_torch.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data"
INPUTS = json.loads((DATA / "adamw_torch.json").read_text())  # the parameters and gradients of every file here
SHAPES = {k: tuple(s) for k, s in INPUTS["shapes"].items()}
ADAM_LR = INPUTS["lr"]  # up over 5 steps to 0.01, then down to 0.001


def scaled(factor: float) -> list[float]:
    return [float(f"{factor * r:.6g}") for r in ADAM_LR]


ADAM = {"b1": 0.9, "b2": 0.95, "eps": 1e-8}
MATRICES = {k: 0.1 for k in SHAPES if k != "b"} | {"b": 0.0}  # decay of all but the bias


@dataclass(frozen=True)
class Case:
    """One file: `given` goes to the rule and into the file, arrays as nested lists."""

    rule: Callable[..., Any]
    algorithm: str
    variant: str
    signature: str
    conventions: list[str]
    hyperparameters: dict[str, Any]
    lr: list[float] | None = field(default_factory=lambda: ADAM_LR)  # None: the rule has no rate
    weight_decay: dict[str, float] | float | None = None  # None: the rule has none; a number: all parameters together
    given: dict[str, Any] = field(default_factory=dict)
