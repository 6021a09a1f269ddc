"""Every folder in submissions/, found by itself, keeps the contract of `harness.api` and the habits of this project."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from harness.api import LossKind, ParamKind, TrainState
from harness.program import discovery, processes, submission
from harness.program.derive import derive
from harness.program.draws import Keys
from harness.program.export import writer
from harness.program.exporting import export_submission, export_workload
from harness.program.nnx_adapter import Model, conv, embedding, matrix, vector
from harness.program.requests import DeriveRequest, Job
from harness.program.store import Program
from harness.program.workload import UNSET, Data, Splits, Workload, WorkloadInfo, split_shapes
from harness.record import plain_data
from harness.trial.programs import Inputs, Programs, compile_programs, named

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
        shapes=split_shapes((EXAMPLES,) * 4, {"tokens": ((T,), "int32"), "label": ((), "int32")}),
    )  # fmt: skip


@cache
def quadratic() -> Workload:
    return discovery.load_workload(discovery.find("workloads", "quadratic"))


WORKLOADS = {"tiny": tiny, "quadratic": quadratic}


@cache
def own_program(which: str) -> Program:
    with tempfile.TemporaryDirectory() as scratch:
        return looked_at(scratch, export_workload(WORKLOADS[which](), "cpu", writer(scratch)), None)


def exported(name: str, which: str) -> Program:
    """Return a submission's program at its defaults, made in this process as for a trial: on the tiny task what can be
    an argument is one, on the quadratic all is constant.
    """
    workload, folder = WORKLOADS[which](), FOLDERS[name]
    info = submission.read_info(folder)
    steps, ends = 2 * workload.info.step_hint, processes.ends_of(info) if which == "tiny" else {}
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(scratch, "", None, "cpu", dict(info.defaults), steps, ends=ends)
        return looked_at(scratch, export_submission(workload, folder, job, "cpu", writer(scratch)), own_program(which))


def looked_at(scratch: str, declared: dict[str, Any], own: Program | None) -> Program:
    folder = Path(scratch)
    (folder / "declared.json").write_text(json.dumps(plain_data.to_plain(declared)))
    manifest = derive(folder, own, DeriveRequest(scratch, None, "cpu", {}))
    return Program(manifest, {name: (folder / f"{name}.mlir").read_bytes() for name in manifest.functions})


@dataclasses.dataclass(frozen=True)
class Case:
    """A submission compiled for one workload."""

    program: Program
    programs: Programs
    batch_size: int
    inputs: Inputs
    train: Any
    slice: Any

    def run(self, steps: int, keys: Keys = KEYS) -> tuple[TrainState, list[float]]:
        inputs = self.inputs._replace(keys=keys)
        state, losses = self.programs.init(inputs), []
        for _ in range(steps):
            state, metrics = self.programs.steps[self.batch_size](state, inputs, self.train)
            losses.append(float(metrics["loss"][0]))
        return state, losses

    def named(self, state: TrainState) -> dict[str, jax.Array]:
        return named(self.programs.contract, state)

    def evaluated(self, state: TrainState) -> float:
        variables = (state.params, state.model_state)
        if self.programs.eval_variables is not None:
            variables = self.programs.eval_variables(state, self.inputs, self.train)
        return float(self.programs.evaluate(*variables, self.slice)["loss"])


@cache
def compiled(name: str, which: str) -> Case:
    workload, program = WORKLOADS[which](), exported(name, which)
    assert workload.shapes is not None
    data = Data(workload.info, workload.shapes, workload.splits, workload.batch)
    splits = data.load()
    train, part = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    programs = compile_programs(data, own_program(which), program, train, part, platform="cpu")
    defaults = submission.read_info(FOLDERS[name]).defaults
    values = tuple(jnp.float32(defaults[argument]) for argument in programs.contract.arguments)
    return Case(program, programs, data.info.batch_size, Inputs(KEYS, values), train, part)


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
    """The contract is checked on shapes when a program is made; here on the arrays themselves."""
    case = compiled(name, which)
    contract = case.programs.contract
    before, (state, losses) = case.named(case.programs.init(case.inputs)), case.run(3)
    after = case.named(state)
    kinds = [{n: (x.shape, x.dtype.name, x.weak_type) for n, x in arrays.items()} for arrays in (before, after)]
    assert kinds[0] == kinds[1]
    assert np.isfinite(losses).all()
    for leaf in contract.params:
        assert bool(jnp.isfinite(after[leaf.name]).all()), leaf.name
        assert not np.array_equal(before[leaf.name], after[leaf.name]), f"{leaf.name} is never updated"
    assert bool(contract.model_state) == (which == "tiny")
    if case.programs.eval_variables is None:
        for leaf in contract.model_state:
            kept = not np.array_equal(before[leaf.name], after[leaf.name])
            assert kept, f"{leaf.name}: running statistics are kept, or estimated in eval_variables"


@everyone
@both
def test_cost_is_known(name: str, which: str) -> None:
    """No count is a lower bound, and no step takes less than the gradient of its batch."""
    manifest = compiled(name, which).program.manifest
    assert sorted(map(int, manifest.declared["cost"])) == list(manifest.contract.batch_sizes)
    for size, cost in manifest.declared["cost"].items():
        assert cost["exact"]
        assert cost["gradient_calls"] >= 1
        assert cost["forward_examples"] >= int(size)
    assert all(facts.exact for facts in manifest.functions.values())
    assert manifest.flagged == ()


@everyone
@both
def test_same_key_same_bits(name: str, which: str) -> None:
    case = compiled(name, which)
    one, other, another = (
        case.named(case.run(3, keys)[0]) for keys in (KEYS, KEYS, KEYS._replace(data=jax.random.key(9)))
    )
    for array in one:
        assert np.asarray(one[array]).tobytes() == np.asarray(other[array]).tobytes(), array
    assert any(not np.array_equal(one[array], another[array]) for array in one)


@everyone
@both
def test_loss_goes_down(name: str, which: str) -> None:
    """By little where a method's steps are a share of the weights, which start near 0 here (LAMB)."""
    case = compiled(name, which)
    start = case.evaluated(case.programs.init(case.inputs))
    assert case.evaluated(case.run(20)[0]) < 0.998 * start


@everyone
def test_a_point_is_all_that_build_depends_on(name: str) -> None:
    """Imported and built anew, the same program: nothing is kept, and no clock or global random state is used."""
    first = compiled(name, "quadratic").program
    discovery.unload(FOLDERS[name])
    assert exported(name, "quadratic").manifest.id == first.manifest.id


@everyone
def test_one_program_serves_every_learning_rate(name: str) -> None:
    """Where a rule has none, the first dimension of its space."""
    info = submission.read_info(FOLDERS[name])
    moved = "learning_rate" if "learning_rate" in info.defaults else next(iter(info.space))
    assert moved in info.space
    assert moved in compiled(name, "tiny").programs.contract.arguments
    assert compiled(name, "quadratic").programs.contract.arguments == ()
