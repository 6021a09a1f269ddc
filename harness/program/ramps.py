"""Shorter ways in than a folder: a single file, or the dotted name of a function that makes an optimizer. Needs no jax.

    mine.py                                     its defaults and search space are DEFAULTS and SPACE in it
    optax.contrib.muon, package.module:make     its defaults come from its signature

Each becomes a folder of the cache, with submission.py and submission.yaml as any other, so that all that follows is the
same for it. A file is read and never imported here; the signature of a function is read by a confined process.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError, HarnessError, SubmissionError
from harness.machine.cache import cache_folder
from harness.program import confinement, discovery, store
from harness.program.child import Child
from harness.program.signature import Parameter, SignatureRequest
from harness.record import plain_data

DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+(:[A-Za-z_]\w*)?|[A-Za-z_]\w*:[A-Za-z_]\w*")
IN_A_FILE = ("DEFAULTS", "SPACE", "REQUIRES")
PLACEHOLDERS = {"learning_rate": 0.001, "weight_decay": 0.01}
"""Of parameters without a default: `harness check` takes them, and `harness run` asks for the user's own."""
SPACES: Mapping[str, dict[str, Any]] = {
    "learning_rate": {"min": 0.0001, "max": 0.1, "scaling": "log"},
    "weight_decay": {"min": 0.0001, "max": 1.0, "scaling": "log"},
}
SCHEDULES = ("constant", "linear", "cosine")  # the first is the default


def called(word: str) -> str:
    """Return the name that runs have of a submission that was typed so: mine.py and ./mine are `mine`."""
    function = DOTTED.fullmatch(word) and not word.endswith(".py")
    return word.replace(":", ".") if function else Path(word).name.removesuffix(".py")


def find(name: str) -> discovery.Folder:
    """Return the submission that a word on the command line names: a folder's name or path, a file (mine.py, or `mine`
    where no folder is called so and the file is here) or a function.

    Raises ConfigError for an unknown one, SubmissionError where a file or function is none.
    """
    here = Path(f"{name}.py")
    folder = "/" in name or name in discovery.find_all("submissions")
    if name.endswith(".py"):
        path = of_file(Path(name).expanduser())
    elif not folder and here.is_file():
        path = of_file(here)
    elif not folder and DOTTED.fullmatch(name):
        path = of_function(name)
    else:
        return discovery.find("submissions", name)
    return discovery.Folder("submissions", path.name, path)


def of_file(file: Path) -> Path:
    """Return the folder of a single file."""
    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file; `harness new NAME` writes a submission to start from")
    text = file.read_bytes()
    said = _literals(file, text)
    described = {
        "name": file.stem,
        "description": said.pop("__doc__", None) or f"the file {file.name}",
        "authors": ["not stated"],
        "licence": "not stated",
        "tuning": "external" if said.get("SPACE") else "self",
        "defaults": said.get("DEFAULTS", {}),
        **({"space": said["SPACE"]} if said.get("SPACE") else {}),
        **({"requires": list(said["REQUIRES"])} if said.get("REQUIRES") else {}),
    }
    return _written(
        file.stem,
        {"submission.py": text, "submission.yaml": _yaml(described).encode()},
        {discovery.ORIGIN: str(file).encode()},
    )


