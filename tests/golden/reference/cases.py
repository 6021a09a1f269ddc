"""All cases by name: a rule with its hyperparameters and what it is given besides gradients; make.py runs them."""

from __future__ import annotations

from .case import Case
from .cases_coordinate import COORDINATE
from .cases_matrix import MATRIX
from .cases_scale import SCALE

CASES: dict[str, Case] = COORDINATE | SCALE | MATRIX
