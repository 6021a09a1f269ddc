"""Memory that a program has freed stays with it (`harness.machine.allocator.keep_memory`)."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.machine import allocator

PROGRAM = """
import ctypes, os, resource, threading
from harness.machine.allocator import keep_memory

keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
size = 100_000_000

def step():
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(size)))
    ctypes.memset(block, 1, size)
    libc.free(block)

def faults():
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5, os.environ["GLIBC_TUNABLES"])

thread = threading.Thread(target=faults)  # XLA runs its steps in threads of its own
thread.start()
thread.join()
"""


def page_faults(**environment: str) -> tuple[int, str]:
    """Return the page faults of each step of the program, and the settings that it ran under."""
    clean = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True, check=True
    )
    faults, settings = done.stdout.split()
    return int(faults), settings


@pytest.mark.skipif(not allocator._glibc(), reason="another C library than glibc")
def test_a_step_s_memory_is_used_again_by_the_next() -> None:
    faults, settings = page_faults()
    assert "glibc.malloc.mmap_max=0" in settings
    assert faults < 1_000  # 24,414 pages of 4 KB are in the block


@pytest.mark.skipif(not allocator._glibc(), reason="another C library than glibc")
def test_settings_of_the_user_s_own_stay() -> None:
    _, settings = page_faults(GLIBC_TUNABLES="glibc.malloc.check=0")
    assert settings == "glibc.malloc.check=0"
