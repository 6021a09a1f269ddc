"""Files that are whole at any moment, whenever the process that writes them is killed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_atomic(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    write_text_atomic(path, json.dumps(value, indent=1))


def write_text_atomic(path: Path, text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never a part."""
    temporary = temporary_of(path)
    try:
        with temporary.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        error.filename = str(path)  # a write that fails tells none
        raise


def sha256(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def temporary_of(path: Path) -> Path:
    """Return where this thread puts a file together that is to be renamed to `path`. What a process that was killed
    has left of it is removed.
    """
    start = f".{path.name}."
    with suppress(OSError):
        for name in os.listdir(path.parent):  # noqa: PTH208 - names alone, of what may be a large folder
            if name.startswith(start) and is_abandoned(name):
                path.with_name(name).unlink()
    return path.with_name(f"{start}{own_mark()}{threading.get_ident()}")


def own_mark() -> str:
    """Return what the names of this process's temporary files and folders hold, to tell whose they are."""
    return f"{socket.gethostname()}-{os.getpid()}-"


def is_abandoned(name: str) -> bool:
    """Whether a name holds the mark of a process of this machine that is gone."""
    found = re.search(rf"{re.escape(socket.gethostname())}-(\d+)-", name)
    if found is None:
        return False
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # it is somebody else's
        pass
    return False
