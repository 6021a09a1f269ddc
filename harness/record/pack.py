"""A pack: the records of a campaign in one file, with the programs that ran and the submissions' sources.

    manifest.json                                        what it is, and a SHA-256 of each other member
    trials/<workload>/<submission>/<study-trial-id>/     spec.json, log.jsonl, result.json, evaluated.npz if asked for
    trials/<workload>/<submission>/search.jsonl          where fresh seeds count
    programs/<id>/                                       manifest.json, <function>.mlir
    submissions/<name>-<hash>/                           sources

It is a tar of plain files, sorted and without times or owners, within xz: equal content gives equal bytes under one
version of liblzma, and the manifest's `content` is equal under all. xz has checksums over all its parts; the tar has to
be the one that `write` makes of its members, and the manifest the one that it makes of its values. So any byte that
changes is noticed when a pack is read. That what a pack says is true is for `harness verify` to find out.
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import RunFolderError, beneath
from harness.machine.flags import Device
from harness.record import plain_data, run_folder
from harness.record.files import temporary_of
from harness.record.run_folder import Trial

KIND = "pack of trials"
SCHEMA = 1
SUFFIX = ".tar.xz"
MANIFEST, TRIALS, PROGRAMS, SUBMISSIONS = "manifest.json", "trials", "programs", "submissions"
MAX_BYTES = 2**30  # of all members
MAX_MEMBERS = 20_000
_MEMORY = 128 * 2**20  # that unpacking may take beside
_CHUNK = 2**24
_BEGINNING = MANIFEST.encode() + b"\0"

Members = dict[str, bytes]


@dataclass(frozen=True)
class Source:
    """A submission whose sources a pack holds.

    Attributes:
      name, source_hash: as in its trials.
      folder: of the pack.
      git: {"commit", "dirty"} of its folder when it was published; None where it lay in no repository.
    """

    name: str
    source_hash: str
    folder: str
    git: dict[str, Any] | None


@dataclass(frozen=True)
class About:
    """`manifest.json`.

    Attributes:
      harness: its version.
      loads_with: versions of jax and jaxlib that exported and ran the programs; other versions load them for about six
        months.
      device, machine: what all trials ran on: {"cpu", "cores"}, or {"device"}.
      rules: rulesets, sorted.
      submissions: sorted.
      states: whether it holds what was evaluated.
      files: SHA-256 of each member.
      content: SHA-256 over all of the above.
    """

    harness: str
    loads_with: dict[str, str | None]
    device: Device
    machine: dict[str, Any]
    rules: tuple[str, ...]
    submissions: tuple[Source, ...]
    states: bool
    files: dict[str, str] = field(default_factory=dict)
    content: str = ""
    kind: str = KIND
    schema: int = SCHEMA


def find(root: Path, *, damaged: bool = False) -> list[Path]:
    """Return the packs at or below `root`, sorted. With `damaged` also what is called as they are and cannot be
    unpacked from its beginning on, and `root` itself where it is a file called so.
    """
    if root.is_file():
        return [root] if is_pack(root) or (damaged and root.name.endswith(SUFFIX)) else []
    heads = {file: _head(file) for file in sorted(root.rglob(f"*{SUFFIX}"))}
    return [file for file, head in heads.items() if (damaged if head is None else head.startswith(_BEGINNING))]


def member(place: Path) -> tuple[Path, str]:
    """Return the pack and the member that a place names as `read_trials` does; of others the place itself and ""."""
    file, separator, name = str(place).partition(f"{SUFFIX}:")
    return (Path(file + SUFFIX), name.strip("/")) if separator and not place.exists() else (place, "")


def is_pack(file: Path) -> bool:
    """Whether a file begins as packs do; it may be damaged further on."""
    return (_head(file) or b"").startswith(_BEGINNING)


def _head(file: Path) -> bytes | None:
    """Return what a file unpacks to at first; None where it cannot be unpacked."""
    try:
        with file.open("rb") as raw:
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY).decompress(raw.read(2**16), 512)
    except OSError as error:
        if trouble := beneath(error):
            raise trouble from None
        return b""
    except lzma.LZMAError:
        return None


def write(file: Path, about: About, members: Mapping[str, bytes]) -> About:
    """Write a pack, in one piece; return its manifest. Raises RunFolderError where it cannot be written."""
    files = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(members.items())}
    about = replace(about, files=files)
    about = replace(about, content=_content(about))
    data = lzma.compress(_tar(_manifest(about), members))
    new = temporary_of(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        new.replace(file)
    except OSError as error:
        raise RunFolderError(f"{file} cannot be written: {error.strerror}; choose another place with -o FILE") from None
    finally:
        with suppress(OSError):
            new.unlink()
    return about


def read(file: Path) -> tuple[About, Members]:
    """Return the manifest of a pack and its other members. Raises RunFolderError naming what is damaged: no byte may
    differ from what `write` wrote.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{file}: {error.strerror}; `harness publish` makes a pack") from None
    try:
        data = _decompressed(raw)
        members = _members(data)
        text = members.pop(MANIFEST)
        about = plain_data.read(About, json.loads(text), MANIFEST, RunFolderError)
        _check(about, text, members, data)
    except (lzma.LZMAError, tarfile.TarError, ValueError, LookupError, OSError) as error:
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise RunFolderError(f"{file} is no pack, or damaged ({why}); take it as it was published") from None
    except RunFolderError as error:
        raise RunFolderError(f"{file} is damaged: {error}; take it as it was published") from None
    return about, members


