"""The errors a user may see. Each says what was expected, what came, where, and how to mend it."""

from __future__ import annotations

import difflib
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


def suggest(name: str, choices: Iterable[str], kind: str) -> str:
    """Return the tail of an error about an unknown `name`: the nearest choice, then all of them."""
    known = sorted(choices)
    return f"{nearest(name, known)}{kind}: {', '.join(known) if known else 'none found'}"


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a question that names the choice nearest to an unknown `name`, or nothing where none is near."""
    near = difflib.get_close_matches(name, sorted(choices), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'? " if near else ""
