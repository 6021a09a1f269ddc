"""The subprocess of `harness verify`: looks at programs anew, and evaluates what trials left. It imports no submission.

`python -m harness.trial.examination < REQUEST`, a `Request` as JSON. It writes a JSON object a line: on what it runs
(`machine`), then for each `case` on its programs (`what`, `verdict`, `text`; `cost`, `flagged`), and on each `folder`
(`sha256`, `metrics`).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunFolderError, beneath
from harness.machine import flags
from harness.machine.lifetime import end_with_parent
from harness.program import discovery, store
from harness.program.manifest import Manifest
from harness.program.requests import DECLARED, DeriveRequest
from harness.record import plain_data
from harness.trial.examination_messages import Case, Request

SPLITS = ("validation_slice", "validation", "test")


def main() -> int:
    """Look at what is asked for on standard input."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    request = plain_data.read(Request, json.load(sys.stdin), "request")
    flags.apply(request.device, deterministic=request.deterministic)
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(request.device, compile_cache=True)
    print(json.dumps({"machine": backend.fingerprint()}), file=answers)
    for number, case in enumerate(request.cases):
        for answer in look(case):
            print(json.dumps({"case": number, **answer}), file=answers)
    print(json.dumps({"end": True}), file=answers)
    return 0


def look(case: Case) -> Iterator[dict[str, Any]]:
    """Yield the answers on one case."""
    from harness.trial.setup import cost_of

    programs: list[store.Program] = []
    for kind, folder in (("workload", case.own), ("submission", case.program)):
        try:
            programs.append(read(Path(folder)))
            problem, kept = "", programs[-1].manifest
            found = derived_anew(programs[-1], programs[0] if kind == "submission" else None)
            problem = difference(kept, found)
            verdict = "unchecked" if problem and _other_jax(kept) else "differs" if problem else "ok"
            problem += (
                f" (it was exported under jax {_jax(kept)}, and this is another)" if verdict == "unchecked" else ""
            )
        except (HarnessError, LookupError, TypeError, ValueError, RecursionError) as error:  # a program is anything
            verdict, problem = "differs", f"{type(error).__name__}: {error}"
        yield {"what": f"the {kind}'s program", "verdict": verdict, "text": problem}
        if verdict == "differs":
            return
    own, submission = programs
    yield {"cost": cost_of(own.manifest, submission.manifest), "flagged": submission.manifest.flagged}
    if case.workload is not None and case.folders:
        yield from evaluated_anew(case, own)


def read(folder: Path) -> store.Program:
    """Read a program of a folder, from wherever it is. Raises RunFolderError where it is not whole."""
    file = folder / store.MANIFEST
    try:
        manifest = plain_data.read(Manifest, json.loads(file.read_text()), str(file), RunFolderError)
        functions = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.mlir"))}
    except (OSError, ValueError) as error:
        raise beneath(error) or RunFolderError(f"{folder} cannot be read: {error}") from None
    return store.Program(manifest, functions)


def derived_anew(program: store.Program, own: store.Program | None) -> Manifest:
    """Return the manifest that follows from the functions of a program, by the process that saw no submission. Raises
    SubmissionError for what breaks a rule.
    """
    from harness.program.derive import derive

    held = program.manifest
    contract, sources = held.contract, dict(held.sources)
    declared = plain_data.to_plain(
        held.declared
        | {
            "leaves": {name: getattr(contract, name) for name in ("params", "model_state", "opt_state", "batch")},
            "metrics": contract.metrics,
            "batch_sizes": contract.batch_sizes,
            "candidates": contract.candidates,
            "recalibration_batches": contract.recalibration_batches,
            "arguments": contract.arguments,
            "control": bool(contract.control),
        }
    )
    if contract.control:
        sources["submission"] = contract.control
    with tempfile.TemporaryDirectory(prefix="harness-derive-") as folder:
        (Path(folder) / DECLARED).write_text(json.dumps(declared))
        for name, data in program.functions.items():
            (Path(folder) / f"{name}.mlir").write_bytes(data)
        return derive(
            Path(folder), own, DeriveRequest(folder, own.manifest.id if own else None, contract.platform, sources)
        )


def difference(kept: Manifest, found: Manifest) -> str:
    """Return in what a manifest is not the one found; empty where it is. What XLA counts is of its version."""
    if kept.id != found.id:
        return f"the id is {kept.id}, its content has {found.id}"
    for name in sorted(kept.functions.keys() | found.functions.keys()):
        one, other = ({**asdict(m.functions[name])} if name in m.functions else {} for m in (kept, found))
        for fact in ("flops", "bytes", "least"):  # programs of earlier versions lie in the store without, or with more
            if (fact != "least" and _other_jax(kept)) or not one.get(fact) or not other.get(fact):
                one[fact] = other.get(fact)
        if one != other:
            key = next(key for key in {**one, **other} if one.get(key) != other.get(key))
            return f"{key} of {name} is {one.get(key)!r} in the manifest, and {other.get(key)!r} in its StableHLO"
    if kept.contract != found.contract or kept.flagged != found.flagged:
        return f"contract or flags are not what its StableHLO says: flagged is {kept.flagged}, found {found.flagged}"
    return ""


def evaluated_anew(case: Case, own: store.Program) -> Iterator[dict[str, Any]]:
    """Yield the metrics of each folder's evaluated variables, by the workload's own program."""
    import jax

    from harness.trial import evaluated
    from harness.trial.programs import call_of

    assert case.workload is not None
    contract = own.manifest.contract
    compiled: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for folder in case.folders:
        answer: dict[str, Any] = {"folder": folder}
        try:
            if not arrays:
                path = Path(case.workload)
                splits = discovery.load_data(discovery.Folder("workloads", path.name, path), case.variant).load()
                arrays = {split: jax.device_put(dict(getattr(splits, split))) for split in SPLITS}
            variables = evaluated.load(Path(folder) / evaluated.FILE, contract)
            answer["sha256"] = evaluated.digest(contract, [*variables[0], *variables[1]])
            values = jax.device_put(variables)
            for split in SPLITS:
                if split not in compiled:
                    function = jax.jit(call_of(own, f"evaluate_{split}", case.way))
                    compiled[split] = function.lower(*values, arrays[split]).compile()
            found = {split: jax.device_get(compiled[split](*values, arrays[split])) for split in SPLITS}
            answer["metrics"] = plain_data.to_plain(
                {split: {name: float(value) for name, value in of.items()} for split, of in found.items()}
            )
        except HarnessError as error:
            answer["error"] = str(error)
        yield answer


def _jax(manifest: Manifest) -> str | None:
    return manifest.sources.get("versions", {}).get("jax")


def _other_jax(manifest: Manifest) -> bool:
    """Say whether a manifest names another jax. One that names none is held to what this jax says."""
    from harness.machine import hardware

    return _jax(manifest) not in (None, hardware.packages()["jax"])


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
