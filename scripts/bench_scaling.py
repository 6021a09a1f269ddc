"""How a submission's step is spread over several devices: operations, bytes and time of each, and whether it agrees.

    python scripts/bench_scaling.py                                           adamw and muon on lm_grammar
    python scripts/bench_scaling.py --every --workload shrunk_gpt --counts 8  every submission
    python scripts/bench_scaling.py muon --counts 1,2,4,8 --sharding fsdp

A CPU is made into as many devices as are asked for, which share its cores: its throughput says nothing of a real
machine and stands in brackets, its operations and bytes do. Everything follows from the step as a trial compiles it,
for each number of devices in turn.

`flops` are those of each device in a step, as a share of one device's that has the whole batch, by XLA's cost analysis:
1/N is the least; `evaluation` the same of the validation slice. `MB sent` is what each device sends in a step where
rings are used, from the compiled HLO (`bench/collectives.py`). `least` is what data parallelism cannot do without: an
all-reduce of the gradient, or as much to gather parameters and to scatter gradients. `whole` counts the matrices of
parameters and optimizer state that lie whole on each device; under `fsdp` they are named below the table. `repeated`
counts the products and decompositions that each device does whole, as one device does (`bench/repeated.py`): those of
single large matrices; they are named below the table too, the most frequent first. `losses` is
the largest relative difference from one device over 20 losses and the evaluation after them, `rounding` that of one
device from itself, started with parameters that are one rounding larger. Where `losses` is above 1e-4 and ten times
`rounding`, the script fails.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.machine import flags
from harness.machine.allocator import keep_memory
from harness.machine.devices import check_divisible

STEPS = 20  # that are compared
TOLERANCE = 1e-4
AMPLE = 10  # times what one rounding makes: for what amplifies it, as eigenvectors of nearly equal values do
TIMED_S = 1.0
NAMED = 8  # of the products that are repeated
HEAD = (
    "submission", "sharding", "devices", "flops", "evaluation", "MB sent", "least", "whole", "repeated", "examples/s",
    "losses", "rounding",
)  # fmt: skip


def main() -> int:
    """Measure and show a row for each submission, sharding and number of devices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("submissions", nargs="*", default=["adamw", "muon"], help="names (default: adamw muon)")
    parser.add_argument("--every", action="store_true", help="every submission that is found")
    parser.add_argument("--workload", default="lm_grammar", help="name (default: %(default)s)")
    parser.add_argument("--counts", default="1,2,4,8", help="numbers of devices (default: %(default)s)")
    parser.add_argument("--sharding", default="replicated,fsdp", help="of the state (default: both)")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=TIMED_S, help="of steps for the throughput; 0 for none")
    args = parser.parse_args()
    counts = [int(word) for word in args.counts.split(",") if word.isdigit() and int(word)]
    kinds = args.sharding.split(",")
    if len(counts) != len(args.counts.split(",")) or not set(kinds) <= {"replicated", "fsdp"}:
        raise ConfigError(f"--counts {args.counts} --sharding {args.sharding}: expected as in 1,2,4,8 replicated,fsdp")
    flags.apply(args.device, deterministic=True, devices=max(counts))
    from harness.program import discovery

    folder = discovery.find("workloads", args.workload)
    size = discovery.workload_info(folder).batch_size
    for count in counts:
        check_divisible([size], count, args.workload, ConfigError)
    found = discovery.find_all("submissions")
    names = list(found) if args.every else args.submissions
    bench = Bench(folder, args.device, args.seconds)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    far, notes = [], list[str]()
    for name in names:
        for row in bench.rows(discovery.find("submissions", name), counts, kinds):
            print(shown(name, row), flush=True)
            if row["sharding"] == "fsdp" and row["whole"]:
                notes.append(f"{name} over {row['devices']}: whole on each stay {', '.join(row['whole'])}")
            if row["repeated"]:
                named = ", ".join(f"{times} x {what}" for what, times in row["repeated"].most_common(NAMED))
                notes.append(f"{name} over {row['devices']} ({row['sharding']}): repeated on each are {named}")
            if not row["losses"] <= max(TOLERANCE, AMPLE * row["rounding"]):
                far.append(f"{name} over {row['devices']} ({row['sharding']})")
    if args.device == "cpu" and args.seconds and max(counts) > 1:
        notes.append(
            "examples/s in brackets: devices made of one CPU share its cores; no machine is as fast or as slow"
        )
    print("\n".join(notes))
    if far:
        print(f"error: expected the losses of one device within {TOLERANCE:g}: {', '.join(far)}", file=sys.stderr)
    return 1 if far else 0


def apart(one: list[float], other: list[float]) -> float:
    """Return the largest relative difference."""
    return max((abs(a - b) / abs(a) for a, b in zip(one, other, strict=True) if a != b), default=0.0)


