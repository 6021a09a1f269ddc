"""Find and load the folders of submissions and workloads, by name or path. There is no registry: a folder that is
there is found.

Looked through in order, the first match winning: `./submissions` (`./workloads`), the folders of `HARNESS_PATH`, and
those that come with the harness.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import ConfigError, HarnessError, SubmissionError, WorkloadError, beneath, suggest
from harness.program.refusals import explained
from harness.program.workload import Data, Workload, WorkloadInfo, held_out

Kind = Literal["submissions", "workloads"]
SEARCH_SPACE = "tuning_search_space.json"  # AlgoPerf's name for it
ORIGIN = ".of"  # names what a folder was made of (`harness.program.ramps`)
_PARSING = threading.Lock()  # CPython 3.11 counts its depth wrongly where two threads parse at a time
_ENTRY: dict[Kind, str] = {"submissions": "submission.py", "workloads": "workload.py"}
_ERROR: dict[Kind, type[HarnessError]] = {"submissions": SubmissionError, "workloads": WorkloadError}


@dataclass(frozen=True)
class Folder:
    """A submission or workload as found: its name, path, and hash of its sources."""

    kind: Kind
    name: str
    path: Path

    @property
    def source_hash(self) -> str:
        """Short SHA-256 over names and bytes of its Python and YAML files and of its search space, and of those outside
        that they import.

        Raises SubmissionError or WorkloadError naming a file that cannot be read.
        """
        digest = hashlib.sha256()
        own = [p for p in files_of(self.path) if p.suffix in (".py", ".yaml", ".yml") or p.name == SEARCH_SPACE]
        try:
            for file in sorted({*own, *imported(own, self.path.parent)}):
                digest.update(os.fsencode(file.relative_to(self.path.parent)) + b"\0" + file.read_bytes() + b"\0")
        except OSError as error:
            raise beneath(error) or _ERROR[self.kind](
                f"{error.filename} cannot be read ({error.strerror}); make it readable, or move it out of the folder"
            ) from None
        return digest.hexdigest()[:12]


def files_of(folder: Path) -> list[Path]:
    """Return the files below a folder that can be part of what it holds, sorted. Editors, version control and operating
    systems leave hidden files and folders, and links to nowhere: those are passed over, and so are Python's caches.
    """
    found = (path for path in folder.rglob("*") if path.is_file())
    parts = ((path, path.relative_to(folder).parts) for path in found)
    return sorted(path for path, names in parts if not any(n.startswith(".") or n == "__pycache__" for n in names))


def sources(folder: Path) -> list[Path]:
    """Return the files of a submission that its hash is over, which are all of it that it may read; no links to other
    kinds of files. What the folder was made of (`ORIGIN`) is no source, and may be read for messages.
    """
    kinds = (".py", ".yaml", ".yml")
    found = [p for p in files_of(folder) if p.resolve().suffix in kinds or p.resolve().name == SEARCH_SPACE]
    return [*found, *(p for p in (folder / ORIGIN,) if p.is_file() and not p.is_symlink())]


def imported(files: Iterable[Path], root: Path) -> set[Path]:
    """Return the files that Python files below `root` import relatively, and these in turn; what cannot be parsed
    imports none, and nothing above `root` can be imported.
    """
    found: set[Path] = set()
    waiting = [file for file in files if file.suffix == ".py"]
    while waiting:
        file = waiting.pop()
        with contextlib.suppress(SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
            with _PARSING:
                tree = ast.parse(file.read_bytes())
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and 0 < node.level <= len(file.relative_to(root).parts):
                    base = file.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                    named = [base, *(base / alias.name for alias in node.names)]
                    candidates = {p for b in named for p in (b.with_suffix(".py"), b / "__init__.py") if p.is_file()}
                    candidates = {path for path in candidates if path.resolve().suffix == ".py"}  # no link to data
                    waiting += candidates - found
                    found |= candidates
    return found


def bundled(folder: Folder) -> bool:
    """Whether a folder comes with the harness."""
    return folder.path.parent == _own() / folder.kind


def roots(kind: Kind) -> list[Path]:
    """Return the existing folders that are looked through for `kind`, in order."""
    places = [Path.cwd(), *map(Path, filter(None, os.environ.get("HARNESS_PATH", "").split(os.pathsep))), _own()]
    found: list[Path] = []
    for place in places:
        root = (place / kind).resolve()
        if root.is_dir() and root not in found:
            found.append(root)
    return found


def _own() -> Path:
    package = Path(__file__).resolve().parents[1]
    return package / "_bundled" if (package / "_bundled").is_dir() else package.parent


def find_all(kind: Kind, *, bundled_only: bool = False) -> dict[str, Folder]:
    """Return every folder of `kind` by name, sorted; with `bundled_only` those that come with the harness."""
    found: dict[str, Folder] = {}
    for root in [_own() / kind] if bundled_only else roots(kind):
        for path in sorted(root.iterdir()):
            if not path.name.startswith(".") and (path / _ENTRY[kind]).is_file():
                found.setdefault(path.name, Folder(kind, path.name, path))
    return dict(sorted(found.items()))


def find(kind: Kind, name: str) -> Folder:
    """Return the folder with this name, or at this path (anything with a slash in it, or `.`).

    Raises ConfigError with the nearest name for an unknown one, and where it was looked for.
    """
    if "/" in name or name in (".", ".."):
        path = Path(name).expanduser().resolve()
        if (path / _ENTRY[kind]).is_file():
            return Folder(kind, path.name, path)
        raise ConfigError(f"{name} is no {kind[:-1]} folder: expected a file {_ENTRY[kind]} in it")
    found = find_all(kind)
    if name in found:
        return found[name]
    for root in roots(kind):
        if (root / name).is_dir():
            raise ConfigError(f"{root / name} is no {kind[:-1]} folder: expected a file {_ENTRY[kind]} in it")
    looked = ", ".join(map(str, roots(kind))) + (f", and for ./{name}.py" if kind == "submissions" else "")
    raise ConfigError(f"unknown {kind[:-1]} '{name}'; {suggest(name, found, f'found {kind}')} (looked in {looked})")


def load(folder: Folder) -> types.ModuleType:
    """Import the folder's entry module as part of a package of its own, so that `from .model import x` works in it.

    Raises SubmissionError or WorkloadError with file, line and cause where the import fails.
    """
    parent, name = _parent(folder), _package(folder)
    if parent not in sys.modules:
        package = types.ModuleType(parent, "Synthetic parent of the folders found at one place.")
        package.__path__ = [str(folder.path.parent)]
        sys.modules[parent] = package
    if folder.kind == "submissions":
        _read_sources_alone(folder.path)
    try:
        _import_package(name, folder.path)
        return importlib.import_module(f"{name}.{_ENTRY[folder.kind].removesuffix('.py')}")
    except HarnessError:
        raise
    except Exception as error:
        raise _ERROR[folder.kind](blame(folder.path, "import", error)) from error


class _Source(importlib.machinery.SourceFileLoader):
    """Loads a Python file from its source, and never from what was compiled before."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(f"{path}: no cache is asked for")


