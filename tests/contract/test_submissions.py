"""Every folder in submissions/, found by itself, keeps the contract of `harness.api` and the habits of this project."""

from __future__ import annotations

import ast
import dataclasses
import re
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from harness.api import Algorithm, LossKind, ParamKind, TaskView
from harness.program import discovery, submission
from harness.program.build import build_algorithm
from harness.program.nnx_adapter import Model, conv, embedding, matrix, vector
from harness.program.trace import Keys
from harness.program.workload import UNSET, Splits, Workload, WorkloadInfo
from harness.trial.programs import Programs, compile_programs

FOLDERS = discovery.find_all("submissions")
LONGEST_BUILD = 30
KEYS = Keys(*(jax.random.key(k) for k in range(4)))

# ---- a tiny task with every kind of parameter: B examples, T tokens, D features, H heads, L layers ----

V, T, D, H, L, CLASSES, EXAMPLES = 7, 4, 6, 2, 2, 3, 64


class Everything(nnx.Module):
    """Tokens -> a convolution -> layers with one stacked QKV map -> BatchNorm -> classes: all kinds of parameters."""

    def __init__(self, rngs: nnx.Rngs):
        offset, gain = vector(ParamKind.BIAS), vector(ParamKind.NORM)
        self.embed = nnx.Embed(V, D, embedding_metadata=embedding(), rngs=rngs)
        self.conv = nnx.Conv(D, D, (1, 3), kernel_metadata=conv(), bias_metadata=offset, rngs=rngs)
        draw = lambda *shape: 0.1 * jax.random.normal(rngs.params(), shape)  # noqa: E731
        qkv = matrix(in_axes=(1,), out_axes=(4,), stack_axes=((0, "layer"), (2, "qkv"), (3, "head")))
        self.qkv = nnx.Param(draw(L, D, 3, H, D // H), **qkv)
        self.mlp = nnx.List(
            nnx.Linear(D, D, kernel_metadata=matrix(), bias_metadata=offset, rngs=rngs) for _ in range(L)
        )
        self.norm = nnx.BatchNorm(D, momentum=0.9, scale_metadata=gain, bias_metadata=offset, rngs=rngs)
        self.temperature = nnx.Param(jnp.ones(1), **vector(ParamKind.OTHER))
        self.head = nnx.Linear(D, CLASSES, kernel_metadata=matrix(ParamKind.HEAD), bias_metadata=offset, rngs=rngs)

    def __call__(self, tokens_BT: jax.Array) -> jax.Array:
        x_BTD = self.conv(self.embed(tokens_BT)[:, None])[:, 0]
        for layer, mlp in enumerate(self.mlp):
            q, k, v = jnp.einsum("btd,dchk->cbthk", x_BTD, self.qkv[layer])
            x_BTD = x_BTD + (q * k * v).reshape(x_BTD.shape)
            x_BTD = x_BTD + jax.nn.gelu(mlp(x_BTD))
        return self.head(self.norm(x_BTD.mean(axis=1))) * self.temperature[None]


@cache
def tiny() -> Workload:
    model = Model(Everything)
    rng = np.random.Generator(np.random.PCG64(0))
    tokens = rng.integers(0, V, (EXAMPLES, T)).astype(np.int32)
    arrays = {"tokens": tokens, "label": (tokens.sum(axis=1) % CLASSES).astype(np.int32)}

    def losses(params, model_state, batch, train):
        module = model.bind(params, model_state, train=train)
        logits = jax.nn.log_softmax(module(batch["tokens"]))
        return -jnp.take_along_axis(logits, batch["label"][:, None], axis=1)[:, 0], model.state_of(module)

    return Workload(
        info=WorkloadInfo(
            name="tiny", description="", metric="loss", mode="min", target=UNSET, batch_size=8, step_hint=200,
            num_train_examples=EXAMPLES, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
        ),
        init=model.init,
        param_info=model.param_info,
        splits=lambda: Splits(arrays, arrays, arrays, arrays),
        batch=lambda train, index, key: {name: array[index] for name, array in train.items()},
        loss=lambda params, model_state, batch, key, train: losses(params, model_state, batch, train),
        evaluate=lambda params, model_state, arrays: {"loss": losses(params, model_state, arrays, False)[0].mean()},
        sample_targets=lambda params, model_state, batch, key: {"label": batch["label"]},
    )  # fmt: skip


@cache
def quadratic() -> Workload:
    return discovery.load_workload(discovery.find("workloads", "quadratic"))


@dataclasses.dataclass(frozen=True)
class Case:
    """A submission compiled for one workload."""

    workload: Workload
    algorithm: Algorithm
    programs: Programs
    train: Any
    slice: Any

    def run(self, steps: int, keys: Keys = KEYS):
        state = self.programs.init(keys)
        losses = []
        for _ in range(steps):
            state, metrics = self.programs.steps[self.workload.info.batch_size](state, keys, self.train)
            losses.append(float(metrics["loss"][0]))
        return state, losses

    def evaluated(self, state) -> float:
        variables = (state.params, state.model_state)
        if self.programs.eval_variables is not None:
            variables = self.programs.eval_variables(state, KEYS, self.train)
        return float(self.programs.evaluate(*variables, self.slice)["loss"])


def build(name: str, workload: Workload) -> Algorithm:
    params, model_state = jax.eval_shape(workload.init, jax.random.key(0))
    info = workload.info
    task = TaskView(
        params=params, param_info=workload.param_info, batch_size=info.batch_size, step_hint=info.step_hint,
        budget_steps=2 * info.step_hint, num_train_examples=info.num_train_examples, loss_kind=info.loss_kind,
        has_model_state=bool(jax.tree.leaves(model_state)),
    )  # fmt: skip
    folder = FOLDERS[name]
    return build_algorithm(folder, task, submission.read_info(folder).defaults)


@cache
def compiled(name: str, which: str) -> Case:
    workload = {"tiny": tiny, "quadratic": quadratic}[which]()
    algorithm = build(name, workload)
    splits = workload.splits()
    train, part = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    programs = compile_programs(workload, algorithm, KEYS, train, part, platform="cpu", source=FOLDERS[name].path)
    return Case(workload, algorithm, programs, train, part)


everyone = pytest.mark.parametrize("name", FOLDERS)
both = pytest.mark.parametrize("which", ["tiny", "quadratic"])


def test_the_tiny_task_has_every_kind() -> None:
    kinds = {info.kind for info in jax.tree.leaves(tiny().param_info)}
    assert kinds == set(ParamKind)
    _, model_state = jax.eval_shape(tiny().init, jax.random.key(0))
    assert jax.tree.leaves(model_state)


@everyone
def test_submission_yaml(name: str) -> None:
    info = submission.read_info(FOLDERS[name])
    assert info.description
    assert info.authors
    assert info.references, "which paper it is of"
    assert info.tuning == "self" or info.space or info.points, "external tuning needs a space or points"
    for point in info.points:
        submission.choose_point(FOLDERS[name], info, point)


@everyone
def test_defaults_lie_in_the_space(name: str) -> None:
    info = submission.read_info(FOLDERS[name])
    for parameter, d in info.space.items():
        default = info.defaults[parameter]
        assert (default in d.values) if d.values else (d.min <= default <= d.max), parameter


@everyone
def test_readme(name: str) -> None:
    readme = FOLDERS[name].path / "README.md"
    assert readme.is_file()
    assert readme.read_text().startswith("# ")
    assert len(readme.read_text().split()) >= 30, "which paper, what differs from the reference, what was measured"


@everyone
def test_build_is_short(name: str) -> None:
    tree = ast.parse((FOLDERS[name].path / "submission.py").read_text())
    assert ast.get_docstring(tree), "the module says what it is"
    (function,) = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "build"]
    assert function.end_lineno - function.lineno + 1 <= LONGEST_BUILD


@everyone
def test_no_workload_is_named(name: str) -> None:
    """A submission sees a task, not its name. Toys are left out: their names are ordinary words."""
    workloads = [w for w, folder in discovery.find_all("workloads").items() if discovery.workload_info(folder).scored]
    assert workloads
    for path in FOLDERS[name].path.rglob("*.py"):
        found = re.findall("|".join(map(re.escape, workloads)), path.read_text())
        assert found == [], path


@everyone
@both
def test_compiles_and_keeps_tree_shapes_and_dtypes(name: str, which: str) -> None:
    """`compile_programs` checks the contract on shapes; here on the arrays themselves."""
    case = compiled(name, which)
    before = case.programs.init(KEYS)
    kinds = jax.tree.map(lambda x: (x.shape, x.dtype.name, x.weak_type), before)
    after, losses = case.run(3)
    assert jax.tree.map(lambda x: (x.shape, x.dtype.name, x.weak_type), after) == kinds
    assert np.isfinite(losses).all()
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(after.params))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before.params, after.params)
    assert all(jax.tree.leaves(moved)), f"a parameter that is never updated: {moved}"
    if case.algorithm.eval_variables is None and jax.tree.leaves(after.model_state):
        kept = jax.tree.map(lambda a, b: bool((a != b).any()), before.model_state, after.model_state)
        assert all(jax.tree.leaves(kept)), "running statistics are kept, or estimated in eval_variables"


