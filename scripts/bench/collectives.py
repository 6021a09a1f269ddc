"""Bytes that a device sends in a run of a compiled program, from the text of its HLO."""

from __future__ import annotations

import math
import re

BITS = {"pred": 8, "bf16": 16} | {f"{kind}{bits}": bits for kind in "sufc" for bits in (4, 8, 16, 32, 64, 128)}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALL = re.compile(rf"= (?P<shape>.*?) (?P<kind>{'|'.join(KINDS)})(?:-start)?\(")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_CALLED = re.compile(r"\b(?:to_apply|calls|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


def array_bytes(shape: str) -> list[int]:
    """Return the bytes of each array of an HLO shape, as in `(f32[2,3]{1,0}, bf16[])`."""
    found = _ARRAY.findall(shape)
    return [math.prod(map(int, filter(None, sizes.split(",")))) * BITS.get(kind, 0) // 8 for kind, sizes in found]


def sent(kind: str, held: int, devices: int) -> float:
    """Return the bytes that each device sends where rings are used; `held` are those of the result. An all-reduce sends
    each byte twice, as a reduce-scatter and an all-gather of it do one after the other.
    """
    share = (devices - 1) / devices
    factors = {"all-reduce": 2 * share, "reduce-scatter": devices - 1.0, "collective-permute": 1.0}
    return held * factors.get(kind, share)


def bytes_sent(hlo: str, devices: int) -> dict[str, float]:
    """Return the bytes that each device sends in a run, by the kind of collective operation.

    Loops count as often as they run where XLA says how often, else once; of a conditional all branches count.
    """
    lines: dict[str, list[str]] = {}
    entry, name = "", ""
    for line in hlo.splitlines():
        if head := _HEAD.match(line):
            name = head[2]
            lines[name] = []
            entry = name if head[1] else entry
        elif name:
            lines[name].append(line)

    def total(computation: str, times: int, found: dict[str, float]) -> dict[str, float]:
        for line in lines.get(computation, []):
            if call := _CALL.search(line):
                arrays = array_bytes(call["shape"])
                held = max(arrays) if "-start(" in line and len(arrays) > 1 else sum(arrays)
                found[call["kind"]] = found.get(call["kind"], 0.0) + times * sent(call["kind"], held, devices)
                continue  # what it applies is a sum of two numbers
            trips = _TRIPS.search(line)
            inner = times * (int(trips[1]) if trips and " while(" in line else 1)
            branches = [each.strip().lstrip("%") for text in _BRANCHES.findall(line) for each in text.split(",")]
            for called in [*_CALLED.findall(line), *branches]:
                total(called, inner, found)
        return found

    return total(entry, 1, {})
