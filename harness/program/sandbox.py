"""The launcher of a confined process: it restricts itself, then runs a module. Standard library alone.

    python -P -m harness.program.sandbox MODULE

reads a `Bounds` (a line of JSON) from standard input and leaves the rest of the input to the module. It restricts the
process that Python has just started in, while that has one thread and has met no code of a submission. An exec after
the restriction would win nothing and need a filter that lets execve pass, so there is none: once the filter is up, no
program can be started.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.machinery
import json
import os
import resource
import stat
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.machine.lifetime import end_with_parent
from harness.program import seccomp

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # Landlock's system calls, on every machine
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_WRITE_FILE, _REMOVE_FILE, _MAKE_REG, _TRUNCATE = 1 << 1, 1 << 5, 1 << 8, 1 << 14
_SINCE = {1: (1 << 13) - 1, 2: 1 << 13, 3: _TRUNCATE, 5: 1 << 15}  # access to files that each ABI adds
_OF_FILES = _READ_FILE | _WRITE_FILE | _TRUNCATE  # what can be granted on what is no folder
_TCP, _SCOPES = 0b11, 0b11  # bind and connect since ABI 4; abstract sockets and signals since ABI 6
_NO_NEW_PRIVS = 38


@dataclass(frozen=True)
class Bounds:
    """What a process may do.

    Attributes:
      landlock: version of the kernel's interface to hold the process to; 0: files and TCP are open.
      seccomp: whether system calls are held to `seccomp`.
      read: files, and folders with all that is below them.
      look: folders whose names, and those of all below, may be listed.
      write: folders in which files may be written.
      hidden: top-level modules that are installed and may not be read: importing them fails as if they were not there.
      memory_bytes, file_bytes: of address space, and of each file, the log among them.
    """

    landlock: int
    seccomp: bool
    read: Sequence[str]
    look: Sequence[str]
    write: Sequence[str]
    hidden: Sequence[str]
    memory_bytes: int
    file_bytes: int


def main(argv: list[str]) -> int:
    """Restrict this process and run the module's `main`."""
    (name,) = argv
    end_with_parent()
    confine(Bounds(**json.loads(sys.stdin.buffer.readline())))
    module: Any = importlib.import_module(name)
    status: int = module.main()
    return status


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface; 0 where it has none."""
    return max(0, _libc().syscall(_CREATE_RULESET, None, 0, 1)) if sys.platform == "linux" else 0


def confine(bounds: Bounds) -> None:
    """Restrict this process for good. Raises OSError where the kernel refuses a part that it should have."""
    limits = {
        resource.RLIMIT_AS: bounds.memory_bytes,
        resource.RLIMIT_FSIZE: bounds.file_bytes,  # beyond it a write fails: Python ignores SIGXFSZ
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        with suppress(ValueError):  # macOS has no limit of address space
            resource.setrlimit(kind, (most, most))
    _Granted.hidden = frozenset(bounds.hidden)
    sys.meta_path[:] = [_Granted if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
    if bounds.landlock:
        _hold_files(bounds)
    if bounds.seccomp:
        seccomp.put_up()


class _Granted(importlib.machinery.PathFinder):
    """Finds no module that is installed but may not be read, so that `except ImportError` does what it is there for."""

    hidden: frozenset[str] = frozenset()

    @classmethod
    def find_spec(cls, fullname: str, path: Any = None, target: Any = None) -> Any:
        return None if path is None and fullname in cls.hidden else super().find_spec(fullname, path, target)


def _hold_files(bounds: Bounds) -> None:
    """Hold this process to the files and folders granted, by Landlock."""
    files = sum(access for since, access in _SINCE.items() if since <= bounds.landlock)
    fields = (files, _TCP if bounds.landlock >= 4 else 0, _SCOPES if bounds.landlock >= 6 else 0)
    length = 8 if bounds.landlock < 4 else 16 if bounds.landlock < 6 else 24
    ruleset = _call(_CREATE_RULESET, (ctypes.c_uint64 * 3)(*fields), length, 0)
    granted: dict[str, int] = {}
    for paths, access in (
        (bounds.read, _READ_FILE | _READ_DIR),
        (bounds.look, _READ_DIR),
        (bounds.write, _WRITE_FILE | _REMOVE_FILE | _MAKE_REG | _TRUNCATE),
    ):
        for path in paths:
            granted[path] = granted.get(path, 0) | access
    for path, access in granted.items():
        with suppress(FileNotFoundError):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = access & files & (-1 if stat.S_ISDIR(os.fstat(place).st_mode) else _OF_FILES)
            _call(_ADD_RULE, ruleset, 1, struct.pack("=Qi", allowed, place), 0)
            os.close(place)
    if _libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: Any) -> int:
    result: int = _libc().syscall(number, *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
