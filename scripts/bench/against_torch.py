"""PyTorch in a process of its own, in turn with the harness's step: the same model, batch size and AdamW.

Torch may be of another environment than jax, whose interpreter `--torch-python` names.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import statistics
import subprocess
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.errors import ConfigError
from harness.program import discovery
from harness.program.draws import take_batch
from harness.program.workload import Workload

from .steps import HarnessSteps

SIDE = Path(__file__).with_name("torch_side.py")
ROOT = SIDE.parents[2]


def need_torch(python: str) -> None:
    """Raise ConfigError, with the commands that help, where this interpreter has no torch."""
    try:
        done = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False)
        problem = done.stderr.strip().splitlines()[-1] if done.returncode else None
    except OSError as error:
        problem = str(error)
    if problem:
        raise ConfigError(
            f"{python} has no torch ({problem}). It can have an environment of its own:\n"
            "  python -m venv torch-env\n"
            "  torch-env/bin/pip install -r scripts/requirements-torch.txt\n"
            "and then --torch-python torch-env/bin/python"
        )


class TorchSteps:
    """The process that trains with torch, idle while it is not asked.

    GNU's OpenMP has its threads look for work some milliseconds longer; without that (OMP_WAIT_POLICY) torch is slower.
    """

    def __init__(self, python: str, job: dict[str, Any]):
        self._process = subprocess.Popen(
            [python, str(SIDE), json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        self.facts = self._read()

    def run(self, steps: int) -> float:
        """Train so many steps and return seconds per step."""
        return float(self._asked(str(steps))["seconds"]) / steps

    def ceiling(self, size: int) -> float:
        """Return the FLOP/s of a product of two size x size matrices in float32."""
        return float(self._asked(f"ceiling {size}")["flops"])

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _asked(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"torch's side ended with exit code {self._process.wait()}; see its output above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def model_of(folder: discovery.Folder, variant: str | None = None) -> Any:
    """Return the specification of the workload's model, or of its small form."""
    return getattr(discovery.load(folder), "MODEL" if variant is None else "SMALL_MODEL")


def job(folder: discovery.Folder, variant: str | None = None, **more: Any) -> dict[str, Any]:
    """Return what torch's side is told (torch_side.py)."""
    data, spec = discovery.load_data(folder, variant), model_of(folder, variant)
    train = {name: jax.ShapeDtypeStruct(*shaped) for name, shaped in data.shapes["train"].items()}
    batch = jax.eval_shape(data.batch, train, jnp.arange(data.info.batch_size), jax.random.key(0))
    return {
        "family": type(spec).__name__,
        "spec": dataclasses.asdict(spec),
        "batch": {name: array.shape for name, array in batch.items()},
        "examples": data.info.num_train_examples,
        "compile": variant is None,  # the small forms are there to try the code out: it would take minutes
        "start": None,
    } | more


def parameters(workload: Workload) -> int:
    """Return how many numbers are trained."""
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(workload.init, jax.random.key(0))[0]))


def same_size(workload: Workload, theirs: TorchSteps) -> None:
    """Raise RuntimeError where torch's model has another number of parameters."""
    if theirs.facts["parameters"] != (own := parameters(workload)):
        raise RuntimeError(f"torch's model has {theirs.facts['parameters']} parameters, the harness's {own}")


def carried(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Return a parameter of the harness by the name and with the axes it has in torch.

    A kernel (D, ...) is a weight (..., D) in one matrix, one of a convolution (H, W, C, D) is (D, C, H, W).
    """
    *path, last = re.findall(r"\w+", name.removeprefix("params"))
    if last == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.reshape(len(array), -1).T
    return ".".join([*path, "bias" if last == "bias" else "weight"]), np.ascontiguousarray(array)


def beginning(own: HarnessSteps, workload: Workload, spec: Any, train: Any, count: int) -> tuple[Any, list[float]]:
    """Return the arrays that torch's side starts with (the initial parameters, and the first `count` batches) and the
    losses of the harness's first steps, which are on these batches.
    """
    state = own.begin()
    arrays = dict(carried(leaf.name, np.array(x)) for leaf, x in zip(own.contract.params, state.params, strict=True))
    order, losses, batches = own.step.order(state, own.inputs), [], []
    for number in range(count):
        draw = jax.tree.map(lambda x, number=number: x[number, 0], order.draws)
        batch = take_batch(workload.batch, train, draw.examples, draw.batch_key)
        if type(spec).__name__ == "MAE":
            from workloads.families import mae

            batch["order"] = mae.drawn_orders(draw.key, len(batch["image"]), spec)
        batches.append(batch)
        state, metrics = own.step(state, own.inputs, train, order)
        losses.append(float(metrics["loss"][0]))
    arrays |= {f"batch_{name}": np.stack([batch[name] for batch in batches]) for name in batches[0]}
    if type(spec).__name__ == "MAE":
        tables = {"encoder_table": spec.width, "decoder_table": spec.decoder_width}
        arrays |= {name: mae.sine_cosine(spec.size // spec.patch, width) for name, width in tables.items()}
    return arrays, losses


def row(folder: discovery.Folder, variant: str | None, python: str, *, seconds: float) -> dict[str, Any]:
    """Return row (c): both sides' milliseconds a step, medians of turns, and how many times as fast the harness is."""
    workload = discovery.load_workload(folder, variant)
    train = jax.device_put(dict(workload.splits().train))
    own = HarnessSteps(folder, variant, train, 1)
    theirs = TorchSteps(python, job(folder, variant))
    try:
        same_size(workload, theirs)
        theirs.run(3)  # torch.compile takes the first
        turns, each = 5, max(1, round(seconds / 10 / max(own.run(1), theirs.run(1))))
        pairs = [(own.run(each), theirs.run(each)) for _ in range(turns)]
    finally:
        theirs.close()
    return {
        "harness_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
        "torch_ms": 1e3 * statistics.median(pair[1] for pair in pairs),
        "times_as_fast": statistics.median(other / one for one, other in pairs),
        "parameters": parameters(workload),
        "torch": theirs.facts["torch"],
    }
