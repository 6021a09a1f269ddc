"""What a bare JAX machine without a network needs, in pieces that are small enough to be carried to it.

The pieces are folders DIR/0, DIR/1, ... of at most 55 MiB each. The first holds the project, its programs and the
smaller data; each holds a manifest of all of them, with the SHA-256 of every piece and of what they make together:

    project.tar.xz          what of the project runs there; it is unpacked by hand, with tar
    programs.tar.xz         the suite's programs for a card, where they can be made here whole
    NAME.tar.xz.0, .1, ...  a prepared data set

Programs that are missing there are exported there, by a process each, while the card waits: some seconds a submission.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from unittest import mock

from cards import records
from cards.board import Asked, request
from cards.steps import WORKLOADS, submissions

from harness.campaign import plan
from harness.data import store
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, processes
from harness.program import store as program_store
from harness.record import plain_data
from harness.record.files import write_atomic

PIECE = 55 * 2**20  # bytes of a folder
ROOM = 2**16  # of them for the manifest
MANIFEST = "pieces.json"
PRESET = 3  # of xz: quick, and CIFAR-10 fits in three pieces
PROJECT = (
    "harness",
    "workloads",
    "submissions",
    "configs",
    "scripts",
    "results/targets",
    "results/h100",
    "results/h200",
)


@dataclass(frozen=True)
class Piece:
    """A file that is carried."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A .tar.xz in pieces, in order, and the SHA-256 of the whole."""

    sha256: str
    pieces: tuple[Piece, ...]


def pack(folder: Path, mirror: str | None = None, sets: Sequence[str] | None = None, size: int = PIECE) -> int:
    """Write the pieces to `folder`, of at most `size` bytes each; return 0.

    `sets` are the data sets to take along, by default the suite's. One that is missing here is prepared from `mirror`.
    Raises ConfigError where that fails, or `folder` holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a new folder, or remove it")
    names = datasets() if sets is None else list(sets)
    for name in names:
        if store.state(name)[0] != "ready":
            prepare(name, mirror)
        store.verify(name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:
        place = Path(making)
        files = [packed(place / "project.tar.xz", [records.ROOT / part for part in PROJECT], records.ROOT)]
        if sets is None:
            files += programs(place)
        data = [packed(place / f"{name}.tar.xz", [store.root() / name], store.root()) for name in names]
        deal([*files, *sorted(data, key=lambda file: file.stat().st_size)], folder, size)
    return 0


def datasets() -> list[str]:
    """Return the names of the suite's data sets."""
    found = (discovery.workload_info(discovery.find("workloads", name)).datasets for name in WORKLOADS)
    return list(dict.fromkeys(name for names in found for name in names))


def prepare(name: str, mirror: str | None) -> None:
    """Prepare a data set, by the command that everybody uses."""
    command = [sys.executable, "-m", "harness.cli", "data", "get", name, *(["--mirror", mirror] if mirror else [])]
    environment = os.environ | {"PYTHONPATH": str(records.ROOT)}
    if subprocess.run(command, check=False, env=environment).returncode:
        raise ConfigError(f"data set {name} cannot be prepared; --mirror names a folder or address that has its files")


def programs(place: Path) -> list[Path]:
    """Return the archive of the suite's programs for a card; none where cuDNN is not here: they would hold XLA's
    attention alone, and be taken there for what a card exports.
    """
    own = processes.workload_program(discovery.find("workloads", WORKLOADS[0]), platform="gpu")
    if not own.manifest.has("cudnn"):
        print("no programs go along: cuDNN's attention cannot be exported here; the other machine exports them")
        return []
    with mock.patch.dict(os.environ, {"HARNESS_CACHE": str(place / "cache"), "HARNESS_DATA": str(store.root())}):
        for name in WORKLOADS:
            run = request(Asked(name, "gpu", str(place / "runs")))
            made = plan.make_plan(
                replace(run, rules=replace(run.rules, stop="horizon")), submissions([]), elsewhere=True
            )  # fmt: skip
            for problem in made.problems:
                raise problem
        return [packed(place / "programs.tar.xz", [program_store.root()], program_store.root().parent)]