def _read_sources_alone(folder: Path) -> None:
    """Import from a folder, and from beside it, what is hashed and can be read by people: Python's sources. A compiled
    file in `__pycache__`, or an extension module, would be taken in their place and may do anything.
    """

    def finder(path: str) -> importlib.machinery.FileFinder:
        if not (Path(path) == folder.parent or Path(path).is_relative_to(folder)):
            raise ImportError(path)
        return importlib.machinery.FileFinder(path, (_Source, importlib.machinery.SOURCE_SUFFIXES))

    sys.path_hooks.insert(0, finder)
    for path in [path for path in sys.path_importer_cache if Path(path) == folder.parent]:
        del sys.path_importer_cache[path]


def _import_package(name: str, path: Path) -> None:
    """Import a folder as a package, without a look at the folder that it lies in, which may not be allowed."""
    if name in sys.modules:
        return
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    if (path / "__init__.py").is_file():
        spec.loader = _Source(name, str(path / "__init__.py"))
    spec.submodule_search_locations = [str(path)]
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise


def unload(folder: Folder) -> None:
    """Forget the folder's modules, so that `load` imports them anew."""
    package = _package(folder)
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def _parent(folder: Folder) -> str:
    return f"_found_{hashlib.sha256(str(folder.path.parent).encode()).hexdigest()[:10]}"


