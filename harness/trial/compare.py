"""Whether something changed: trees that were handed in, bits that should be the same, programs that were compiled."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np


@contextlib.contextmanager
def counted_compilations() -> Iterator[list[str]]:
    """Give a list that gets an entry for each program that jax compiles while the block runs."""
    found: list[str] = []

    def heard(event: str, duration_secs: float, **kwargs: Any) -> None:
        if event.endswith("backend_compile_duration"):
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


def snapshot(tree: Any) -> dict[str, Any]:
    """Return the leaves of a tree by their path."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def difference(kept: Mapping[str, Any], tree: Any) -> str:
    """Return the path of a leaf of `tree` that is not the one that was kept; empty where all are."""
    now = snapshot(tree)
    return next((path for path in {**kept, **now} if kept.get(path) is not now.get(path)), "")


def differing_bits(one: Any, other: Any) -> str:
    """Return the path of the first leaf in which two trees differ by a bit; empty where they are the same."""
    ones, others = snapshot(one), snapshot(other)
    for path in itertools.chain(ones, others):
        if path not in ones or path not in others:
            return path
        if np.asarray(ones[path]).tobytes() != np.asarray(others[path]).tobytes():
            return path
    return ""
