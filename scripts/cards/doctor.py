"""The card before anything is timed on it: what it is, how fast it can be, whether cuDNN's attention agrees with XLA's.

    python -m cards.doctor gpu|cpu MATRIX

prints a JSON line: `card` (name, driver, power limit), `before` and `after` the load (clock, power, temperature, other
processes); ceilings of a bf16 product of two MATRIX x MATRIX matrices of random numbers (TFLOP/s) and of a copy (TB/s,
read and written bytes); `attention`, at the shapes of lm_books: what is wrong with cuDNN's (null: it agrees with
XLA's), and milliseconds of XLA's and of cuDNN's, forward and backward.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from harness.machine import flags, nvml
from harness.machine.flags import Device

FULL, SMALL = (128, 512, 4, 128), (2, 64, 2, 32)  # batch, positions, heads, width of each, causal
LEAST_MATRIX = 2048  # of a card


def doctored(device: Device, matrix: int) -> dict[str, Any]:
    """Return what is printed."""
    import jax
    import jax.numpy as jnp
    from bench.steps import ceiling

    from workloads.families import attention

    card = nvml.card() if device == "gpu" else None
    look = lambda: None if card is None else dataclasses.asdict(card.look())  # noqa: E731
    found: dict[str, Any] = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    found |= {"card": None if card is None else card.describe(), "before": look()}
    full = matrix >= LEAST_MATRIX
    found["bf16_tflop_per_s"] = ceiling(matrix, 3.0 if full else 0.2) / 1e12
    found["after"] = look()
    x = jnp.ones((matrix * matrix * (16 if full else 1),), jnp.float32)
    found["copy_tb_per_s"] = 2 * x.nbytes / milliseconds(jax.jit(jnp.negative), x, rounds=20 if full else 3) / 1e9
    B, T, H, K = FULL if full else SMALL
    q, k, v = jax.random.normal(jax.random.key(0), (3, B, T, H, K), jnp.bfloat16)

    def timed(way: Any) -> float:
        def total(q: Any, k: Any, v: Any) -> Any:
            y = attention.attend(q, k, v, causal=True, implementation=way)
            return jnp.square(y.astype(jnp.float32)).sum()

        return milliseconds(jax.jit(jax.grad(total, argnums=(0, 1, 2))), q, k, v, rounds=10 if full else 2)

    wrong = attention.trouble("cudnn", T, H, K, causal=True)
    ms = {"xla": timed("xla")} | ({} if wrong else {"cudnn": timed("cudnn")})
    return found | {"attention": {"shape": [B, T, H, K], "cudnn_is_wrong": wrong, "ms": ms}}


def milliseconds(function: Callable[..., Any], *args: Any, rounds: int) -> float:
    """Return the milliseconds of a call, the median of `rounds` after one that compiles."""
    import jax

    jax.block_until_ready(function(*args))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        jax.block_until_ready(function(*args))
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


if __name__ == "__main__":
    platform: Device = "gpu" if sys.argv[1] == "gpu" else "cpu"
    flags.apply(platform, deterministic=False, autotune="update")
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax(platform, compile_cache=True)
    print(json.dumps(doctored(platform, int(sys.argv[2]))), flush=True)
