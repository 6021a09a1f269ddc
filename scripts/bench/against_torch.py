"""Row (c): the same model, batch and AdamW in PyTorch, in a process of its own, in turn with the harness's step.

Torch may be of another environment than jax: `--torch-python` of bench_gpu.py names its interpreter.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import jax

from harness.program import discovery

from .steps import HarnessSteps

SIDE = Path(__file__).with_name("torch_side.py")


class TorchSteps:
    """The process that trains with torch."""

    def __init__(self, python: str, name: str, *, small: bool):
        command = [python, str(SIDE), name, *(["--small"] if small else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._read()

    def run(self, steps: int) -> float:
        """Train so many steps and return seconds per step."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return float(self._read()["seconds"]) / steps

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"torch's side ended with exit code {self._process.wait()}; see its output above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def row(folder: discovery.Folder, variant: str | None, python: str, *, seconds: float) -> dict[str, Any]:
    """Return both sides' milliseconds per step, medians over turns, and how many times as fast the harness is."""
    workload = discovery.load_workload(folder, variant)
    train = jax.device_put(dict(workload.splits().train))
    own = HarnessSteps(workload, train, 1)
    theirs = TorchSteps(python, folder.name, small=variant is not None)
    params = sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(workload.init, jax.random.key(0))[0]))
    try:
        if theirs.facts["parameters"] != params:
            raise RuntimeError(f"torch's model has {theirs.facts['parameters']} parameters, the harness's {params}")
        theirs.run(3)  # torch.compile takes the first
        turns, each = 5, max(1, round(seconds / 10 / max(own.run(1), theirs.run(1))))
        pairs = [(own.run(each), theirs.run(each)) for _ in range(turns)]
    finally:
        theirs.close()
    return {
        "harness_ms": 1e3 * statistics.median(pair[0] for pair in pairs),
        "torch_ms": 1e3 * statistics.median(pair[1] for pair in pairs),
        "times_as_fast": statistics.median(other / one for one, other in pairs),
        "parameters": params,
        "torch": theirs.facts["torch"],
    }