def _package(folder: Folder) -> str:
    return f"{_parent(folder)}.{folder.name.replace('.', '_')}"


def entry(path: Path) -> str:
    """Return what the user calls the submission.py of a folder: the file that it was made of, where there is one."""
    try:
        return (path / ORIGIN).read_text()
    except OSError:
        return str(path / _ENTRY["submissions"])


def metadata(path: Path) -> tuple[str, Callable[[str], str]]:
    """Return what the user calls the submission.yaml of a folder, and how a field is called there: in a single file
    `defaults` is DEFAULTS.
    """
    if not (path / ORIGIN).is_file():
        return str(path / "submission.yaml"), str
    where = entry(path)
    return where, str.upper if where.endswith(".py") else str


def blame(path: Path, doing: str, error: BaseException) -> str:
    """Return one line saying which file and line below `path` raised `error` while `doing` something."""
    where = entry(path) if (path / ORIGIN).exists() else str(path)
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    else:
        for frame in traceback.extract_tb(error.__traceback__):
            if Path(frame.filename).is_relative_to(path):
                where = f"{frame.filename}:{frame.lineno} ({frame.name})"
    where = where.replace(str(path / _ENTRY["submissions"]), entry(path))
    name, text = type(error).__name__, str(error).strip() or "no message"
    told = text.split("\n", 1)[0] if name in _OF_TRACING else text.split("\n\n")[0]  # the rest names our own frames
    mend = _OF_TRACING.get(name, "")
    return f"{where}: {name} in {doing}: {told}{mend}{explained(error)}"


_BRANCHES = "; `if`, `min` and `and` cannot look at a traced array: use jnp.where, jnp.minimum or jax.lax.cond"
_NUMBERS = "; float(), int(), .item() and numpy cannot take a traced array: use jnp, and keep it an array"
_OF_TRACING = {
    "TracerBoolConversionError": _BRANCHES,
    "ConcretizationTypeError": _NUMBERS,
    "TracerIntegerConversionError": _NUMBERS,
    "TracerArrayConversionError": _NUMBERS,
}
"""What to do about jax's own errors, whose texts are long and name functions of the harness."""


def workload_info(folder: Folder, variant: str | None = None) -> WorkloadInfo:
    """Return the `INFO` of a workload folder, or that of a held-out variant. Needs no jax."""
    info = getattr(load(folder), "INFO", None)
    if not isinstance(info, WorkloadInfo):
        raise WorkloadError(
            f"{folder.path}/workload.py: expected INFO, a harness.program.workload.WorkloadInfo, got "
            f"{type(info).__name__}"
        )
    return held_out(info, variant)


def usable_workloads() -> dict[str, WorkloadInfo]:
    """Return what is known of every workload that is found, by name; one that is broken stands in nobody's way."""
    found = {}
    for name, folder in find_all("workloads").items():
        with contextlib.suppress(HarnessError):
            found[name] = workload_info(folder)
    return found


def load_workload(folder: Folder, variant: str | None = None) -> Workload:
    """Return the workload of a folder, or a held-out variant of it, with its model. Its `splits` refuse data of other
    shapes than it states, as those of `load_data` do.
    """
    info = workload_info(folder, variant)
    workload: Workload = load(folder).load(*() if info.variant is None else (variant,))
    if workload.shapes is None:
        return workload
    return replace(workload, splits=Data(workload.info, workload.shapes, workload.splits, workload.batch).load)


def load_data(folder: Folder, variant: str | None = None) -> Data:
    """Return the data of a workload folder, or of a held-out variant of it, without its model: jax and numpy alone.

    Raises WorkloadError where the folder states none.
    """
    info = workload_info(folder, variant)
    function = getattr(load(folder), "data", None)
    if not callable(function):
        raise WorkloadError(f"{folder.path}/workload.py: expected a function data(variant=None), which returns a Data")
    data: Data = function(*() if info.variant is None else (variant,))
    return data