def _literals(file: Path, text: bytes) -> dict[str, Any]:
    """Return what a file says of itself: its docstring's first line, and the values of `IN_A_FILE`."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise SubmissionError(f"{file}:{getattr(error, 'lineno', '')}: {type(error).__name__}: {error}") from None
    found: dict[str, Any] = {}
    if doc := ast.get_docstring(tree):
        found["__doc__"] = doc.splitlines()[0]
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id in IN_A_FILE:
                try:
                    found[target.id] = ast.literal_eval(node.value)  # type: ignore[attr-defined]
                except (ValueError, TypeError):
                    raise SubmissionError(
                        f"{file}:{node.lineno}: {target.id} must be written out, since it is read without running the "
                        "file: DEFAULTS = {'learning_rate': 0.001}"
                    ) from None
    for name, kind in (("DEFAULTS", dict), ("SPACE", dict), ("REQUIRES", (list, tuple))):
        if name in found and not isinstance(found[name], kind):
            example = {"DEFAULTS": "{'learning_rate': 0.001}", "REQUIRES": "['some-package']"}.get(
                name, "{'learning_rate': {'min': 0.0001, 'max': 0.1, 'scaling': 'log'}}"
            )
            raise SubmissionError(f"{file}: expected {name} = {example}, got {found[name]!r}")
    return found


@dataclass(frozen=True)
class Factory:
    """A function that makes an optimizer, as its signature tells.

    Attributes:
      dotted: as it was typed.
      module, attribute: what to import, and what of it to call.
      summary: the first line of its docstring.
      parameters: those that a hyperparameter can be.
      requires: the distribution to ask for; empty where every submission has it.
      version: distribution and version, for people.
      schedules: whether it takes `learning_rate`, which may then follow a schedule.
    """

    dotted: str
    module: str
    attribute: str
    summary: str
    parameters: tuple[Parameter, ...]
    requires: str
    version: str

    @property
    def schedules(self) -> bool:
        return any(one.name == "learning_rate" for one in self.parameters)


def factory(name: str) -> Factory:
    """Return what a dotted name stands for. Raises ConfigError where there is none, or it makes no optimizer of
    numbers.
    """
    top = re.split("[.:]", name, maxsplit=1)[0]
    distribution = next(iter(metadata.packages_distributions().get(top, ())), None)
    if distribution is None:
        raise ConfigError(
            f"'{name}': no package '{top}' is installed; expected a submission's name, a path, or a function as in "
            "optax.contrib.muon or package.module:function"
        )
    own = re.sub(r"[-_.]+", "-", distribution).lower() in confinement.PACKAGES
    requires = () if own else (distribution,)
    key = store.key(what="signature", name=name, version=metadata.version(distribution))
    said = store.recall(key)
    if said is None:
        with tempfile.TemporaryDirectory() as folder:
            bounds = confinement.of_submission(Path(folder).resolve(), (), requires=requires)
            with Child("signature", name, bounds=bounds) as child:
                (said,) = child.ask(SignatureRequest(name), 1)
        if isinstance(said, HarnessError):
            raise SubmissionError(str(said))
        if said.get("error"):
            raise ConfigError(f"{name}: {said['error']}")
        store.remember(key, said)
    return Factory(
        name,
        str(said["module"]),
        str(said["attribute"]),
        str(said["summary"]),
        tuple(plain_data.read(Parameter, one, name, SubmissionError) for one in said["parameters"]),
        "" if own else distribution,
        f"{distribution} {metadata.version(distribution)}",
    )


def of_function(name: str) -> Path:
    """Return the folder of a function that makes an optimizer."""
    made = factory(name)
    called = name.replace(":", ".")
    return _written(
        called, {file: text.encode() for file, text in sources(made, called).items()}, {discovery.ORIGIN: name.encode()}
    )


def sources(made: Factory, called: str) -> dict[str, str]:
    """Return the texts of submission.py and submission.yaml of a submission `called` so."""
    required = [one.name for one in made.parameters if one.default is None]
    defaults = {
        one.name: PLACEHOLDERS.get(one.name, 0.1) if one.default is None else one.default for one in made.parameters
    }
    space = {
        name: ends
        for name, ends in SPACES.items()
        if isinstance(value := defaults.get(name), float) and ends["min"] <= value <= ends["max"]
    }
    if made.schedules:
        defaults |= {"schedule": SCHEDULES[0], "warmup_fraction": 0.05, "horizon": 1.0}
    described = {
        "name": called,
        "description": f"{made.dotted} ({made.version}) as it is: {made.summary}".rstrip(": "),
        "authors": [f"the authors of {made.version.split()[0]}"],
        "licence": f"that of {made.version.split()[0]}",
        "tuning": "external" if space else "self",
        "defaults": defaults,
        **({"required": required} if required else {}),
        **({"space": space} if space else {}),
        **({"requires": [made.requires]} if made.requires else {}),
    }
    schedule = _SCHEDULE if made.schedules else ""
    average = _AVERAGE if "schedule_free" in made.attribute and made.module.startswith("optax") else ""
    code = _SOURCE.format(
        dotted=made.dotted, version=made.version, module=made.module, attribute=made.attribute, schedule=schedule,
        names="\n".join(f'    "{one.name}",' for one in made.parameters),
        imports="\nfrom harness.optim import schedules" if schedule else "",
        adapter="\nfrom harness.optim.evaluation import evaluated_at" if average else "",
        made=average or "    return made\n",
    )  # fmt: skip
    return {"submission.py": code, "submission.yaml": _yaml(described)}


_SOURCE = '''"""{dotted} of {version}, called with hyperparameters that its signature names."""

import {module}
{imports}{adapter}

PARAMETERS = (
{names}
)


def build(task, hp):
    given = {{name: hp[name] for name in PARAMETERS}}
{schedule}    made = {module}.{attribute}(**given)
{made}'''
_SCHEDULE = """    shapes = {"linear": schedules.linear, "cosine": schedules.cosine}  # 0 at so many step hints
    if hp["schedule"] != "constant":
        steps = round(hp["horizon"] * task.step_hint)
        rate = schedules.scheduled(shapes[hp["schedule"]], given["learning_rate"], steps, hp["warmup_fraction"])
        given["learning_rate"] = rate
"""
_AVERAGE = """    batches = 10 if task.has_model_state else 0  # for running statistics at the average
    return evaluated_at(made, optax.contrib.schedule_free_eval_params, batches)  # it trains at y, and is measured at x
"""


def _written(name: str, files: Mapping[str, bytes], beside: Mapping[str, bytes]) -> Path:
    """Write a folder of the cache, once; return it. Its place follows from its contents."""
    key = store.key(**{file: store.sha256(text) for file, text in {**files, **beside}.items()})
    folder = cache_folder() / "ramps" / key / name
    if not folder.is_dir():
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent.parent, prefix=".new-"))
        try:
            (scratch / name).mkdir()
            for file, text in {**files, **beside}.items():
                (scratch / name / file).write_bytes(text)
            with suppress(OSError):  # another process was first
                scratch.rename(folder.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _yaml(described: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(described), sort_keys=False, allow_unicode=True, width=100)
