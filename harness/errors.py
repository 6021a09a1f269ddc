"""The errors a user may see. Each says what was expected, what came, where, and how to mend it."""

from __future__ import annotations

import difflib
import errno
import itertools
import os
from collections.abc import Iterable


class HarnessError(Exception):
    """Base of all errors raised on purpose. `exit_code` is what the command line returns for it."""

    exit_code = 2


class ConfigError(HarnessError):
    """The command line or a configuration file asks for something that does not exist or has the wrong type."""


class SubmissionError(HarnessError):
    """A submission breaks the contract of `harness.api`."""

    exit_code = 1


class WorkloadError(HarnessError):
    """A workload breaks the contract of `harness.program.workload`."""


class DataError(HarnessError):
    """Data that a workload needs are missing or damaged."""

    exit_code = 3


class RunFolderError(HarnessError):
    """A run folder holds another spec, is held by another process, or cannot be read."""


class HeldError(RunFolderError):
    """Another process holds a run folder or the record of a search, and does what is to be done there."""


class MachineError(HarnessError):
    """The machine fails, and not what was asked of it: a full disk, a folder that may not be written. Nothing is
    recorded of a trial that ends so, and the same command goes on once it is mended.
    """

    exit_code = 1


def of_machine(error: OSError, doing: str = "") -> HarnessError:
    """Return in a sentence what the operating system refused, where, and how to mend it: a ConfigError where another
    place has to be named, else a MachineError.
    """
    said = error.strerror or str(error)
    text = ": ".join(filter(None, (doing, error.filename and str(error.filename), said)))
    if error.errno in _PLACES:
        return ConfigError(f"{text}; {_PLACES[error.errno]}")
    return MachineError(f"{text}; {_MENDS.get(error.errno or 0, 'mend it')}, then type the same again to go on")


def beneath(error: BaseException) -> HarnessError | None:
    """Return the trouble of the machine that lies beneath an error, which a library tells of in words of its own; None
    where there is none, or the error is one of the harness. What it kept from being read is not damaged.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, HarnessError):
        if isinstance(seen, OSError) and seen.errno in _MENDS:
            return of_machine(seen)
        for said, mend in _SAID.items():
            if said in str(seen):
                line = next(line for line in str(seen).splitlines() if said in line).strip()
                return MachineError(f"{type(seen).__name__}: {line}; {mend}, then type the same again to go on")
        seen = seen.__cause__ or seen.__context__
    return None


_WRITABLE = "choose another place, or make it one that can be written"
_IN_THE_WAY = "a file is in the way of a folder: choose another place, or move the file"
_PLACES = {
    errno.EACCES: _WRITABLE,
    errno.EPERM: _WRITABLE,
    errno.EROFS: _WRITABLE,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EEXIST: _IN_THE_WAY,
    errno.EISDIR: "a folder is there in place of a file: choose another place, or move the folder",
    errno.ENOENT: "it is not there: look at the path",
}
_MENDS = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine: end what opens them",
    errno.EIO: "the disk fails: look at the system's log",
    errno.ESTALE: "the server of this shared folder has lost it: mount it again",
}
_SAID = {os.strerror(number): mend for number, mend in _MENDS.items()} | {
    "can't start new thread": "too many threads run, or too little memory is left: raise `ulimit -u` or the limit"
}


def suggest(name: str, choices: Iterable[str], kind: str) -> str:
    """Return the tail of an error about an unknown `name`: the nearest choice, then all of them."""
    known = sorted(choices)
    return f"{nearest(name, known)}{kind}: {', '.join(known) if known else 'none found'}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a question that names the choice nearest to an unknown `name`, or nothing where none is near."""
    near = difflib.get_close_matches(name, sorted(choices), n=5, cutoff=0.5)
    if not near:
        return ""
    match = difflib.SequenceMatcher(b=name)

    def likeness(choice: str) -> tuple[float, int]:  # of two as like, the one that begins the same
        match.set_seq1(choice)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(name, choice, strict=False))
        return match.ratio(), len(list(same))

    return f"did you mean '{max(near, key=likeness)}'? "
