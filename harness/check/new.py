"""`harness new`: a submission to start from. The templates are submissions themselves, in `harness/templates`."""

from __future__ import annotations

import itertools
import keyword
import shlex
import sys
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.program import discovery, ramps
from harness.report.tables import print_line

TEMPLATES = Path(__file__).parent / "templates"
FILES = ("submission.py", "submission.yaml", "README.md")


def run(name: str, *, full: bool = False, optax: str | None = None) -> dict[str, Any]:
    """Write the submission `name` into ./submissions, or at a path (anything with a slash in it). `optax` is the
    dotted name of a function that it calls. Return what `harness new --json` prints.

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
    texts = _of_function(called, optax) if optax else _of_template(called, "full" if full else "minimal")
    path.mkdir(parents=True)
    for file, text in texts.items():
        (path / file).write_text(text)
    print_line(f"wrote {path}: {', '.join(FILES)}")
    by_name = path.resolve().parent == Path("submissions").resolve()
    warning = None
    if elsewhere is not None:
        taken = f"this one hides {elsewhere.path}" if by_name else f"another is at {elsewhere.path}: name the path"
        warning = f"there is a submission called {called} already; {taken}"
    elif by_name and Path(f"{called}.py").is_file():
        warning = f"{called} means this folder from now on; the file is {called}.py"
    if warning:
        print_line(f"warning: {warning}")
        sys.stdout.flush()
    typed = called if by_name else shlex.quote(str(path) if "/" in str(path) else f"./{path}")
    following = [f"harness check {typed}", f"harness run {typed} workload=quadratic stop=horizon"]
    print_line("next:")
    for line in following:
        print_line(f"  {line}")
    return {"path": str(path), "files": list(FILES), "warning": warning, "next": following}


def _of_template(called: str, template: str) -> dict[str, str]:
    texts = {file: (TEMPLATES / template / file).read_text() for file in FILES}
    for file, line in itertools.product(FILES, ("name: {}\n", "# {}\n")):
        texts[file] = texts[file].replace(line.format(template), line.format(called), 1)
    return texts


def _of_function(called: str, name: str) -> dict[str, str]:
    made = ramps.factory(name)
    readme = (
        f"# {called}\n\n`{name}` of {made.version}, with hyperparameters that its signature names. {made.summary}\n\n"
        "`schedule` is constant, linear or cosine; the last two warm up, and come down to 0 at `horizon` step hints.\n"
    )
    return {**ramps.sources(made, called), "README.md": readme}
