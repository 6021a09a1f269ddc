"""Submissions as the user typed them: what a word names, and errors that name the user's own file. Needs no jax.

A single file becomes a folder of the cache (`harness.program.ramps`), line for line, and what goes wrong in it is found
there.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import ConfigError, HarnessError, nearest
from harness.program import discovery, ramps
from harness.program.discovery import Folder


def find(word: str) -> Folder:
    """Return the submission that a word names: `ramps.find`, but that a file which is not there is met with the nearest
    that is. Raises as that does.
    """
    file = Path(word).expanduser()
    if word.endswith(".py") and not file.is_file():
        near = nearest(file.name, (path.name for path in file.parent.glob("*.py")))
        raise ConfigError(f"{word}: there is no such file; {near}`harness new NAME` writes a submission to start from")
    return ramps.find(word)


def of_own_file(error: HarnessError, folder: Folder) -> HarnessError:
    """Return the error with the file that the user gave in place of the copy of it in the cache, and with what is often
    behind it.
    """
    text = str(error)
    if (folder.path / discovery.ORIGIN).is_file():
        text = text.replace(str(folder.path / "submission.py"), discovery.entry(folder.path))
    for sign, (said, hint) in _OFTEN.items():
        if sign in text:
            text = text.replace(said, f"{said}{hint}", 1)
    if text == str(error):
        return error
    told = type(error)(text)
    told.__cause__ = error.__cause__
    return told


_OFTEN = {
    "build must return": ("got NoneType", ": is a `return` missing?"),
    "in step: pytree structure error": (
        "pytree structure error",
        " (optax's `update` returns (updates, state), in this order: is it the other way round?)",
    ),
}
"""By a sign in an error: after which words of it what to look for stands."""
