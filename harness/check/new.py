"""`harness new`: a submission to start from. The templates are submissions themselves, in `harness/templates`."""

from __future__ import annotations

import keyword
import shlex
import sys
from pathlib import Path

from harness.errors import ConfigError
from harness.program import discovery
from harness.report.tables import print_line

TEMPLATES = Path(__file__).parent / "templates"
FILES = ("submission.py", "submission.yaml", "README.md")


def run(name: str, *, full: bool = False) -> int:
    """Write the submission `name` into ./submissions, or at a path (anything with a slash in it); return 0.

    Raises ConfigError for a name that is no Python identifier, and where something is there already.
    """
    path = Path(name).expanduser() if "/" in name else Path("submissions") / name
    called = path.resolve().name
    if not called.isidentifier() or keyword.iskeyword(called):
        hint = "".join(c if c.isalnum() else "_" for c in called)
        fit = hint if hint.isidentifier() and not keyword.iskeyword(hint) else f"my_{hint}"
        raise ConfigError(f"'{called}': expected letters, digits and underscores, as in '{fit}'")
    if path.exists():
        raise ConfigError(f"{path} is there already; choose another name, or remove it first")
    elsewhere = discovery.find_all("submissions").get(called)
    template = TEMPLATES / ("full" if full else "minimal")
    path.mkdir(parents=True)
    for file in FILES:
        text = (template / file).read_text()
        for line in ("name: {}\n", "# {}\n"):
            text = text.replace(line.format(template.name), line.format(called), 1)
        (path / file).write_text(text)
    print_line(f"wrote {path}: {', '.join(FILES)}")
    by_name = path.resolve().parent == Path("submissions").resolve()
    if elsewhere is not None:
        taken = f"this one hides {elsewhere.path}" if by_name else f"another is at {elsewhere.path}: name the path"
        print_line(f"warning: there is a submission called {called} already; {taken}")
        sys.stdout.flush()
    typed = called if by_name else shlex.quote(str(path) if "/" in str(path) else f"./{path}")
    print_line("next:")
    print_line(f"  harness check {typed}")
    print_line(f"  harness run {typed} workload=quadratic stop=horizon")
    return 0
