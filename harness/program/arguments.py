"""Which hyperparameters of a submission are arguments of its program, and which are constants in it.

Candidates are the dimensions of its search space that hold numbers with a fraction. One is an argument where `build`,
`init` and `step` take it as a float32 scalar, and a few steps of a small model end in the same bits as with constants,
at both ends of the space, together with those before it. What fails is constant: `1 - b2`, say, is another number in
float32 than in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import Algorithm, ParamInfo, ParamKind, TaskView, TrainState
from harness.program.loss import WorkloadLoss
from harness.program.requests import Ends
from harness.program.trace import strong, take_step
from harness.program.workload import Splits, Workload

STEPS = 4
EXAMPLES, INPUTS, WIDTH = 4, 6, 8

QUICK: dict[str, Any] = {"xla_backend_optimization_level": 1}  # the same bits, in half the time to compile

Build = Callable[[TaskView, Mapping[str, Any]], Algorithm]


def settle(
    build: Build, task: TaskView, workload: Workload, point: Mapping[str, Any], ends: Mapping[str, Ends]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of the candidates in `ends` that can be arguments, sorted, and why others cannot."""
    compare = _Comparison(build, task, workload, point, ends)
    names = tuple(ends)
    if not names or not compare.problem(names):
        return tuple(sorted(names)), {}
    kept: tuple[str, ...] = ()
    reasons = {}
    for name in names:  # in the order of the space, which names what matters most first
        if problem := compare.problem((*kept, name)):
            reasons[name] = problem
        else:
            kept = (*kept, name)
    return tuple(sorted(kept)), reasons


class _Comparison:
    """Training of a small model with hyperparameters as constants, and as arguments."""

    def __init__(
        self, build: Build, task: TaskView, workload: Workload, point: Mapping[str, Any], ends: Mapping[str, Ends]
    ):
        self._build, self._point, self._ends = build, point, ends
        self._task, self._workload = _small(task, workload)

    def problem(self, names: Sequence[str]) -> str:
        """Return why these cannot be arguments; empty where the bits are the same at both ends of all."""
        try:
            trained = self._compiled(lambda values: dict(zip(names, values, strict=True)), len(names))
            for end in (0, 1):
                values = [self._ends[name][end] for name in names]
                arguments = trained([jnp.float32(value) for value in values])
                if not all(map(_identical, arguments, self._constant(dict(zip(names, values, strict=True))))):
                    return f"other bits than with the constant{'s' if len(names) > 1 else ''} at {values}"
        except Exception as error:  # noqa: BLE001 - whatever a submission raises; as a constant it may pass
            return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
        return ""

    def _constant(self, at: dict[str, float]) -> Any:
        return self._compiled(lambda _: at, 0)([])

    def _compiled(self, moved: Callable[[list[Any]], dict[str, Any]], count: int) -> Any:
        def train(values: list[Any]) -> list[jax.Array]:
            algorithm = self._build(self._task, {**self._point, **moved(values)})
            params = _params()
            model_state = {"mean": jnp.zeros(WIDTH)} if self._task.has_model_state else {}
            zero = jnp.zeros((), jnp.int32)
            key = jax.random.key(0)
            state = strong(TrainState(params, algorithm.init(params, key), model_state, zero, zero))
            loss = WorkloadLoss(self._workload)

            def step(state: TrainState, number: jax.Array) -> tuple[TrainState, Any]:
                batch = _batch(number, EXAMPLES * algorithm.candidates)
                return take_step(
                    loss, algorithm, state, batch, jax.random.fold_in(key, number), EXAMPLES, Path("submission")
                )

            return jax.tree.leaves(jax.lax.scan(step, state, jnp.arange(STEPS)))

        shapes = [jax.ShapeDtypeStruct((), jnp.float32)] * count
        return jax.jit(train).lower(shapes).compile(QUICK)


def _identical(one: jax.Array, other: jax.Array) -> bool:
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def _params() -> dict[str, Any]:
    """Return parameters of a kind that decays and is orthogonalised, and of others; none of them 0."""
    shapes = {
        "embedding": (INPUTS, WIDTH),
        "kernel": (WIDTH, WIDTH),
        "scale": (WIDTH,),
    }
    start = {name: 1.0 + 0.7 * i for i, name in enumerate(shapes)}
    return {
        name: 0.3 * jnp.cos(start[name] + jnp.arange(np.prod(shape), dtype=jnp.float32)).reshape(shape)
        for name, shape in shapes.items()
    }


INFO = {
    "embedding": ParamInfo(ParamKind.EMBEDDING, (0,), (1,)),
    "kernel": ParamInfo(ParamKind.MATRIX, (0,), (1,)),
    "scale": ParamInfo(ParamKind.NORM, (), (0,)),
}


def _batch(number: jax.Array, size: int) -> dict[str, jax.Array]:
    index = jnp.arange(size, dtype=jnp.int32) + size * number
    x, y = (jnp.sin(index[:, None] + each * jnp.arange(width)[None]) for each, width in ((1.3, INPUTS), (0.7, WIDTH)))
    return {"x": x, "y": y, "index": index}


def _loss(
    params: Any, model_state: Any, batch: Mapping[str, jax.Array], key: jax.Array, train: bool, **options: Any
) -> tuple[jax.Array, Any]:
    """Return (squared errors of a network of two layers, float32[B]; the model state)."""
    del key, train, options
    hidden = batch["x"] @ params["embedding"]
    hidden = params["scale"][None] * jnp.tanh(hidden @ params["kernel"])
    moved = jax.tree.map(lambda mean: 0.9 * mean + 0.1 * hidden.mean(axis=0), model_state)
    return jnp.square(hidden - batch["y"]).mean(axis=1), moved


def _small(task: TaskView, workload: Workload) -> tuple[TaskView, Workload]:
    """Return the task and its workload with the small model in place of its own, and the same lengths for all tasks, so
    that a submission has the same arguments on all that are alike.
    """
    params = jax.eval_shape(_params)
    nothing: Callable[..., Any] = lambda *_: None  # noqa: E731
    small = Workload(
        info=workload.info,
        init=nothing,
        param_info=INFO,
        splits=lambda: Splits({}, {}, {}, {}),
        batch=nothing,
        loss=_loss,
        loss_options=workload.loss_options,
        evaluate=nothing,
        sample_targets=None if workload.sample_targets is None else lambda params, state, batch, key: {"y": batch["y"]},
    )
    told = replace(
        task, params=params, param_info=INFO, batch_size=EXAMPLES, step_hint=400, budget_steps=800,
        num_train_examples=10_000,
    )  # fmt: skip
    return told, small
