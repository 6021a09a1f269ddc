"""PyTorch's side of row (c): reads numbers of steps, a line each, trains as many and prints their seconds as JSON.

As one would write it today: torch.compile, bf16 autocast, channels-last convolutions, scaled_dot_product_attention,
fused AdamW; the data on the device, drawn and augmented there. Needs torch and nothing else (requirements-torch.txt).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch_models import GPT, MAE, ResNet


def lm_books(small: bool, device: str) -> tuple[torch.nn.Module, Callable[[], tuple[torch.Tensor, ...]]]:
    B, T = (8, 64) if small else (128, 512)
    model = GPT(8192, 2, 64, 2) if small else GPT(8192, 8, 512, 4)
    tokens = torch.randint(0, 8192, (59_887, T + 1), dtype=torch.int32, device=device)

    def batch() -> tuple[torch.Tensor, ...]:
        return (tokens[torch.randint(0, len(tokens), (B,), device=device)].long(),)

    return model, batch


def resnet18_cifar10(small: bool, device: str) -> tuple[torch.nn.Module, Callable[[], tuple[torch.Tensor, ...]]]:
    B, size = (32, 16) if small else (512, 32)
    model = (ResNet((8, 16), 1) if small else ResNet((64, 128, 256, 512), 2)).to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (40_000, 3, size, size), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (40_000,), device=device)

    def batch() -> tuple[torch.Tensor, ...]:
        index = torch.randint(0, len(images), (B,), device=device)
        padded = F.pad(images[index], (4, 4, 4, 4))
        rows = torch.randint(0, 9, (B, 1), device=device) + torch.arange(size, device=device)
        columns = torch.randint(0, 9, (B, 1), device=device) + torch.arange(size, device=device)
        x = padded[torch.arange(B, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        x = x.permute(0, 3, 1, 2)  # advanced indices put the channels last, which is how they lie
        x = torch.where(torch.rand(B, 1, 1, 1, device=device) < 0.5, x.flip(3), x)
        return (x.float() / 255 - 0.47) / 0.25, labels[index]

    return model, batch


def mae_small_cifar10(small: bool, device: str) -> tuple[torch.nn.Module, Callable[[], tuple[torch.Tensor, ...]]]:
    B = 32 if small else 1024
    model = MAE(2, 32, 2, 1, 32, 2) if small else MAE(12, 384, 6, 4, 192, 3)
    images = torch.randint(0, 256, (40_000, 32, 32, 3), dtype=torch.uint8, device=device)

    def batch() -> tuple[torch.Tensor, ...]:
        x = images[torch.randint(0, len(images), (B,), device=device)]
        x = torch.where(torch.rand(B, 1, 1, 1, device=device) < 0.5, x.flip(2), x)
        return ((x.float() / 255 - 0.47) / 0.25,)

    return model, batch


def main(argv: list[str]) -> int:
    """Train as many steps as each line of the input says."""
    small = "--small" in argv
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    model, batch = {f.__name__: f for f in (lm_books, resnet18_cifar10, mae_small_cifar10)}[argv[0]](small, device)
    model.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)

    def forward(*arrays: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return model(*arrays)

    # Small models on a CPU are there to try the code out; compiling them would take a C++ compiler and minutes.
    compiled, draw = (forward, batch) if small else (torch.compile(forward), torch.compile(batch))

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = compiled(*draw())
        loss.backward()
        optimizer.step()
        return loss

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    parameters = sum(p.numel() for p in model.parameters())
    print(json.dumps({"torch": torch.__version__, "parameters": parameters, "device": device}), flush=True)
    for line in sys.stdin:
        wait()
        start = time.perf_counter()
        for _ in range(int(line)):
            loss = step()
        wait()
        print(json.dumps({"seconds": time.perf_counter() - start, "loss": float(loss.detach())}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