@everyone
def test_cost_is_known(name: str) -> None:
    for size, cost in compiled(name, "quadratic").programs.cost.items():
        assert cost.exact
        assert cost.gradient_calls >= 1
        assert cost.forward_examples >= size


@everyone
@both
def test_same_key_same_bits(name: str, which: str) -> None:
    case = compiled(name, which)
    one, other = case.run(3)[0], case.run(3)[0]
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    another = case.run(3, KEYS._replace(data=jax.random.key(9)))[0]
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(another), strict=True))


@everyone
@both
def test_loss_goes_down(name: str, which: str) -> None:
    """By little where a method's steps are a share of the weights, which start near 0 here (LAMB)."""
    case = compiled(name, which)
    start = case.evaluated(case.programs.init(KEYS))
    assert case.evaluated(case.run(20)[0]) < 0.998 * start


@everyone
def test_a_point_is_all_that_build_depends_on(name: str) -> None:
    """Built twice, the same program: nothing is kept in the module, and no clock or global random state is used."""
    case = compiled(name, "quadratic")
    again = build(name, case.workload)
    state = case.programs.init(KEYS)
    opt_state = again.init(state.params, jax.random.key(0))
    assert jax.tree.structure(opt_state) == jax.tree.structure(case.algorithm.init(state.params, jax.random.key(0)))
    assert dataclasses.replace(again, init=None, step=None, eval_variables=None, control=None) == dataclasses.replace(
        case.algorithm, init=None, step=None, eval_variables=None, control=None
    )
