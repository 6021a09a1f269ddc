"""PyTorch's side of a benchmark: reads a number of steps a line, trains as many and prints their seconds as JSON.

As one would write it today: channels-last convolutions, scaled_dot_product_attention, fused AdamW, torch.compile where
it is asked for; on a GPU bf16 autocast, and the data on the device, drawn and augmented there. Needs torch and nothing
else (requirements-torch.txt).

The job is JSON in the first argument:
  family, spec: the model (workloads/families/spec.py);
  batch, examples: the shapes of a batch, and how many examples there are to train on;
  compile: whether to compile;
  start: a file with the harness's initial parameters and batches made beforehand. The losses of one step on each are
    printed, the model starts anew, and these batches are all that it sees. Without it the data are random numbers.
The line "ceiling SIZE" is answered by the FLOP/s of a product of two matrices of this size.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from itertools import cycle
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch_models import FAMILIES, Conv

from workloads.families import spec as specs

Batch = tuple[torch.Tensor, ...]
BATCH = {"GPT": ("inputs", "targets"), "ResNet": ("image", "label"), "MAE": ("image", "order")}


def drawing(job: Mapping[str, Any], spec: Any, device: str) -> Callable[[], Batch]:
    """Return what draws a batch from random data on the device, and augments it."""
    count, shapes = job["examples"], job["batch"]
    B = next(iter(shapes.values()))[0]

    def index() -> torch.Tensor:
        return torch.randint(0, count, (B,), device=device)

    if job["family"] == "GPT":
        T = shapes["inputs"][1]
        tokens = torch.randint(0, spec.vocabulary, (count, T + 1), dtype=torch.int32, device=device)

        def windows() -> Batch:
            drawn = tokens[index()].long()
            return drawn[:, :-1], drawn[:, 1:]

        return windows
    _, H, W, C = shapes["image"]
    if job["family"] == "MAE":
        pixels = torch.randint(0, 256, (count, H, W, C), dtype=torch.uint8, device=device)

        def masked() -> Batch:
            x = pixels[index()]
            x = torch.where(torch.rand(B, 1, 1, 1, device=device) < 0.5, x.flip(2), x)
            return (x.float() / 255 - 0.47) / 0.25, torch.rand(B, spec.patches, device=device).argsort(dim=1)

        return masked
    images = torch.randint(0, 256, (count, C, H, W), dtype=torch.uint8, device=device)
    labels = torch.randint(0, spec.classes, (count,), device=device)

    def labelled() -> Batch:
        drawn = index()
        padded = F.pad(images[drawn], (4, 4, 4, 4))
        rows = torch.randint(0, 9, (B, 1), device=device) + torch.arange(H, device=device)
        columns = torch.randint(0, 9, (B, 1), device=device) + torch.arange(W, device=device)
        x = padded[torch.arange(B, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        x = x.permute(0, 3, 1, 2)  # advanced indices put the channels last, which is how they lie
        x = torch.where(torch.rand(B, 1, 1, 1, device=device) < 0.5, x.flip(3), x)
        return (x.float() / 255 - 0.47) / 0.25, labels[drawn]

    return labelled


def held(start: Mapping[str, np.ndarray], family: str) -> list[Batch]:
    """Return the batches of the file; images for a ResNet as channels-last [B, C, H, W]."""

    def tensor(array: np.ndarray) -> torch.Tensor:
        x = torch.from_numpy(array)
        x = x if x.is_floating_point() else x.long()
        return x.permute(0, 3, 1, 2) if family == "ResNet" and x.ndim == 4 else x

    return list(zip(*(list(map(tensor, start[f"batch_{name}"])) for name in BATCH[family]), strict=True))


def load(model: torch.nn.Module, start: Mapping[str, np.ndarray]) -> None:
    """Give the model the parameters of the file, all of them, and none is left over."""
    arrays = {name: torch.from_numpy(array) for name, array in start.items() if not name.startswith("batch_")}
    missing, unexpected = model.load_state_dict(arrays, strict=False)
    parameters = dict(model.named_parameters())
    if unexpected or parameters.keys() & missing:
        raise ValueError(f"parameters that one side alone has: {sorted(unexpected + missing)}")


class Training:
    """A model, its optimizer, and where batches come from."""

    def __init__(self, job: Mapping[str, Any], device: str):
        spec = getattr(specs, job["family"])(**job["spec"])
        self.model = FAMILIES[job["family"]](spec).to(device)
        if job["family"] == "ResNet":
            self.model.to(memory_format=torch.channels_last)

        def forward(*batch: torch.Tensor) -> torch.Tensor:
            with torch.autocast(device, torch.bfloat16, enabled=spec.dtype == "bfloat16"):
                return self.model(*batch)

        self.forward = torch.compile(forward) if job["compile"] else forward
        if job["start"]:
            start = dict(np.load(job["start"]))
            batches = held(start, job["family"])
            Conv.as_xla = True
            self.begin(start)
            self.losses = [float(self.step(batch)) for batch in batches]
            Conv.as_xla = False
            self.begin(start)
            self.draw = cycle(batches).__next__
        else:
            self.losses = []
            self.begin({})
            draw = drawing(job, spec, device)
            self.draw = torch.compile(draw) if job["compile"] else draw

    def begin(self, start: Mapping[str, np.ndarray]) -> None:
        """Start anew, from these parameters where there are any."""
        if start:
            load(self.model, start)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

    def step(self, batch: Batch) -> torch.Tensor:
        """Train on a batch and return its loss."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.forward(*batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def ceiling(size: int) -> float:
    """Return the FLOP/s of a product of two size x size matrices of random numbers in float32, the median of some."""
    a, b = torch.randn(2, size, size)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - start)
    return 2.0 * size**3 / sorted(times)[2]


def main(job: Mapping[str, Any]) -> int:
    """Train as many steps as each line of the input says."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    else:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
    training = Training(job, device)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    parameters = sum(p.numel() for p in training.model.parameters())
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "parameters": parameters}
    print(json.dumps(facts | {"losses": training.losses}), flush=True)
    for line in sys.stdin:
        if line.startswith("ceiling"):
            print(json.dumps({"flops": ceiling(int(line.split()[1]))}), flush=True)
            continue
        wait()
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = training.step(training.draw())
        wait()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": float(loss)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
