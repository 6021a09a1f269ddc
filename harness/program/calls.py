"""The calls of linear algebra that a program may hold, and the shapes that jax gives them. Needs no jax.

LAPACK is told where arrays lie, and jaxlib does not check how large they all are. One that is smaller than what is
written into it would be overrun, in the process that holds data, clock and target.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

Shape = tuple[int, ...]

_ROUTINES = "potrf|geqrf|orgqr|ungqr|syevd|heevd|getrf|trsm|gesdd|gesvd|gesvdj|gesvdp"
TARGETS = re.compile(rf"(?:lapack_[sdcz]|cusolver_)({_ROUTINES})_ffi")
_SQUARE = ("potrf", "syevd", "heevd", "trsm")


def fit(target: str, operands: Sequence[Shape], results: Sequence[Shape], options: Mapping[str, int]) -> bool:
    """Whether a call has the shapes that jax gives it; True for one that is no linear algebra. `options` are its
    numbers: which side of a product, whether vectors are asked for.
    """
    found = TARGETS.fullmatch(target)
    if found is None:
        return True
    routine, a = found[1], operands[0]
    if len(a) < 2 or (routine in _SQUARE and a[-2] != a[-1]):
        return False
    batch, m, n = a[:-2], a[-2], a[-1]
    smaller = (*batch, min(m, n))
    if routine in ("orgqr", "ungqr"):
        taus = operands[1]
        return taus[:-1] == batch and taus[-1] <= n <= m and [*results] == [a]
    if routine == "trsm":
        b = operands[1]
        rows = b[-2] if options.get("side") == ord("L") else b[-1]
        return b[:-2] == batch and rows == n and [*results] == [b]
    if routine.startswith("ges"):
        return [*results[:2], *results[4:]] == [a, smaller, batch] and _vectors_fit(m, n, batch, results[2:4], options)
    expected = {"potrf": [a, batch], "geqrf": [a, smaller], "getrf": [a, smaller, batch]}
    return [*results] == expected.get(routine, [a, smaller, batch])


def _vectors_fit(m: int, n: int, batch: Shape, results: Sequence[Shape], options: Mapping[str, int]) -> bool:
    """Whether there is room for singular vectors: all of them, or as many as there are singular values."""
    k, room = min(m, n), sorted(map(math.prod, results))
    all_of_them, most = (
        [math.prod(batch) * each for each in sorted(sides)] for sides in ((m * m, n * n), (m * k, n * k))
    )
    if options.get("mode") == ord("A") or options.get("full_matrices"):
        return room == all_of_them
    none = options.get("mode") == ord("N") or options.get("compute_uv") == 0
    return room == most or (none and room in (all_of_them, [1, 1]))
