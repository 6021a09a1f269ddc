"""What the processes that import a submission may read and write, and what of it this kernel holds. Needs no jax.

`sandbox` restricts a process; here stands to what. Readable are Python and its libraries, the packages that
a submission may import, one by one, those rooms of the harness that export, the workload's folder and the submission's.
Writable are the folders that programs are exported into.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.errors import SubmissionError
from harness.machine import children
from harness.program import discovery, refusals, sandbox, seccomp
from harness.program.manifest import MAX_EXPORT_BYTES, MAX_FILE_BYTES

PACKAGES = ("jax", "flax", "optax", "scipy", "flatbuffers", "pyyaml", "jax-cuda12-plugin", "jax-cuda13-plugin")
"""Readable by every submission, with what they require."""
WHOLE = 6  # version of Landlock that has all parts which are used here: files, truncation, TCP, signals
_ROOMS = ("__init__.py", "api.py", "errors.py", "data", "machine", "optim", "program", "record")  # that exporting needs
_DATA = ("sklearn/datasets/data",)  # of packages, which no submission reads, whatever it requires
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_SHARED = ("*.so*", "*-linux-*")  # in them: libraries, and the folders of a machine's libraries
_OTHERS = ("/etc/ld.so.cache", "/dev/urandom", "/nix/store", "/gnu/store")


def command(module: str) -> list[str]:
    """Return what runs a module of the harness confined; its standard input begins with `first_line`."""
    return children.command("harness.program.sandbox", module)


def first_line(bounds: sandbox.Bounds) -> bytes:
    """Return what the process reads first."""
    return json.dumps(asdict(bounds)).encode() + b"\n"


def environment() -> dict[str, str]:
    """Return all that the process finds in its environment: nothing of the user or of the machine."""
    kept = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}
    fixed = {"JAX_PLATFORMS": "cpu", "PYTHONUTF8": "1", "LC_CTYPE": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    return kept | fixed | {"PYTHONPATH": children.python_path(), refusals.CONFINED: "1"}


def kernel() -> dict[str, Any]:
    """Return what of the confinement this kernel has: {"landlock": its version, 0 for none, "seccomp": whether}."""
    return {"landlock": sandbox.landlock_version(), "seccomp": seccomp.available()}


def told(held: dict[str, Any]) -> str:
    """Return in words what a kernel holds of it."""
    version, filtered = int(held["landlock"]), bool(held["seccomp"])
    parts = ([f"Landlock {version}"] if version else []) + (["seccomp"] if filtered else [])
    lacks = [] if version else ["files are open without Landlock (Linux 5.13)"]
    if not filtered:
        network = "UDP" if version >= 4 else "network"
        lacks.append(f"{network} and processes are open" if version else "network, programs and processes are open")
    return "; ".join([" and ".join(parts) or "none", *lacks])


def of_submission(
    submission: Path, workloads: Iterable[Path], write: Iterable[str | Path] = (), requires: Sequence[str] = ()
) -> sandbox.Bounds:
    """Return what a process may do that imports a submission, and these workloads beside it.

    Raises SubmissionError where a package that it requires is not installed.
    """
    versions(submission, requires)
    packages = _packages(tuple(requires))
    own = Path(__file__).resolve().parents[1]
    held = {*packages, *(own / room for room in _ROOMS)}
    around = _standard()
    for folder in {submission, *workloads}:
        inside = discovery.files_of(folder)
        outside = {file for file in discovery.imported(inside, folder.parent) if not file.is_relative_to(folder)}
        held |= outside
        around |= {folder.parent} if outside else set()
    around |= {path.parent for path in held}
    readable = {path.relative_to(site).parts[0] for site in _sites() for path in packages if path.is_relative_to(site)}
    return sandbox.Bounds(
        **kernel(),
        read=sorted(map(str, _python() | held | {*discovery.sources(submission), *workloads})),
        look=sorted(map(str, around | {submission})),
        write=sorted(map(str, write)),
        hidden=sorted(_modules() - {name.partition(".")[0] for name in readable}),
        memory_bytes=MAX_EXPORT_BYTES,
        file_bytes=MAX_FILE_BYTES,
    )


def versions(submission: Path, requires: Iterable[str]) -> dict[str, str]:
    """Return the version of each package required. Raises SubmissionError where one is not installed."""
    found = {}
    for name in requires:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            meant = metadata.packages_distributions().get(name)  # a module's name in place of the package's
            mend = f"pip calls it {meant[0]}" if meant else f"install it with: pip install {name}"
            where, said = discovery.metadata(submission)
            raise SubmissionError(f"{where}: {said('requires')}: '{name}' is not installed; {mend}") from None
    return found


@functools.cache
def _python() -> frozenset[Path]:
    """Return what Python itself needs: its library and those that extension modules load, without any package."""
    extra = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    folders = {Path(path).resolve() for path in (str(Path(sys.base_prefix) / "lib"), *_LIBRARIES, *extra)}
    shared = {path for folder in folders if folder.is_dir() for pattern in _SHARED for path in folder.glob(pattern)}
    holes = {folder / name for folder in _standard() for name in ("site-packages", "dist-packages")}
    modules = {path for folder in _standard() for path in _without(folder, holes)}
    return frozenset(modules | {path for path in shared if not path.is_symlink()} | set(map(Path, _OTHERS)))


def _standard() -> set[Path]:
    """Return the folders of Python's own library."""
    return {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}