@contextmanager
def unpacked(file: Path) -> Iterator[tuple[About, Path]]:
    """Yield the manifest of a pack, and a temporary folder that holds its members."""
    about, members = read(file)
    with tempfile.TemporaryDirectory(prefix="harness-pack-") as folder:
        for name, data in members.items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        yield about, Path(folder)


def read_trials(file: Path) -> list[Trial]:
    """Return the trials of a pack; their paths name the pack, and what lies where in it."""
    with unpacked(file) as (_, folder):
        found = [run_folder.read_trial(path) for path in run_folder.find_trials(folder / TRIALS)]
        return [replace(t, path=Path(f"{file}:{t.path.relative_to(folder).as_posix()}")) for t in found]


def _decompressed(raw: bytes) -> bytes:
    """Unpack one xz stream that fills the file, and no more than MAX_BYTES and what the tar takes beside."""
    reader, parts, size = lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY), list[bytes](), 0
    most = MAX_BYTES + 1024 * (MAX_MEMBERS + 20)
    while not reader.eof:
        part = reader.decompress(raw, _CHUNK)
        raw = b""
        if not part and reader.needs_input:
            raise RunFolderError("it ends too early")
        parts.append(part)
        size += len(part)
        if size > most:
            raise RunFolderError(f"it unpacks to more than {most} bytes")
    if reader.unused_data:
        raise RunFolderError(f"{len(reader.unused_data)} bytes follow its end")
    return b"".join(parts)


def _members(data: bytes) -> Members:
    """Return the plain files of a tar. Raises RunFolderError for links and the like, and names that lead outside."""
    found: Members = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
        for one in tar:
            if not one.isreg() or one.sparse is not None:
                raise RunFolderError(f"{one.name!r} is no plain file")
            _check_name(one.name, found)
            held = tar.extractfile(one)
            assert held is not None
            found[one.name] = held.read()
            if len(found) > MAX_MEMBERS:
                raise RunFolderError(f"it has more than {MAX_MEMBERS} members")
    folders = {parent.as_posix() for name in found for parent in Path(name).parents}
    if both := sorted(folders & found.keys()):
        raise RunFolderError(f"{both[0]!r} is a file and a folder")
    if len({name.casefold() for name in found}) < len(found):
        raise RunFolderError("two of its names differ in case alone")
    return found


def _check_name(name: str, others: Mapping[str, Any] = {}) -> None:
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") and part.isprintable() and not set(part) & set("\\:") for part in parts)
    if not plain or name in others:
        raise RunFolderError(f"the name {name!r} leads elsewhere, or stands twice")


def _check(about: About, text: bytes, members: Members, data: bytes) -> None:
    if about.kind != KIND or about.schema != SCHEMA:
        raise RunFolderError(
            f"expected is a '{KIND}' of schema {SCHEMA}, this is a {about.kind!r} of schema {about.schema!r}"
        )
    if sorted(members) != sorted(about.files):
        odd = sorted(set(members) ^ set(about.files))
        raise RunFolderError(f"{odd[0]} is in the manifest or in the pack alone")
    for name, held in members.items():
        if hashlib.sha256(held).hexdigest() != about.files[name]:
            raise RunFolderError(f"{name} is not what the manifest says")
    if text != _manifest(about) or about.content != _content(about):
        raise RunFolderError(f"{MANIFEST} has been changed")
    if data != _tar(text, members):
        raise RunFolderError("the archive is put together otherwise than packs are")


def _manifest(about: About) -> bytes:
    return (json.dumps(plain_data.to_plain(about), indent=1, sort_keys=True) + "\n").encode()


def _content(about: About) -> str:
    return hashlib.sha256(_manifest(replace(about, content=""))).hexdigest()


def _tar(manifest: bytes, members: Mapping[str, bytes]) -> bytes:
    """Return the tar of these files: the manifest first, the others sorted."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in [(MANIFEST, manifest), *sorted(members.items())]:
            _check_name(name)
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            try:
                tar.addfile(info, io.BytesIO(data))
            except ValueError as error:  # of tar's own header
                raise RunFolderError(f"{name!r} is too long a name for a pack ({error})") from None
    return made.getvalue()
