"""`harness curvature`: from records that keep what they evaluated to the largest eigenvalue of the Hessian there.

A process that imports no submission computes it (`harness.trial.curvature`), after the trials and on no clock. What
comes of a run lies beside its record, in `curvature.json`, and is not computed again.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from harness.errors import ConfigError, HarnessError, RunFolderError
from harness.machine import children, flags, hardware
from harness.machine.flags import Device
from harness.record import curvature, plain_data
from harness.record.curvature import Curvature
from harness.report.curvature import Measured
from harness.trial.curvature_messages import Answer, Case, Request
from harness.verify.examined import EVALUATED
from harness.verify.records import OnProblem, Record, opened


def measure(
    places: Sequence[Path],
    on_problem: OnProblem,
    on_run: Callable[[Measured], object],
    *,
    only: Sequence[str] = (),
    batches: int,
    products: int,
) -> list[Measured]:
    """Return what comes of each record at or below these places; `on_run` is called with each that was not measured
    before. `only` names a submission, a workload or both. Of a pack nothing is kept.

    Raises ConfigError where `only` leaves nothing, RunFolderError where no record keeps what it evaluated.
    """
    with opened(places, on_problem) as held:
        records = [
            record
            for found in held.values()
            for record in found
            if {*only} <= {record.trial.spec.submission, record.trial.spec.task}
        ]
        if not records and any(held.values()):
            told = f"--only {' --only '.join(only)}: no such record is there"
            raise ConfigError(f"{told}; name a submission, a workload or both")
        whys = [unfit(record) for record in records]
        if all(whys):
            first = f"{records[0].place}: {whys[0]}" if records else f"{places[0]}: no record can be read"
            raise RunFolderError(
                f"{first}; expected a run that keeps {EVALUATED}, as every trial does that has run to its end, found "
                f"none in {len(whys)}; train one with `harness run`, or pack with `harness publish --with-states`"
            )
        found = [recorded(record, why, batches, products) for record, why in zip(records, whys, strict=True)]
        lacking = [number for number, one in enumerate(found) if one.curvature is None and not one.why]
        for number, one in computed(records, lacking, batches, products):
            found[number] = one
            on_run(one)
        return found


def unfit(record: Record) -> str:
    """Return why a record cannot be measured; empty where it can."""
    result = record.trial.result
    if result is None or result.evaluated is None:
        return f"the trial is {record.trial.status}, and nothing was evaluated at its end"
    if not (record.trial.path / EVALUATED).is_file():
        return f"what was evaluated at its end ({EVALUATED}) is not kept beside it"
    return "" if record.info else "the workload is not here at the version of the record"


def recorded(record: Record, why: str, batches: int, products: int) -> Measured:
    """Return what lies beside a record, where it is of the same variables, sources and numbers."""
    held, home, result = None if why else curvature.read(record.trial.path), record.home, record.trial.result
    if held is not None:
        assert home is not None
        assert result is not None
        same = held.evaluated, held.workload_hash, held.batches, held.products
        held = held if same == (result.evaluated, home.source_hash, batches, products) else None
    return Measured(record.place, record.trial, held, why)


def computed(
    records: Sequence[Record], numbers: Sequence[int], batches: int, products: int
) -> Iterator[tuple[int, Measured]]:
    """Compute what is lacking; yield the number of each record, and what came of it."""
    places = {str(records[number].trial.path): number for number in numbers}
    on_gpu = any(records[number].trial.spec.device == "gpu" for number in numbers)
    there = on_gpu and bool(hardware.run("nvidia-smi", "-L"))
    tasks: dict[Device, dict[tuple[str, str | None], list[str]]] = {}
    for path, number in places.items():
        spec, home = records[number].trial.spec, records[number].home
        assert home is not None
        tasks.setdefault(spec.device if there else "cpu", {}).setdefault((str(home.path), spec.variant), []).append(
            path
        )
    for device, by_task in tasks.items():
        cases = tuple(Case(workload, variant, tuple(paths)) for (workload, variant), paths in by_task.items())
        for answer in answers(Request(device, batches, products, cases)):
            number = places[answer.folder]
            yield number, entered(records[number], answer, batches, products, device)


def entered(record: Record, answer: Answer, batches: int, products: int, device: Device) -> Measured:
    """Return what came of a record, and write it beside it. Raises OSError where it cannot be written."""
    home, result = record.home, record.trial.result
    assert home is not None
    assert result is not None
    why = answer.problem
    if not why and answer.evaluated != result.evaluated:
        why = f"{EVALUATED} is not what its result has the hash of"
    if not why and (answer.lambda_max is None or answer.error is None):
        why = "a product with the Hessian is not finite there"
    if why or answer.lambda_max is None or answer.error is None:
        return Measured(record.place, record.trial, None, why)
    found = Curvature(
        answer.lambda_max, answer.error, batches, answer.batch_size, products, answer.evaluated, home.source_hash,
        device, str(hardware.packages()["jax"]),
    )  # fmt: skip
    curvature.write(record.trial.path, found)
    return Measured(record.place, record.trial, found)


def answers(request: Request) -> Iterator[Answer]:
    """Yield what the process answers, as it comes. Raises HarnessError where it ends before its time."""
    variables = flags.environment(request.device, deterministic=True)
    # cuDNN's attention can be differentiated once and in reverse only.
    environment = children.environment() | variables | {"HARNESS_ATTENTION": "xla"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            children.command("harness.trial.curvature"), env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        ended = False
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(json.dumps(plain_data.to_plain(request)))
                process.stdin.close()
            for line in process.stdout:
                said = json.loads(line)
                ended = "end" in said
                if not ended:
                    yield plain_data.read(Answer, said, "answer of the curvature process")
        finally:
            if not ended:
                process.kill()
            code = process.wait()
            process.stdout.close()
        if not ended:
            log.seek(0)
            last = log.read().strip().splitlines()[-1:] or ["it printed nothing"]
            raise HarnessError(f"the process that computes curvature ended, exit code {code}: {last[0]}")
