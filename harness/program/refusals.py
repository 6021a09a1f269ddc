"""Why a confined process was refused something, told to the author of a submission. Needs no jax."""

from __future__ import annotations

import errno
import os
from importlib import metadata

from harness.program.manifest import MAX_FILE_BYTES

CONFINED = "HARNESS_CONFINED"  # is in the environment of confined processes

_ALONE = (
    "a submission is exported, and answers control calls, without data, network, other programs, or files other than "
    "its own sources"
)
_REASONS = {
    errno.EPERM: _ALONE,
    errno.EACCES: _ALONE,
    errno.EFBIG: f"a submission writes and prints at most {MAX_FILE_BYTES >> 20} MiB",
}


_REQUIRES = "add `requires: [{0}]` to submission.yaml, or REQUIRES = ['{0}'] to a single file"


def explained(error: BaseException | None) -> str:
    """Return what to know of an error that a confined process meets and others do not, as the end of its message."""
    if CONFINED not in os.environ or error is None:
        return ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        names = metadata.packages_distributions().get(top)
        if not names:
            return f"; it is not installed here: install it (as pip calls it), and name it: {_REQUIRES.format('NAME')}"
        return f"; a submission names the packages that it imports: {_REQUIRES.format(names[0])}"
    if isinstance(error, OSError) and error.errno in _REASONS:
        return f"; {_REASONS[error.errno]}"
    return explained(error.__cause__)
