"""What can be told from a submission's files without running them: metadata, size, and the lint."""

from __future__ import annotations

from pathlib import Path

from harness.check.findings import Finding
from harness.check.lint import lint
from harness.errors import SubmissionError
from harness.program import discovery, submission
from harness.program.discovery import Folder

MAX_BYTES = 256 * 1024
MIN_README_WORDS = 20


def look_at(folder: Folder) -> list[Finding]:
    """Return what is wrong with a folder's files."""
    return [*_metadata(folder), *_size(folder.path), *_lint(folder)]


def _metadata(folder: Folder) -> list[Finding]:
    problems = []
    try:
        info = submission.read_info(folder)
    except SubmissionError as error:
        problems.append(str(error))
    else:
        where = f"{folder.path}/submission.yaml"
        for field in ("description", "authors", "licence"):
            if not getattr(info, field):
                problems.append(f"{where}: '{field}' is empty; say it")
        if "\n" in info.description.strip():
            problems.append(f"{where}: 'description' has several lines; keep it to one, and the rest to README.md")
        if info.tuning == "external" and not info.space and not info.points:
            problems.append(
                f"{where}: tuning is 'external' but there is nothing to tune over; give `space:` or `points:`, or say "
                "`tuning: self`"
            )
        for name, d in info.space.items():
            default = info.defaults[name]
            inside = default in d.values if d.values else d.min <= default <= d.max  # type: ignore[operator]
            if not inside:
                space = list(d.values) if d.values else f"[{d.min:g}, {d.max:g}]"
                problems.append(
                    f"{where}: the default {name}: {default} lies outside its space {space}; widen one of them"
                )
    readme = folder.path / "README.md"
    text = readme.read_text(errors="replace") if readme.is_file() else ""
    if not text.startswith("# "):
        lacks = "does not start with a title (`# name`)" if text else "is missing"
        problems.append(f"{readme} {lacks}; it names the paper, what differs from it, and what was measured")
    elif (words := len(text.split())) < MIN_README_WORDS:
        problems.append(f"{readme} has {words} words; name the paper, what differs from it, and what was measured")
    return [Finding("metadata", problem) for problem in problems]


def _size(path: Path) -> list[Finding]:
    sizes = {p: p.stat().st_size for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
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


def _lint(folder: Folder) -> list[Finding]:
    scored = [name for name, place in discovery.find_all("workloads").items() if discovery.workload_info(place).scored]
    return [Finding("lint", str(one), warning=one.warning) for one in lint(folder.path, scored)]
