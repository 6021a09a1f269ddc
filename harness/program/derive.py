"""The deriver: a process that saw no submission looks at exported StableHLO, and says what it is.

    python -m harness.program.derive < requests

reads a JSON list of `DeriveRequest`s and answers with a JSON object a line, in order: `{"id": ..., "error": null}`
where the folder now holds a finished `manifest.json`, else why its functions break the rules. The exporter's word is
taken for names alone: shapes, constants, custom calls, costs and the identity come from the files.

A limit to know: what a step computes is not compared with what the loss is. A submission that patched the loss to do
less work is flagged, one that patched it to do as much is not seen here; it trains by another loss, to its own loss.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, SubmissionError, of_machine
from harness.machine.flags import Device
from harness.machine.lifetime import end_with_parent
from harness.program import limits, operations, store
from harness.program.identity import identity
from harness.program.limits import CUDNN, batch_size
from harness.program.manifest import (
    MAX_ERROR,
    MAX_PROGRAM_BYTES,
    MAX_RECALIBRATION_BATCHES,
    Contract,
    Facts,
    Leaf,
    Manifest,
)
from harness.program.requests import DeriveRequest, read_declared
from harness.record import plain_data
from harness.record.files import write_atomic


def main() -> int:
    """Look at the folders of the requests on standard input."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.environ["JAX_PLATFORMS"] = "cpu"
    from jax import export  # noqa: F401 - now, while the caller goes on

    requests = plain_data.read(Requests, {"requests": json.load(sys.stdin)}, "requests").requests
    for request in requests:
        answer: dict[str, str | None] = {"id": None, "error": None}
        try:
            answer["id"] = derive(Path(request.folder), workload_of(request), request).id
        except HarnessError as error:
            answer["error"] = str(error)[:MAX_ERROR]
        except OSError as error:  # a full disk, say
            answer["error"] = str(of_machine(error))[:MAX_ERROR]
        except (LookupError, TypeError, ValueError, RecursionError) as error:  # what is declared is anything
            told = f"{type(error).__name__}: {error}"[:MAX_ERROR]
            answer["error"] = f"what the exporter declares or wrote is no program's: {told}"
        print(json.dumps(answer), file=answers, flush=True)
    return 0


@dataclass(frozen=True)
class Requests:
    """What comes in."""

    requests: tuple[DeriveRequest, ...]


def workload_of(request: DeriveRequest) -> store.Program | None:
    """Return the workload's own program; None where the request is about one."""
    own = None if request.workload is None else store.read(request.workload)
    if own is None and request.workload is not None:
        raise HarnessError(f"the workload's program {request.workload} is gone from {store.root()}; try again")
    return own


def derive(folder: Path, workload: store.Program | None, request: DeriveRequest) -> Manifest:
    """Return the manifest of an exported folder, and write it there. Raises SubmissionError for what breaks a rule."""
    declared = read_declared(folder)
    found = sorted(path for path in folder.glob("*.mlir") if path.is_file())
    total = sum(path.stat().st_size for path in found)
    if workload is not None and total > MAX_PROGRAM_BYTES:
        raise SubmissionError(f"the program takes {total} bytes, and a submission's has at most {MAX_PROGRAM_BYTES}")
    files = {path.name.removesuffix(".mlir"): path.read_bytes() for path in found}
    functions = {name: Function(name, data) for name, data in files.items()}
    ways = {name.removesuffix(CUDNN): function for name, function in functions.items() if name.endswith(CUDNN)}
    plain = {name: function for name, function in functions.items() if not name.endswith(CUDNN)}
    facts = {name: function.facts() for name, function in functions.items()}
    source = str(request.sources.get("submission", ""))
    if workload is None:
        contract = _workload_contract(declared, request.platform)
    else:
        contract = _submission_contract(plain, declared, workload.manifest.contract, source)
        if ways:
            _submission_contract(ways, declared, workload.manifest.contract, source)
        own = Function("yardstick_step", workload.functions["yardstick_step"])
        for way in filter(None, (plain, ways)):
            limits.check({f.name: facts[f.name] for f in way.values()}, contract, workload.manifest)
            limits.check_structure([f.text for f in way.values()], own.text)
    manifest = Manifest(
        id=identity(contract, {name: function.text for name, function in functions.items()}),
        contract=contract,
        functions=facts,
        flagged=(*limits.flags(facts, workload.manifest), *limits.of_averages(facts, contract)) if workload else (),
        declared={
            name: value
            for name, value in declared.items()
            if name in ("cost", "export_s", "settle_s", "constants", "choices", "cudnn")
        },
        sources=request.sources,
    )
    for file in folder.glob("declared*.json"):
        file.unlink()
    write_atomic(folder / store.MANIFEST, plain_data.to_plain(manifest))
    return manifest


