"""A file from a mirror or its public address: resumed, tried again, checked, never written over another.

A download grows in `NAME.part`, with `NAME.part.from` beside it to say from where, and becomes `NAME` when it is whole.
One that is not what was expected is kept as `NAME.corrupt-N`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import __version__
from harness.data.specs import File
from harness.errors import DataError

ATTEMPTS = 5  # in a row that bring nothing
TIMEOUT_S = 30.0
FIRST_WAIT_S = 1.0  # before the next attempt; doubled while attempts bring nothing
CHUNK = 2**18  # bytes read at a time

_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that may be another in a moment

Show = Callable[[str, int, int | None], None]
"""Is told the name of a download, how many bytes are there, and how many there will be, where that is known."""


@dataclass(frozen=True)
class Fetched:
    """A file that is there.

    Attributes:
      path: of the file.
      source: the path or address it came from.
      ours: whether it was downloaded, so that it may be moved or removed.
    """

    path: Path
    source: str
    ours: bool


class _Absent(Exception):
    """The server does not have it."""


class _Broken(Exception):
    """The transfer ended early."""


# `HTTPError` is a `URLError`. Other `OSError`s are of the disk and not tried again.
_OF_THE_NETWORK = (
    _Broken,
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


def fetch(file: File, folder: Path, mirror: str | None, show: Show) -> Fetched:
    """Return the file: as it lies in a mirror folder, else downloaded into `folder` from the mirror or public address.

    A mirror that lacks it is passed over. Raises `DataError` where the file cannot be had or is another.
    """
    if mirror and is_url(mirror):
        for relative in file.mirror:
            try:
                return _download(f"{mirror.rstrip('/')}/{relative}", folder, show)
            except _Absent:
                continue
    elif mirror:
        for relative in file.mirror:
            if (path := Path(mirror).expanduser() / relative).is_file():
                return Fetched(path, str(path), ours=False)
    if file.url is None:
        found = f"{mirror} does not have it" if mirror else "none was named"
        raise DataError(
            f"{file.name} has no public address; it comes from a mirror, and {found}. Name a folder or an address that "
            f"holds {' or '.join(file.mirror)} with --mirror DIR|URL. {file.note}".rstrip(". ")
        )
    try:
        return _download(file.url, folder, show, file)
    except _Absent as error:
        raise DataError(f"{error}; a copy that lies elsewhere can be named with --mirror DIR|URL") from None


def is_url(mirror: str) -> bool:
    """Return whether a mirror is an address; `DataError` where it is not a folder either."""
    if mirror.startswith(("http://", "https://")):
        return True
    if not Path(mirror).expanduser().is_dir():
        raise DataError(f"no folder at {mirror}; --mirror takes a folder, or an address that starts with https://")
    return False


def set_aside(path: Path, name: str | None = None) -> Path:
    """Rename a file that is not what it should be to `NAME.corrupt-N`, the first N that is free; return that path."""
    n = 1
    while (kept := path.with_name(f"{name or path.name}.corrupt-{n}")).exists():
        n += 1
    return path.rename(kept)


def _download(url: str, folder: Path, show: Show, expected: File | None = None) -> Fetched:
    """Download into `folder`, going on with what an earlier call left; `expected` tells the bytes that must come."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (expected.name if expected else url.rpartition("/")[2])
    if target.exists():  # whole, from a call that was interrupted later
        return Fetched(target, url, ours=True)
    part = target.with_name(target.name + ".part")
    sha256 = expected.sha256 if expected else None
    _persist(url, part, expected.bytes if expected and sha256 else None, show)
    if sha256 and (digest := _sha256(part)) != sha256:
        kept = set_aside(part, target.name)
        raise DataError(
            f"{url}: the download has sha256 {digest}, expected {sha256}; it is refused and kept as {kept}. The same "
            "command downloads it anew"
        )
    part.rename(target)
    _origin(part).unlink()
    return Fetched(target, url, ours=True)


def _persist(url: str, part: Path, size: int | None, show: Show) -> None:
    """Let `part` grow until it is whole. Raises `_Absent`, and `DataError` when attempts bring nothing any more."""
    failures, wait_s = 0, FIRST_WAIT_S
    while True:
        before = _size(part)
        try:
            return _attempt(url, part, size, show)
        except _OF_THE_NETWORK as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                if error.code not in _TRANSIENT:
                    raise _Absent(f"{url}: the server answers {error.code} {error.reason}") from None
            failures, wait_s = (failures + 1, 2 * wait_s) if _size(part) <= before else (1, FIRST_WAIT_S)
            if failures >= ATTEMPTS:
                raise DataError(
                    f"{url}: {ATTEMPTS} attempts in a row brought nothing ({error}); the {_size(part)} bytes so far "
                    "are kept and the same command goes on from there. A copy can be named with --mirror DIR|URL"
                ) from error
        time.sleep(wait_s)


def _attempt(url: str, part: Path, size: int | None, show: Show) -> None:
    """Ask once, for what is still missing where the server has the same file as before, else for all of it."""
    have = _size(part)
    if size is not None and have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": f"training-harness/{__version__}"})
    validator = _validator(part, url) if have else None
    if validator:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", validator)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return  # it was whole
        part.unlink()
        raise _Broken("the server has another file now") from None
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _Broken(f"it went on at another place than asked, byte {have}")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if size is not None and total not in (None, size):
            raise DataError(f"{url}: the server offers {total} bytes, expected {size}; nothing was downloaded")
        if not resumed:
            strong = response.headers.get("ETag", "W/")
            known = response.headers.get("Last-Modified", "") if strong.startswith("W/") else strong
            _origin(part).write_text(json.dumps({"url": url, "validator": known}))
        with part.open("ab" if resumed else "wb") as file:
            show(part.stem, have, total)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                have += len(chunk)
                show(part.stem, have, total)
    if total is not None and have < total:
        raise _Broken(f"it ended after {have} of {total} bytes")


def _validator(part: Path, url: str) -> str | None:
    """Return what tells the server which version of the file `part` is the beginning of; None where nothing does."""
    try:
        origin = json.loads(_origin(part).read_text())
    except (OSError, ValueError):
        return None
    return str(origin["validator"]) if origin.get("url") == url else None


def _origin(part: Path) -> Path:
    return part.with_name(part.name + ".from")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
