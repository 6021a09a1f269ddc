"""What can be told from a submission's files without running them: metadata, size, and advice."""

from __future__ import annotations

from pathlib import Path

from harness.check.advice import advise
from harness.check.findings import Finding
from harness.errors import ConfigError, SubmissionError
from harness.program import discovery, submission
from harness.program.discovery import Folder
from harness.program.submission import SubmissionInfo
from harness.record import plain_data

MAX_BYTES = 256 * 1024
MIN_README_WORDS = 20
SAID = ("description", "authors", "licence")


def look_at(folder: Folder) -> tuple[SubmissionInfo | None, list[Finding]]:
    """Return what `submission.yaml` says, None where it cannot be read; and what is wrong with the folder's files."""
    try:
        info, problems = submission.read_info(folder), []
    except SubmissionError as error:
        info, problems = None, str(error).splitlines()
    problems += [*_empty(folder), *_metadata(folder, info)]
    if not (folder.path / discovery.ORIGIN).is_file():  # a single file or a function has no page
        problems += page(folder.path)
    found = [Finding("metadata", problem) for problem in problems]
    return info, [*found, *_size(folder.path), *_advice(folder, info)]


def _empty(folder: Folder) -> list[str]:
    """Fields that are there and say nothing, whatever else is wrong with the file."""
    file, said = discovery.metadata(folder.path)
    try:
        data = plain_data.read_yaml(folder.path / "submission.yaml")
    except ConfigError:
        return []
    empty = [name for name in SAID if isinstance(data, dict) and name in data and not data[name]]
    return [f"{file}: '{said(name)}' is empty; say it" for name in empty]


def _metadata(folder: Folder, info: SubmissionInfo | None) -> list[str]:
    if info is None:
        return []
    (where, said), problems = discovery.metadata(folder.path), []
    if "\n" in info.description.strip():
        problems.append(f"{where}: 'description' has several lines; keep it to one, and the rest to README.md")
    if info.tuning == "external" and not info.space and not info.points:
        problems.append(
            f"{where}: tuning is 'external' but there is nothing to tune over; give `{said('space')}:` or `points:`, "
            "or say `tuning: self`"
        )
    for name, d in info.space.items():
        default = info.defaults[name]
        inside = default in d.values if d.values else d.min <= default <= d.max  # type: ignore[operator]
        if not inside:
            space = list(d.values) if d.values else f"[{d.min:g}, {d.max:g}]"
            problems.append(f"{where}: the default {name}: {default} lies outside its space {space}; widen one of them")
    return problems


def page(folder: Path) -> list[str]:
    """Return what is wrong with the README.md of a folder."""
    readme = folder / "README.md"
    text = readme.read_text(errors="replace") if readme.is_file() else ""
    words = len(text.split())
    if text.startswith("# ") and words >= MIN_README_WORDS:
        return []
    lacks = "is missing" if not text else f"has {words} words" if text.startswith("# ") else "starts without a title"
    return [
        f"{readme} {lacks}; it starts with a title (`# name`) and says in {MIN_README_WORDS} words or more which paper "
        "it follows, what differs from it, and what was measured"
    ]


def _size(path: Path) -> list[Finding]:
    sizes = {p: p.stat().st_size for p in discovery.files_of(path)}
    total = sum(sizes.values())
    if total <= MAX_BYTES:
        return []
    largest = max(sizes, key=sizes.__getitem__)
    return [
        Finding(
            "size",
            f"{path} holds {-(-total // 1024)} KiB, of which {largest.relative_to(path)} {sizes[largest] // 1024}; "
            f"a submission has at most {MAX_BYTES // 1024}: it is code, not data",
        )
    ]


def _advice(folder: Folder, info: SubmissionInfo | None) -> list[Finding]:
    scored = [name for name, info in discovery.usable_workloads().items() if info.scored]
    hyperparameters = info.defaults if info else ()
    return [Finding("advice", text, warning=True) for text in advise(folder.path, scored, hyperparameters)]