class Function:
    """One exported function, as its bytes tell."""

    def __init__(self, name: str, data: bytes):
        from jax import export

        self.name, self.data = name, data
        try:
            self.exported = export.deserialize(bytearray(data))
        except Exception as error:  # noqa: BLE001 - whatever the bytes do to the reader
            raise SubmissionError(f"{name} is no exported function: {type(error).__name__}: {error}") from None

    @functools.cached_property
    def text(self) -> str:
        """Its StableHLO."""
        return str(self.exported.mlir_module())

    @property
    def inputs(self) -> list[Any]:
        """Shapes of what it takes, flat."""
        return list(self.exported.in_avals)

    @property
    def outputs(self) -> list[Any]:
        """Shapes of what it returns, flat."""
        return list(self.exported.out_avals)

    def facts(self) -> Facts:
        """Return what can be counted."""
        counted = operations.count(self.text)
        cost = self._cost() if "step" in self.name else {}
        return Facts(
            sha256=store.sha256(self.data),
            program_bytes=len(self.data),
            flops=cost.get("flops"),
            bytes=cost.get("bytes accessed"),
            products=counted.products,
            least=counted.least,
            exact=counted.exact,
            constant_bytes=counted.constant_bytes,
            custom_calls=tuple(sorted(counted.custom_calls)),
        )

    def _cost(self) -> dict[str, float]:
        """Return what XLA says, which takes as long as all else that is looked at here."""
        import jax

        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in self.inputs]
        arguments, keywords = jax.tree.unflatten(self.exported.in_tree, shapes)
        traced = jax.jit(self.exported.call).trace(*arguments, **keywords)
        return traced.lower(lowering_platforms=self.exported.platforms).cost_analysis() or {}


def _workload_contract(declared: dict[str, Any], platform: Device) -> Contract:
    named = {name: _leaves(leaves) for name, leaves in declared["leaves"].items()}
    return Contract(
        kind="workload",
        platform=platform,
        params=named["params"],
        model_state=named["model_state"],
        opt_state=named["opt_state"],
        batch=named["batch"],
    )


def _submission_contract(
    functions: dict[str, Function], declared: dict[str, Any], workload: Contract, source: str
) -> Contract:
    """Check what every function takes and returns against the workload's own program, and return the contract."""
    opt_state = _leaves(declared["leaves"]["opt_state"])
    state = (*workload.params, *opt_state, *workload.model_state)
    sizes = tuple(map(int, declared["batch_sizes"]))
    candidates, recalibration = int(declared["candidates"]), int(declared["recalibration_batches"])
    metrics = tuple(sorted(map(str, declared["metrics"])))
    if not 0 <= recalibration <= MAX_RECALIBRATION_BATCHES or candidates < 1 or min(sizes, default=1) < 1:
        raise SubmissionError(
            f"recalibration_batches is {recalibration}, candidates {candidates}, batch_sizes {sizes}; expected are 0 "
            f"to {MAX_RECALIBRATION_BATCHES}, and at least 1 of the others"
        )
    names = [*(leaf.name for leaf in state), "step", "examples"]  # by which a checkpoint holds them
    if len(set(names)) < len(names):
        raise SubmissionError("two arrays of the state have one name, or one is called step or examples")
    expected = {"init_opt", *(f"step_{size}" for size in sizes)}
    if not sizes or batch_size(workload) not in sizes or set(functions) - {"eval_variables"} != expected:
        raise SubmissionError(f"the program has the functions {sorted(functions)}, expected are {sorted(expected)}")
    key, count = Leaf("key", (2,), "uint32"), Leaf("count", (), "int32")
    arguments = tuple(map(str, declared["arguments"]))
    values = [Leaf(name, (), "float32") for name in arguments]
    _same(functions["init_opt"], "takes", [*workload.params, key, *values])
    _same(functions["init_opt"], "returns", opt_state)
    for size in sizes:
        step = functions[f"step_{size}"]
        batch = [replace(leaf, shape=(size * candidates, *leaf.shape[1:])) for leaf in workload.batch]
        _same(step, "takes", [*state, count, count, *batch, key, *values])
        _same(step, "returns", [*state, *(Leaf(name, (), "float32") for name in metrics)])
    if "eval_variables" in functions:
        function = functions["eval_variables"]
        batches = [replace(leaf, shape=(recalibration, *leaf.shape)) for leaf in workload.batch if recalibration]
        _same(function, "takes", [*state, count, count, *batches, key, *values])
        _same(function, "returns", [*workload.params, *workload.model_state])
    return Contract(
        kind="submission",
        platform=workload.platform,
        params=workload.params,
        model_state=workload.model_state,
        opt_state=opt_state,
        batch=workload.batch,
        metrics=metrics,
        batch_sizes=sizes,
        candidates=candidates,
        recalibration_batches=recalibration,
        control=source if declared["control"] else "",
        arguments=arguments,
    )


def _same(function: Function, what: str, expected: Sequence[Leaf]) -> None:
    avals = function.inputs if what == "takes" else function.outputs
    if len(avals) != len(expected):
        raise SubmissionError(f"{function.name} {what} {len(avals)} arrays, expected are {len(expected)}")
    for aval, leaf in zip(avals, expected, strict=True):
        if (tuple(aval.shape), str(aval.dtype)) != (leaf.shape, leaf.dtype):
            raise SubmissionError(
                f"{function.name} {what} {aval.dtype}{list(aval.shape)} for {leaf.name}, expected is "
                f"{leaf.dtype}{list(leaf.shape)}"
            )


def _leaves(plain: Iterable[Any]) -> tuple[Leaf, ...]:
    return tuple(plain_data.read(Leaf, leaf, "declared.json") for leaf in plain)


if __name__ == "__main__":
    sys.exit(main())