@functools.cache
def _packages(requires: tuple[str, ...]) -> frozenset[Path]:
    """Return files and folders of the packages that a submission may read: each with all that it requires, and what
    is told of every package that is installed.
    """
    found = {path for folder in _sites() for kind in ("dist", "egg") for path in folder.glob(f"*.{kind}-info")}
    seen: set[str] = set()
    waiting = [*PACKAGES, *requires]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        with suppress(metadata.PackageNotFoundError):
            distribution = metadata.distribution(name)
            found.update(_files(name, distribution))
            for line in distribution.requires or ():
                if "extra ==" not in line or "cuda" in line:
                    waiting.append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    return frozenset(found)


def _files(name: str, distribution: metadata.Distribution) -> Iterator[Path]:
    """Yield top-level files and folders of a package, without the data sets in it."""
    lines = (distribution.read_text("RECORD") or "").splitlines()
    names = {re.split("[/,]", line, maxsplit=1)[0] for line in lines} - {"..", "__pycache__"}
    places = {Path(str(distribution.locate_file(top))) for top in names if not top.endswith(".pth")}
    if "editable" in (distribution.read_text("direct_url.json") or ""):  # its modules lie elsewhere
        for module in (distribution.read_text("top_level.txt") or name.replace("-", "_")).split():
            spec = importlib.util.find_spec(module)
            places |= set(map(Path, spec.submodule_search_locations or ())) if spec else set()
    for place in places:
        if place.exists():
            yield from _without(place, {place.parent / data for data in _DATA})
        if place.suffix == ".py":
            yield Path(importlib.util.cache_from_source(str(place)))


def _without(folder: Path, holes: Set[Path]) -> Iterator[Path]:
    """Yield the folder, or what is in it but the holes where there are some."""
    if not any(hole.is_relative_to(folder) for hole in holes):
        yield folder
    elif folder not in holes:
        for child in folder.iterdir():
            if not child.is_symlink():
                yield from _without(child, holes)


@functools.cache
def _modules() -> frozenset[str]:
    """Return the names of all modules that packages installed here bring."""
    named = (path for folder in _sites() for path in folder.iterdir() if not path.suffix.endswith("-info"))
    return frozenset(path.name.partition(".")[0] for path in named if path.is_dir() or path.suffix in (".py", ".so"))


def _sites() -> list[Path]:
    """Return the folders on the path that packages are installed in."""
    places = {*map(Path, sys.path), *map(Path, site.getsitepackages())}
    return [path for path in places if re.fullmatch("(site|dist)-packages", path.name) and path.is_dir()]
