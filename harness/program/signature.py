"""The signature of a function that makes an optimizer, told by a confined process that imports its package.

    python -m harness.program.signature < request

reads a `SignatureRequest` and answers with a JSON object: what to import and call, the first line of its docstring, and
those of its parameters that a hyperparameter can be; or why there are none.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from dataclasses import asdict, dataclass
from typing import Any

from harness.record.spec import Value


@dataclass(frozen=True)
class SignatureRequest:
    """The dotted name of a function: `package.module.function` or `package.module:function`."""

    name: str


@dataclass(frozen=True)
class Parameter:
    """A parameter that is a number, a text or a truth value; `default` is None where it has to be given."""

    name: str
    default: Value | None


def main() -> int:
    """Answer the request on standard input."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a package prints is no answer
    os.environ["JAX_PLATFORMS"] = "cpu"
    name = str(json.load(sys.stdin)["name"])
    try:
        answer = {"error": None, **told(name)}
    except Exception as error:  # noqa: BLE001 - whatever a package raises when it is imported
        answer = {
            "error": f"{type(error).__name__}: {error}" if not isinstance(error, LookupError) else str(error.args[0])
        }
    print(json.dumps(answer), file=answers, flush=True)
    return 0


def told(name: str) -> dict[str, Any]:
    """Return the answer. Raises LookupError saying why a name stands for no function that makes an optimizer."""
    module, attribute, found = resolved(name)
    if not callable(found):
        raise LookupError(  # noqa: TRY004 - told, not raised
            f"is {type(found).__name__}, expected a function that returns an optax transformation"
        )
    parameters = []
    for one in inspect.signature(found).parameters.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD):
            continue
        if one.default is one.empty:
            if (
                "float" not in str(one.annotation)
                and "ScalarOrSchedule" not in str(one.annotation)
                and one.name != "learning_rate"
            ):
                raise LookupError(
                    f"its parameter '{one.name}' has no default and is no number that a hyperparameter could be; "
                    "`harness new NAME` writes a submission whose build calls it"
                )
            parameters.append(Parameter(one.name, None))
        elif isinstance(one.default, bool | int | float | str):
            parameters.append(Parameter(one.name, one.default))
    summary = (inspect.getdoc(found) or "").strip().splitlines()[:1]
    return {
        "module": module,
        "attribute": attribute,
        "summary": (summary or [""])[0][:200],
        "parameters": [asdict(one) for one in parameters],
    }


def resolved(name: str) -> tuple[str, str, Any]:
    """Return (module, attribute, what it is) for a dotted name. Raises LookupError naming the nearest."""
    module, colon, attribute = name.partition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    found = importlib.import_module(module)
    if not hasattr(found, attribute):
        import difflib

        public = [known for known in dir(found) if not known.startswith("_")]
        near = difflib.get_close_matches(attribute, public, 3)
        raise LookupError(f"{module} has no '{attribute}'" + (f"; near are {', '.join(near)}" if near else ""))
    return module, attribute, getattr(found, attribute)


if __name__ == "__main__":
    sys.exit(main())
