"""What one update of each optimizer costs, over AdamW's, at the parameter shapes of real models; no training.

    python scripts/bench_optim.py [MODEL ...] [--rules NAME ...] [--pairs N] [--json]
    python scripts/bench_optim.py --newton-schulz [MODEL ...]

Each update is one jitted call that takes and donates parameters and state, on random numbers. AdamW's update and the
other's run in turn in one process, and the ratio is the median over these pairs: a noisy machine hits both sides. The
state is counted in numbers per parameter, over all parameters and over matrices alone. `--newton-schulz` compares
Muon's orthogonalisation with all matrices of a shape in one batch to one matrix at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from harness.api import ParamInfo, ParamKind, PyTree
from harness.machine.allocator import keep_memory
from harness.optim.apollo import apollo
from harness.optim.lamb import lamb
from harness.optim.matrices import by_kind, is_matrix_like, to_matrices
from harness.optim.muon import muon
from harness.optim.nadamw import nadamw
from harness.optim.normuon import normuon
from harness.optim.orthogonalize import orthogonalize, orthogonalize_all
from harness.optim.schedule_free import schedule_free_adamw, schedule_free_sgd

# layers, width D, vocabulary V, positions T; the MLP is 4 D wide, q, k and v are one kernel (D, 3, D)
MODELS = {
    "lm_shakespeare": {"layers": 4, "D": 128, "V": 65, "T": 64, "tied": False},
    "lm_books": {"layers": 8, "D": 512, "V": 8192, "T": 256, "tied": False},
    "gpt2_124m": {"layers": 12, "D": 768, "V": 50257, "T": 1024, "tied": True},
}
MATRIX = ParamInfo(ParamKind.MATRIX, (0,), (1,))
QKV = ParamInfo(ParamKind.MATRIX, (0,), (2,), ((1, "qkv"),))
GAIN = ParamInfo(ParamKind.NORM, (), (0,))
EMBEDDING = ParamInfo(ParamKind.EMBEDDING, (0,), (1,))
HEAD = ParamInfo(ParamKind.HEAD, (0,), (1,))


def gpt(layers: int, D: int, V: int, T: int, *, tied: bool) -> dict[str, tuple[tuple[int, ...], ParamInfo]]:
    """Return (shape, info) by parameter name."""
    table: dict[str, tuple[tuple[int, ...], ParamInfo]] = {
        "tokens": ((V, D), EMBEDDING),
        "positions": ((T, D), EMBEDDING),
    }
    for i in range(layers):
        table |= {
            f"{i}/norm1": ((D,), GAIN),
            f"{i}/qkv": ((D, 3, D), QKV),
            f"{i}/out": ((D, D), MATRIX),
            f"{i}/norm2": ((D,), GAIN),
            f"{i}/up": ((D, 4 * D), MATRIX),
            f"{i}/down": ((4 * D, D), MATRIX),
        }
    table["norm"] = ((D,), GAIN)
    return table if tied else table | {"head": ((D, V), HEAD)}


def rules(info: PyTree, width: int) -> dict[str, optax.GradientTransformation]:
    """Return the optimizers as the submissions compose them, with what they use on this device."""
    rate = lambda step: 1e-3 * (1 - step / 1000)  # noqa: E731
    low = "bfloat16" if jax.default_backend() == "gpu" else None
    rest = optax.adamw(rate)
    return {
        "adamw": optax.adamw(rate),
        "nadamw": nadamw(rate),
        "lamb": lamb(rate, param_info=info),
        "muon": by_kind(info, muon(rate, info, ns_dtype=low), rest),
        "normuon": by_kind(info, normuon(rate, info, ns_dtype=low), rest),
        "apollo": apollo(rate, info, rank=width // 4),
        "apollo_mini": apollo(rate, info, rank=1, scale=128.0, scale_type="tensor"),
        "schedule_free_adamw": schedule_free_adamw(1e-3, 10),
        "schedule_free_sgd": schedule_free_sgd(1.0, 10),
    }


class Updates:
    """One optimizer on parameters of its own: each call of `run` is an update."""

    def __init__(self, rule: optax.GradientTransformation, shapes: dict[str, tuple[int, ...]]):
        def step(params: PyTree, state: PyTree, grads: PyTree) -> tuple[PyTree, PyTree]:
            updates, state = rule.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        self._params, self._grads = normal(shapes, 0), normal(shapes, 1)
        self._state = jax.jit(rule.init)(self._params)
        start = time.perf_counter()
        self._step = jax.jit(step, donate_argnums=(0, 1)).lower(self._params, self._state, self._grads).compile()
        self.compile_s = time.perf_counter() - start
        self.run()

    def run(self) -> float:
        """Do one update and return the seconds it took."""
        start = time.perf_counter()
        self._params, self._state = self._step(self._params, self._state, self._grads)
        jax.block_until_ready((self._params, self._state))
        return time.perf_counter() - start


def normal(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, jax.Array]:
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {name: 0.02 * jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}


def numbers(rule: optax.GradientTransformation, shapes: dict[str, tuple[int, ...]]) -> int:
    state = jax.eval_shape(rule.init, {name: jax.ShapeDtypeStruct(s, jnp.float32) for name, s in shapes.items()})
    return sum(leaf.size for leaf in jax.tree.leaves(state))


def bench_rules(model: str, names: list[str], pairs: int) -> Iterator[dict[str, Any]]:
    table = gpt(**MODELS[model])  # type: ignore[arg-type]
    shapes, info = ({name: part[i] for name, part in table.items()} for i in (0, 1))
    matrices = {name: shape for name, shape in shapes.items() if is_matrix_like(info[name])}
    count, matrix_count = (sum(jnp.prod(jnp.array(s)).item() for s in tree.values()) for tree in (shapes, matrices))
    available = rules(info, int(MODELS[model]["D"]))
    of_matrices = rules({name: info[name] for name in matrices}, int(MODELS[model]["D"]))
    baseline = Updates(available["adamw"], shapes)
    for name in names or [rule for rule in available if rule != "adamw"]:
        other = Updates(available[name], shapes)
        ratios = []
        for i in range(pairs):
            first, second = (baseline.run(), other.run()) if i % 2 == 0 else reversed((other.run(), baseline.run()))
            ratios.append(second / first)
        yield {
            "model": model,
            "rule": name,
            "cost over adamw": statistics.median(ratios),
            "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]] if pairs > 3 else None,
            "compile over adamw": other.compile_s / baseline.compile_s,
            "state per parameter": numbers(available[name], shapes) / count,
            "state per matrix entry": numbers(of_matrices[name], matrices) / matrix_count,
        }


def bench_newton_schulz(model: str, pairs: int) -> dict[str, Any]:
    """Return the cost of one matrix at a time over that of one batch for each shape."""
    table = gpt(**MODELS[model])  # type: ignore[arg-type]
    info = {name: part[1] for name, part in table.items() if is_matrix_like(part[1])}
    stacks = jax.tree.leaves(to_matrices(normal({name: table[name][0] for name in info}, 0), info))
    dtype = "bfloat16" if jax.default_backend() == "gpu" else None

    def batched(stacks: list[jax.Array]) -> list[jax.Array]:
        return orthogonalize_all(stacks, dtype=dtype)

    def one_at_a_time(stacks: list[jax.Array]) -> list[jax.Array]:
        return [jnp.stack([orthogonalize(x, dtype=dtype) for x in stack]) for stack in stacks]

    def seconds(function: Callable[..., Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(function(stacks))
        return time.perf_counter() - start

    compiled = [jax.jit(f).lower(stacks).compile() for f in (batched, one_at_a_time)]
    for function in compiled:
        seconds(function)
    ratios = []
    for i in range(pairs):
        b, o = map(seconds, compiled) if i % 2 == 0 else reversed([seconds(f) for f in reversed(compiled)])
        ratios.append(o / b)
    return {
        "model": model,
        "matrices": sum(len(stack) for stack in stacks),
        "one at a time over batched": statistics.median(ratios),
        "quartiles": [round(q, 3) for q in statistics.quantiles(ratios, n=4)[::2]] if pairs > 3 else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; all by default")
    parser.add_argument("--rules", nargs="+", default=[], metavar="NAME", help="rules to time; all by default")
    parser.add_argument("--pairs", type=int, default=20, help="pairs of updates (default 20)")
    parser.add_argument("--newton-schulz", action="store_true", help="time Muon's batches instead")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    args = parser.parse_args()
    for model in args.models or MODELS:
        if model not in MODELS:
            parser.error(f"unknown model '{model}'; expected {', '.join(MODELS)}")
        rows = (
            [bench_newton_schulz(model, args.pairs)]
            if args.newton_schulz
            else bench_rules(model, args.rules, args.pairs)
        )
        for row in rows:
            line = {k: f"{v:.3g}" if isinstance(v, float) else str(v) for k, v in row.items()}
            print(json.dumps(row) if args.json else "  ".join(f"{k}: {v}" for k, v in line.items()), flush=True)


if __name__ == "__main__":
    keep_memory()
    main()
