"""Numbers as the page shows them: as the tables of `harness score` do, but for signs that a terminal may lack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"


def number(value: float | None) -> str:
    """A time or another quantity."""
    if value is None or not math.isfinite(value):
        return DASH
    size = abs(value)
    return f"{value:,.0f}" if size >= 10_000 else f"{value:.2f}" if size >= 10 else f"{value:.3f}"


def whole(value: float | None) -> str:
    """A number of steps."""
    return DASH if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def metric(value: float | None) -> str:
    """A loss or an accuracy."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.4f}"


def ratio(value: float | None) -> str:
    """How many times something is."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.3f}×"


def mebibytes(value: float | None) -> str:
    """Memory."""
    return DASH if value is None else f"{value / 2**20:,.0f}"


def p_value(value: float | None) -> str:
    """A p-value."""
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.2g}"


def ends(
    of: Sequence[float | None] | None, places: int | None = None, *, interval: bool = True, without: str = "missed"
) -> str:
    """An interval in brackets, or a range in parentheses; nothing where there is neither. `without` stands for an end
    that has no number.
    """
    if not of:
        return ""
    told = [without if end is None else number(end) if places is None else f"{end:.{places}f}" for end in of]
    return f"[{told[0]}, {told[1]}]" if interval else f"({told[0]} to {told[1]})"


def spread(estimate: Mapping[str, Any], span: Mapping[str, Any] | None, places: int | None = None) -> str:
    """The interval of an estimate in the JSON of scores, or else its range."""
    if estimate.get("low") is not None or estimate.get("high") is not None:
        return ends([estimate["low"], estimate["high"]], places)
    return ends([span["low"], span["high"]], places, interval=False) if span else ""
