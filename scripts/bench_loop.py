"""The harness's loop against a bare hand-written jitted loop of the same model, data and optimizer.

    python scripts/bench_loop.py [WORKLOAD ...] [--rounds N] [--processes N]

Both run in one process, in turn: the harness trains one chunk of 4% of the step hint (with everything it does for it:
keys, counting, metrics read and logged, finiteness, budget, control), then the bare loop trains as many. The ratio
of steps per second is the median over these turns, so a noisy machine hits both sides. The bare loop runs in two forms:
with a permutation made beforehand, and with the batches that the harness draws, so that what the runner costs can be
told from what another program costs. The yardstick and evaluation are on neither side. Evaluation has two columns,
both over the seconds that the step hint takes to train: the measurements of the validation slice on the way, and all
evaluation, which adds the full validation and test splits once at the end.

How fast a compiled program runs under XLA:CPU also depends on the process, by some 5%, the bare loop's as well as the
harness's. With several processes the columns are medians over them, and the ratios are followed by the lowest and the
highest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import optax

from harness.campaign.config import compose
from harness.errors import HarnessError
from harness.machine import hardware
from harness.machine.allocator import keep_memory
from harness.machine.flags import Device
from harness.program import discovery, processes
from harness.program.draws import draw_examples, take_batch
from harness.program.workload import Workload, WorkloadInfo, next_measurement
from harness.record import run_folder, spec
from harness.trial import loop
from harness.trial.clock import Ledger
from harness.trial.resume import Training
from harness.trial.setup import Setup

BENCH = Path(__file__).resolve().parent / "bench"
MAX_MEASURED = {"cpu": 0.20, "gpu": 0.05}  # measurements over training time: off the clock, but the user waits for them
SUBMISSION = discovery.find("submissions", str(BENCH / "interleaved"))


class BareLoop:
    """What a researcher would write by hand: one jitted, donated step per call, the device waited for at the end only.

    It takes its batches from a permutation made beforehand, or with `same_batches` draws the very batches that the
    harness draws, by the same function.
    """

    def __init__(self, workload: Workload, train: dict[str, jax.Array], *, same_batches: bool):
        optimizer = optax.adamw(1e-3)
        n, size = workload.info.num_train_examples, workload.info.batch_size

        def step(carry: Any, order: jax.Array, train: dict[str, jax.Array], i: jax.Array) -> tuple[Any, jax.Array]:
            params, opt_state, model_state, key = carry
            key, data_key, loss_key = jax.random.split(key, 3)
            if same_batches:
                batch = take_batch(workload.batch, train, *draw_examples(order, i * size, size, n))
            else:
                batch = workload.batch(train, jax.lax.dynamic_slice_in_dim(order, i * size, size), data_key)

            def mean_loss(params: Any) -> tuple[jax.Array, Any]:
                losses, new = workload.loss(params, model_state, batch, loss_key, True, **workload.loss_options)
                return losses.mean(), new

            (value, model_state), grads = jax.value_and_grad(mean_loss, has_aux=True)(params)
            updates, opt_state = optimizer.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state, model_state, key), value

        params, model_state = workload.init(jax.random.key(0))
        self._carry = (params, optimizer.init(params), model_state, jax.random.key(1))
        self._train, self._per_epoch, self._i = train, n // size, 0
        shuffled = jax.random.permutation(jax.random.key(2), n).astype(jnp.int32)
        self._order = jax.random.key(2) if same_batches else shuffled
        self._step = jax.jit(step, donate_argnums=0)

    def run(self, steps: int) -> float:
        """Train `steps` steps and return the seconds they took."""
        start = time.perf_counter()
        losses = []
        for _ in range(steps):
            self._carry, value = self._step(self._carry, self._order, self._train, self._i % self._per_epoch)
            losses.append(value)
            self._i += 1
        jax.block_until_ready((self._carry, losses))
        return time.perf_counter() - start


def bench(folder: discovery.Folder, rounds: int, variant: str | None = None) -> dict[str, Any]:
    """Return the row of one workload, or of a variant of it."""
    workload: Workload = discovery.load_workload(folder, variant)
    info = workload.info
    train = jax.device_put(dict(workload.splits().train))
    bare, same = (BareLoop(workload, train, same_batches=which) for which in (False, True))
    bare.run(5), same.run(5)
    ledger = Ledger()
    turns: list[tuple[float, float, float, int]] = []  # seconds of harness and of the two bare loops, steps
    measurements: list[float] = []  # seconds of each
    last = {"step": 0, "left": 0.0, "eval": 0.0, "yardstick": 0.0}

    def between(progress: Any) -> None:
        now, totals = time.perf_counter(), ledger.totals()
        evaluated, beside = totals["eval"].wall_s, totals["yardstick"].wall_s
        steps = progress.step - last["step"]
        if steps:
            own = now - last["left"] - (evaluated - last["eval"]) - (beside - last["yardstick"])
            turns.append((own, bare.run(int(steps)), same.run(int(steps)), int(steps)))
        if evaluated > last["eval"]:
            measurements.append(evaluated - last["eval"])
        last.update(step=progress.step, eval=evaluated, yardstick=beside, left=time.perf_counter())

    # control comes after the measurement
    max_steps = min(info.step_hint, max(rounds, 2) * info.step_hint // 25 + 1)
    device: Device = "gpu" if jax.default_backend() == "gpu" else "cpu"
    (found,) = processes.program_ids([wanted(folder, info, variant, device)])
    if isinstance(found, HarnessError):
        raise found
    trial = spec.TrialSpec(
        schema=spec.SCHEMA, workload=info.name, workload_version=0, workload_hash=folder.source_hash,
        metric=info.metric, mode=info.mode, target=None, step_hint=info.step_hint, batch_size=info.batch_size,
        budget_steps=100 * info.step_hint,
        reference_step_s=0.0, submission="interleaved", submission_hash=SUBMISSION.source_hash,
        hyperparameters={"learning_rate": 1e-3}, rules="bench", stop="horizon", clock="wall", score_compile=False,
        compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device=device,
        deterministic=False, max_steps=max_steps, variant=variant,
        workload_program=found.workload, program=found.programs[0],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        options = spec.Options(str(folder.path), str(SUBMISSION.path), checkpoint_s=1e9)
        path = run_folder.prepare(Path(scratch), trial, options)
        with run_folder.hold(path) as held:
            with mock.patch.object(loop, "control", handing_over(between)):
                result = loop.run_trial(trial, options, held, ledger, lambda: False)
        compile_s = next(e["compile_s"] for e in run_folder.read_events(path) if "compile_s" in e)
    harness_s, bare_s, _, steps = (sum(column) for column in zip(*turns, strict=True))
    horizon_s = harness_s / steps * info.step_hint
    measured_s = statistics.median(measurements) * _grid_points(info)
    full_s = result.ledger["eval"].wall_s - sum(measurements)
    return {
        "workload": info.name,
        "pairs": len(turns),
        "harness_ms": 1e3 * harness_s / steps,
        "bare_ms": 1e3 * bare_s / steps,
        "ratio": statistics.median(theirs / own for own, theirs, _, _ in turns),
        "same_ratio": statistics.median(theirs / own for own, _, theirs, _ in turns),
        "measured": measured_s / horizon_s,
        "evaluated": (measured_s + full_s) / horizon_s,
        "compile_s": sum(compile_s.values()),
    }


def wanted(folder: discovery.Folder, info: WorkloadInfo, variant: str | None, device: Device) -> processes.Wanted:
    """Return the program that is trained."""
    return processes.Wanted(
        folder, SUBMISSION, ({"learning_rate": 1e-3},), 100 * info.step_hint, variant=variant, platform=device
    )


def handing_over(between: Callable[[Any], None]) -> Callable[..., None]:
    """Return what stands in for the loop's `control`: where a control call is due, something else runs instead."""

    def control(setup: Setup, training: Training) -> None:
        host, spec = training.host, setup.spec
        if host.examples >= host.control_calls * spec.horizon * spec.batch_size // 25:
            host.control_calls += 1
            between(host)

    return control


