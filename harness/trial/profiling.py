"""Where a step's time goes: what XLA's profiler sees of some steps of a trial's program.

    python -m harness.trial.profiling RUN_FOLDER

trains from fresh parameters, in a process of its own and on no clock, so that a trial with a trace is the same as one
without. It writes the trace into `RUN_FOLDER/profile`, for xprof and TensorBoard, and prints one JSON line: `Profile`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.machine import flags
from harness.machine.allocator import keep_memory
from harness.record import run_folder
from harness.record.spec import Options, TrialSpec
from harness.trial import priming

FOLDER = "profile"
STEPS = 20
WARM_UP_CALLS = 3
DEAREST = 10
_CONTAINERS = ("while", "conditional", "call")  # their time is that of the operations within


@dataclass(frozen=True)
class Operation:
    """One operation of the compiled step.

    Attributes:
      name, kind: as XLA has them: `fusion.12`, `fusion`.
      source: where it comes from, as jax names it: `jit(step)/jvp(...)/dot_general`; empty where XLA tells none.
      count: how often it ran.
      seconds: all of them together.
      share: of the seconds of all operations, which may run side by side.
    """

    name: str
    kind: str
    source: str
    count: int
    seconds: float
    share: float


@dataclass(frozen=True)
class Profile:
    """What some steps were made of: their number, their wall seconds under the profiler, the dearest operations first,
    and the file of the trace.
    """

    steps: int
    wall_s: float
    operations: tuple[Operation, ...]
    trace: str


def main(argv: list[str]) -> int:
    """Trace the program of the run folder argv[0]."""
    path = Path(argv[0])
    spec, options = run_folder.read_spec(path)
    flags.apply(spec.device, deterministic=spec.deterministic)
    priming.prime(spec, path)
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(spec.device, compile_cache=True)
    try:
        print(json.dumps(asdict(trace(spec, options, path / FOLDER))))
    except HarnessError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def trace(spec: TrialSpec, options: Options, folder: Path) -> Profile:
    """Train for `STEPS` steps under the profiler after some to warm up. Raises SubmissionError where a program is
    missing.
    """
    import jax
    import jax.numpy as jnp

    from harness.program import discovery
    from harness.program.draws import Keys
    from harness.trial import feeding
    from harness.trial.programs import Inputs, call_of, compile_step, init_function, shapes_of
    from harness.trial.setup import check_sources, program_of, stream_of
    from harness.trial.ways import choose_way

    own, submission = program_of(spec, "workload"), program_of(spec, "submission")
    home = discovery.Folder("workloads", spec.workload, Path(options.workload_path))
    check_sources(spec, home)
    data = discovery.load_data(home, spec.variant)
    contract, dispatch = submission.manifest.contract, data.info.dispatch_steps.get(spec.device, 1)
    data, feed = feeding.feed(data, data.load(), contract, dispatch)
    train = feed.train
    keys = Keys(*(stream_of(spec, name) for name in ("init", "data", "algorithm", "evaluation")))
    inputs = Inputs(keys, tuple(jnp.float32(spec.hyperparameters[name]) for name in contract.arguments))
    way, _ = choose_way(own, submission, data, train, keys, platform=spec.device)
    size = spec.batch_size if spec.batch_size in contract.batch_sizes else contract.batch_sizes[0]
    function = call_of(submission, f"step_{size}", way)
    step = compile_step(function, data, contract, size, dispatch, shapes_of(contract), inputs, train)
    state = jax.jit(init_function(own, submission, way))(inputs)
    for _ in range(WARM_UP_CALLS):
        state, _ = step(state, inputs, train)
    order = jax.block_until_ready(step.order(state, inputs))

    calls = -(-STEPS // dispatch)
    how = jax.profiler.ProfileOptions()
    how.python_tracer_level = 0  # the host only hands steps over, and tracing it slows it
    with jax.profiler.trace(folder, profiler_options=how):
        began = time.perf_counter()
        for _ in range(calls):
            state, _ = step(state, inputs, train, order)
        jax.block_until_ready(state)
        wall_s = time.perf_counter() - began
    newest = max(folder.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime)
    dearest = operations(jax.profiler.ProfileData.from_file(str(newest)), step.compiled.as_text() or "")
    return Profile(calls * dispatch, wall_s, tuple(dearest[:DEAREST]), str(newest))


def operations(data: Any, hlo: str) -> list[Operation]:
    """Return what a trace (`jax.profiler.ProfileData`) tells of a compiled program's operations, the dearest first.
    `hlo` is the program's text.
    """
    known = _known(hlo)
    spent: dict[str, list[float]] = {}
    for name, seconds in _events(data):
        if known.get(name, ("", ""))[0] not in _CONTAINERS:
            spent.setdefault(name, []).append(seconds)
    total = sum(map(sum, spent.values()))
    found = [
        Operation(name, *known.get(name, ("kernel", "")), len(each), sum(each), sum(each) / total if total else 0.0)
        for name, each in spent.items()
    ]
    return sorted(found, key=lambda one: (-one.seconds, one.name))


def _known(hlo: str) -> dict[str, tuple[str, str]]:
    """Return kind and source of each operation, by name."""
    found = {}
    for line in hlo.splitlines():
        if match := re.match(r"\s*(?:ROOT )?%?([\w.-]+) = .*? ([a-z][\w-]*)\(", line):
            source = re.search(r'op_name="(?:jit\(call\)/)?(?:call_exported/)?([^"]*)"', line)
            found[match[1]] = match[2], source[1] if source else ""
    return found


def _events(data: Any) -> Iterator[tuple[str, float]]:
    """Yield name and seconds of each operation that ran: those of the card where there is one, else of the host."""
    planes = list(data.planes)
    cards = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in cards or planes:
        for line in plane.lines:
            for event in line.events:
                name = dict(event.stats).get("hlo_op") or (event.name if cards and "Stream" in line.name else None)
                if name is not None:
                    yield str(name), event.duration_ns / 1e9


if __name__ == "__main__":
    keep_memory()
    sys.exit(main(sys.argv[1:]))