def shown(name: str, row: dict[str, Any]) -> str:
    """Return a line of the table."""
    cells = [name, row["sharding"], str(row["devices"]), f"{row['flops']:.3f}", f"{row['evaluation']:.3f}"]
    cells += [f"{row['sent'] / 1e6:.3g}", f"{row['least'] / 1e6:.3g}", str(len(row["whole"]))]
    rate = f"{row['rate']:.0f}" if row["rate"] else "-"
    cells += [str(row["repeated"].total()), f"({rate})" if row["fake"] and row["rate"] else rate]
    cells += [f"{row['losses']:.0e}", f"{row['rounding']:.0e}"]
    return f"| {' | '.join(cells)} |"


class Bench:
    """A workload, and what its programs are compiled on."""

    def __init__(self, folder: Any, device: Any, seconds: float):
        from harness.machine import backend
        from harness.program import discovery, processes

        backend.configure_jax(device, compile_cache=True)
        self._folder, self._device, self._seconds = folder, device, seconds
        self._data = discovery.load_data(folder)
        self._splits = self._data.load()
        self._own = processes.workload_program(folder, platform=device)

    def rows(self, source: Any, counts: list[int], kinds: list[str]) -> list[dict[str, Any]]:
        """Return the rows of one submission."""
        from harness.program import processes, submission
        from harness.trial.mesh import layout_of

        point, info = submission.read_info(source).defaults, self._data.info
        (program,) = processes.submission_programs(
            self._folder, source, [point], info.budget_steps, platform=self._device
        )
        alone = self._run(program, point, None)
        held = {leaf.name: math.prod(leaf.shape) for leaf in program.manifest.contract.params}
        parameters = 4 * sum(held.values())
        found = []
        for kind in kinds:
            for count in counts:
                layout = layout_of(count, kind)  # type: ignore[arg-type]
                if layout is None and kind != kinds[0]:
                    continue
                spread = self._run(program, point, layout) if layout else alone
                found.append(
                    {
                        "sharding": kind if layout else "-",
                        "devices": count,
                        "flops": spread["flops"] / alone["flops"],
                        "evaluation": spread["evaluation"] / alone["evaluation"],
                        "sent": spread["sent"],
                        "least": 2 * parameters * (count - 1) / count,
                        "whole": spread["whole"],
                        "repeated": alone["work"] & spread["work"] if layout else Counter(),
                        "fake": layout is not None and self._device == "cpu",
                        "rate": spread["rate"],
                        "losses": apart(alone["values"], spread["values"]),
                        "rounding": apart(alone["values"], alone["rounded"]),
                    }
                )
        return found

    def _run(self, program: Any, point: Any, layout: Any) -> dict[str, Any]:
        """Compile for a layout, train, and return what is compared."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        from bench import collectives, repeated

        from harness.program import seeds
        from harness.program.draws import Keys
        from harness.trial.programs import Inputs, compile_programs
        from harness.trial.setup import put

        contract, size = program.manifest.contract, self._data.info.batch_size
        keys = Keys(*(seeds.stream(0, 0, 0, "warmup") for _ in Keys._fields))
        values = tuple(jnp.float32(point[name]) for name in contract.arguments)
        train, part = put((dict(self._splits.train), dict(self._splits.validation_slice)), layout)
        inputs = put(Inputs(keys, values), layout)
        made = compile_programs(
            self._data, self._own, program, train, part, platform=self._device, dispatch_steps=1, layout=layout
        )
        step = made.steps[size]

        def trained(state: Any) -> tuple[Any, list[float]]:
            losses = []
            for _ in range(STEPS):
                state, metrics = step(state, inputs, train)
                losses.append(float(np.asarray(metrics["loss"])[0]))
            variables = (state.params, state.model_state)
            if made.eval_variables is not None:
                variables = made.eval_variables(state, inputs, train)
            return state, [*losses, *map(float, jax.device_get(made.evaluate(*variables, part)).values())]

        rounded = []
        if layout is None:
            state = made.init(inputs)
            _, rounded = trained(state._replace(params=[leaf * np.float32(1 + 2**-23) for leaf in state.params]))
        state, found = trained(made.init(inputs))
        devices = layout.devices if layout else 1
        compiled: Any = made.evaluate
        text = step.compiled.as_text() or ""
        leaves = zip((*contract.params, *contract.opt_state), (*state.params, *state.opt_state), strict=True)
        whole = [leaf.name for leaf, array in leaves if array.ndim > 1 and array.sharding.is_fully_replicated]
        return {
            "values": found,
            "rounded": rounded,
            "flops": step.compiled.cost_analysis()["flops"],
            "evaluation": compiled.cost_analysis()["flops"],
            "sent": sum(collectives.bytes_sent(text, devices).values()),
            "work": repeated.work(text),
            "whole": whole,
            "rate": self._rate(step, state, inputs, train, size) if self._seconds else None,
        }

    def _rate(self, step: Any, state: Any, inputs: Any, train: Any, size: int) -> float:
        """Return examples per second, the order drawn beforehand."""
        import jax

        calls, order = 0, jax.block_until_ready(step.order(state, inputs))
        start = time.perf_counter()
        while time.perf_counter() - start < self._seconds and calls < 100:
            state, _ = step(state, inputs, train, order)
            jax.block_until_ready(state)
            calls += 1
        return size * calls / (time.perf_counter() - start)


if __name__ == "__main__":
    keep_memory()
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