def packed(file: Path, parts: Iterable[Path], root: Path) -> Path:
    """Write an archive of files and folders, by their paths from `root`."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        hidden = any(part.startswith(".") or part == "__pycache__" for part in Path(member.name).parts)
        return None if hidden else member

    with tarfile.open(file, "w:xz", preset=PRESET) as tar:
        for part in parts:
            if part.exists():
                tar.add(part, part.relative_to(root), filter=kept)
    return file


def deal(files: Sequence[Path], folder: Path, size: int) -> None:
    """Cut archives where they are too large, put the parts into folders of at most `size` bytes in order, and the
    manifest into each.
    """
    free, used, archives = size - ROOM, 0, dict[str, Archive]()
    number = 0
    for file in files:
        whole, pieces = hashlib.sha256(), list[Piece]()
        with file.open("rb") as held:
            while part := held.read(free if file.stat().st_size > free else -1):
                if used + len(part) > free:
                    number, used = number + 1, 0
                name = file.name if len(part) == file.stat().st_size else f"{file.name}.{len(pieces)}"
                (folder / str(number)).mkdir(exist_ok=True)
                (folder / str(number) / name).write_bytes(part)
                whole.update(part)
                pieces.append(Piece(name, hashlib.sha256(part).hexdigest()))
                used += len(part)
        archives[file.name] = Archive(whole.hexdigest(), tuple(pieces))
    manifest = {name: asdict(archive) for name, archive in archives.items()}
    for piece in sorted(folder.glob("[0-9]*")):
        write_atomic(piece / MANIFEST, manifest)
        held_bytes = sum(path.stat().st_size for path in piece.iterdir())
        print(f"{piece}: {held_bytes / 2**20:.1f} MiB, {', '.join(sorted(p.name for p in piece.iterdir()))}")


def unpack(folders: Sequence[Path]) -> int:
    """Put together what the pieces in these folders make, check it and put it in its place; return 0, or 1 where pieces
    are missing or damaged. What is there already stays. Data go where HARNESS_DATA points, programs to the cache.
    """
    found = {path.name: path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}
    if MANIFEST not in found:
        raise ConfigError(f"no {MANIFEST} in {', '.join(map(str, folders))}; name the folders that --pack wrote")
    manifest = json.loads(found[MANIFEST].read_text())
    archives = {name: plain_data.read(Archive, held, str(found[MANIFEST])) for name, held in manifest.items()}
    code = 0
    for name, archive in archives.items():
        if name == "project.tar.xz":
            continue
        root = program_store.root().parent if name == "programs.tar.xz" else store.root()
        what = name.removesuffix(".tar.xz")
        if what in store.DATASETS and store.state(what)[0] == "ready":
            print(f"{what}: is there")
            continue
        missing = [piece.name for piece in archive.pieces if piece.name not in found]
        if missing:
            print(f"{what}: not yet, {', '.join(missing)} did not come")
            code = 1
            continue
        try:
            placed(archive, [found[piece.name] for piece in archive.pieces], root)
            print(f"{what}: put into {root}")
        except HarnessError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
    return code


def placed(archive: Archive, files: Sequence[Path], root: Path) -> None:
    """Join pieces, check them and unpack them below `root`: a folder comes into its place whole, or not at all.

    Raises ConfigError where a piece is not what was packed.
    """
    root.mkdir(parents=True, exist_ok=True)
    whole = hashlib.sha256()
    with tempfile.TemporaryDirectory(dir=root, prefix=".unpacking-") as making:
        joined = Path(making) / "joined"
        with joined.open("wb") as out:
            for file, piece in zip(files, archive.pieces, strict=True):
                part = file.read_bytes()
                if hashlib.sha256(part).hexdigest() != piece.sha256:
                    raise ConfigError(f"{file}: SHA-256 of {piece.name} is not that of what was packed; bring it again")
                whole.update(part)
                out.write(part)
        if whole.hexdigest() != archive.sha256:
            raise ConfigError(f"{files[0]}: the pieces are not one archive; pack anew")
        inner = Path(making) / "inner"
        with tarfile.open(joined) as tar:
            tar.extractall(inner, filter="data")
        for folder in inner.iterdir():
            if (root / folder.name).exists():
                shutil.copytree(folder, root / folder.name, dirs_exist_ok=True)
            else:
                folder.rename(root / folder.name)