def _grid_points(info: WorkloadInfo) -> int:
    step = count = 0
    while step < info.step_hint:
        step, count = next_measurement(info.step_hint, step, info.measurements), count + 1
    return count


def benched(name: str, rounds: int) -> dict[str, Any]:
    """Return the row of one workload, from a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), name, "--rounds", str(rounds), "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one row for those of several processes: the medians, and the ends of the ratios; the turns of all."""
    row = {k: v if isinstance(v, str) else statistics.median(r[k] for r in rows) for k, v in rows[0].items()}
    ends = {
        f"{name}_ends": (min(r[name] for r in rows), max(r[name] for r in rows)) for name in ("ratio", "same_ratio")
    }
    return row | ends | {"pairs": sum(r["pairs"] for r in rows)}


def _ratio(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_ends"]
    return f"{row[name]:.3f}" + (f" ({low:.3f} to {high:.3f})" if high > low else "")


def main() -> int:
    """Bench the workloads named, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "workloads", nargs="*", help="names or paths; default: those of the suites for this device, and the 2 ms MLP"
    )
    parser.add_argument("--rounds", type=int, default=25, help="pairs of chunks of 4%% of the step hint (default 25)")
    parser.add_argument("--processes", type=int, default=1, help="for each workload (default 1)")
    parser.add_argument("--json", action="store_true", help="print the row of one workload for programs")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(bench(discovery.find("workloads", args.workloads[0]), args.rounds)))
        return 0
    suites = ("gpu",) if jax.default_backend() == "gpu" else ("demo", "cpu")
    scored = [name for suite in suites for name in compose([f"suite={suite}"]).suite.workloads]
    names = args.workloads or [*dict.fromkeys(scored), str(BENCH / "mlp")]
    machine = hardware.machine()
    print(
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, "
        f"jax {jax.__version__}, {time.strftime('%F')}"
    )
    columns = (
        "workload",
        "bare ms/step",
        "harness ms/step",
        "ratio",
        "same batches",
        "turns",
        "measurements",
        "all evaluation",
        "compile s",
    )
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    past = []
    for name in names:
        row = together([benched(name, args.rounds) for _ in range(args.processes)])
        cells = [
            row["workload"],
            f"{row['bare_ms']:.2f}",
            f"{row['harness_ms']:.2f}",
            _ratio(row, "ratio"),
            _ratio(row, "same_ratio"),
        ]
        cells += [str(row["pairs"]), f"{row['measured']:.1%}", f"{row['evaluated']:.1%}", f"{row['compile_s']:.1f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        if row["measured"] > MAX_MEASURED[jax.default_backend()]:
            past.append(row["workload"])
    if past:
        print(f"measurements take more than their share of training time; a smaller slice mends it: {', '.join(past)}")
    return 1 if past else 0


if __name__ == "__main__":
    keep_memory()
    sys.exit(main())
