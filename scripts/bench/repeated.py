"""Products and decompositions that each device does whole, from the text of HLO compiled for one and for several."""

from __future__ import annotations

import re
from collections import Counter

_LINE = re.compile(r"^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.*?) (?P<kind>[a-z][a-z\-]*)\((?P<taken>.*?)\)")
_NAME = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b[a-z]+\d*\[[\d,]*\]")
_TARGET = re.compile(r'custom_call_target="([^"]*(?:lapack|solver)[^"]*)"')


def work(hlo: str) -> Counter[str]:
    """Return how often each product or decomposition stands in a compiled program, by its name and what it takes. A
    product that is split takes other shapes on each device than the whole one.
    """
    shapes: dict[str, str] = {}
    found: Counter[str] = Counter()
    for line in hlo.splitlines():
        if not (match := _LINE.match(line)):
            continue
        given = _ARRAY.findall(match["shape"])
        shapes[match["name"]] = given[0] if given else ""
        target = _TARGET.search(line)
        if match["kind"] in ("dot", "convolution") or target:
            taken = [shapes.get(name, "?") for name in _NAME.findall(match["taken"])]
            found[f"{target[1] if target else match['kind']} of {' and '.join(taken)}"] += 1
    return found
