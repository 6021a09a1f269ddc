"""How glibc's `malloc` keeps memory for XLA on a CPU: settings that a process reads when it starts."""

from __future__ import annotations

import os
import sys

ALLOCATOR = {
    "arena_max": 1,  # one heap for all threads; one of a thread's own ends at 64 MB, and larger blocks get a mapping
    "mmap_max": 0,  # no block gets a mapping of its own, which would go back to the kernel as soon as it is freed
    "trim_threshold": 1 << 40,  # and the heap is not given back
    "hugetlb": 1,  # pages of 2 MB where the kernel has them
}
"""glibc's `malloc` told to keep what it has; the names are those of its tunables `glibc.malloc.*`.

XLA allocates a step's temporary memory anew each time it runs. With glibc's defaults each such block is mapped, filled
with zeros 4 KB at a time and unmapped again: 29,000 page faults in each step of `lm_shakespeare`.
`scripts/bench_allocator.py` measures what this saves.
"""


def keep_memory() -> None:
    """Start this program again with `ALLOCATOR` in its environment, which glibc reads at the start of a process.

    Every program that trains calls it first: what it has imported by then is imported twice. Nothing happens where it
    is done already, where the user has chosen settings of glibc (`GLIBC_TUNABLES`), and under another C library.
    """
    if "GLIBC_TUNABLES" in os.environ or not _glibc():
        return
    tunables = ":".join(f"glibc.malloc.{name}={value}" for name, value in ALLOCATOR.items())
    os.execve(sys.executable, sys.orig_argv, os.environ | {"GLIBC_TUNABLES": tunables})


def _glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):
        return False
