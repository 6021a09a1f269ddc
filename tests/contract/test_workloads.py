"""Every folder in workloads/, found by itself, keeps the contract of `harness.program.workload.Workload`.

A workload for an accelerator is checked in its small form; of the whole one the shapes are looked at, as of the rungs
of ladders, which differ from a workload by the width alone.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from harness.api import ParamInfo, ParamKind
from harness.campaign import scale_ladder
from harness.data import store
from harness.errors import ConfigError, SubmissionError, WorkloadError
from harness.program import discovery
from harness.program.data_order import batch_indices
from harness.program.loss import WorkloadLoss, count_cost
from harness.program.workload import SMALL, Splits, Workload

FOLDERS = {name: of for name, of in discovery.find_all("workloads").items() if not scale_ladder.is_rung(name)}
KEY = jax.random.key(0)
SIZE = 8  # examples of the batches below; a workload's own size compiles no differently


@dataclass(frozen=True)
class Case:
    """A workload with what the checks share, made once."""

    workload: Workload

    @cached_property
    def variables(self) -> tuple[Any, Any]:
        return jax.jit(self.workload.init)(KEY)

    @cached_property
    def splits(self) -> Splits:
        return self.workload.splits()

    @cached_property
    def make_batch(self):
        train = jax.device_put(dict(self.splits.train))
        batch = jax.jit(self.workload.batch)
        return lambda index, key: batch(train, index, key)

    @cached_property
    def batch(self) -> dict[str, jax.Array]:
        return self.make_batch(jnp.arange(SIZE), KEY)

    @cached_property
    def gradient(self) -> tuple[Any, Any]:
        step = jax.jit(WorkloadLoss(self.workload).value_and_grad)
        return step(*self.variables, self.batch, KEY)


@cache
def load(name: str) -> Case:
    small = discovery.workload_info(FOLDERS[name]).small
    return Case(discovery.load_workload(FOLDERS[name], SMALL if small else None))


@pytest.fixture(params=FOLDERS)
def case(request: pytest.FixtureRequest, with_data) -> Case:
    with_data(discovery.workload_info(FOLDERS[request.param]).datasets)
    return load(request.param)


def test_init_gives_nested_dicts_of_float32(case: Case) -> None:
    def check(node: Any) -> None:
        if isinstance(node, dict):
            for child in node.values():
                check(child)
        else:
            assert isinstance(node, jax.Array)
            assert node.dtype == jnp.float32
            assert not node.weak_type
            assert bool(jnp.isfinite(node).all())

    for tree in case.variables:
        assert isinstance(tree, dict)
        check(tree)
    assert jax.tree.leaves(case.variables[0])


def test_init_depends_on_the_key_alone(case: Case) -> None:
    init = jax.jit(case.workload.init)
    same, other = init(jax.random.key(0)), init(jax.random.key(1))
    assert equal(case.variables, same)
    assert not equal(case.variables[0], other[0])


def test_param_info_names_every_axis_once(case: Case) -> None:
    params, _ = case.variables
    is_info = lambda x: isinstance(x, ParamInfo)  # noqa: E731
    assert jax.tree.structure(params) == jax.tree.structure(case.workload.param_info, is_leaf=is_info)
    for leaf, info in zip(
        jax.tree.leaves(params), jax.tree.leaves(case.workload.param_info, is_leaf=is_info), strict=True
    ):
        assert isinstance(info, ParamInfo)
        axes = [*info.in_axes, *info.out_axes, *(axis for axis, _ in info.stack_axes)]
        assert sorted(axes) == list(range(leaf.ndim))
        if info.kind in (ParamKind.NORM, ParamKind.BIAS):
            assert info.in_axes == ()
        elif info.kind is not ParamKind.OTHER:
            assert info.in_axes
            assert info.out_axes


def test_batch_is_pure_and_keeps_its_shapes(case: Case) -> None:
    index = batch_indices(KEY, jnp.int32(5), SIZE, case.workload.info.num_train_examples)
    batch, again = case.make_batch(index, KEY), case.make_batch(index, KEY)
    assert equal(batch, again)
    later = case.make_batch(index[::-1], jax.random.key(7))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batch) == jax.tree.map(lambda x: (x.shape, x.dtype), later)
    larger = case.make_batch(jnp.arange(3 * SIZE), KEY)
    assert "index" not in batch, "the harness adds it"
    for name, array in batch.items():
        assert array.shape[0] == SIZE
        assert array.dtype in (jnp.float32, jnp.int32)
        assert larger[name].shape == (3 * SIZE, *array.shape[1:])
        assert np.isfinite(np.asarray(array)).all()


@pytest.mark.parametrize("train", [True, False])
def test_loss_is_one_finite_float32_per_example(case: Case, train: bool) -> None:
    params, model_state = case.variables

    def run(params, model_state, batch, key):
        return case.workload.loss(params, model_state, batch, key, train, **case.workload.loss_options)

    losses, new_state = jax.jit(run)(params, model_state, case.batch, KEY)
    assert losses.shape == (SIZE,)
    assert losses.dtype == jnp.float32
    assert bool(jnp.isfinite(losses).all())
    assert jax.tree.map(jnp.shape, new_state) == jax.tree.map(jnp.shape, model_state)
    if train and jax.tree.leaves(model_state):
        assert not equal(new_state, model_state)
        assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(new_state))
    else:
        assert equal(new_state, model_state)


def test_gradients_are_finite_and_reach_every_parameter(case: Case) -> None:
    (value, _), gradients = case.gradient
    params, _ = case.variables
    assert value.shape == ()
    assert bool(jnp.isfinite(value))
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradients))
    assert any(bool((leaf != 0).any()) for leaf in jax.tree.leaves(gradients))


def test_cost_is_counted(case: Case) -> None:
    shapes = jax.eval_shape(lambda: (*case.variables, case.batch, KEY))
    cost = count_cost(WorkloadLoss(case.workload).value_and_grad, *shapes)
    assert (cost.gradient_calls, cost.forward_examples, cost.exact) == (1, SIZE, True)


def test_options(case: Case) -> None:
    assert set(case.workload.loss_options) <= {"dropout", "label_smoothing"}
    shapes = jax.eval_shape(lambda: (*case.variables, case.batch, KEY))
    for option in ("dropout", "label_smoothing"):
        trace = lambda option=option: jax.eval_shape(  # noqa: E731
            lambda *args: WorkloadLoss(case.workload).value(*args, **{option: 0.1}), *shapes
        )
        if option in case.workload.loss_options:
            trace()
        else:
            with pytest.raises(SubmissionError, match=option):
                trace()


def test_sampled_targets_keep_the_batch(case: Case) -> None:
    loss = WorkloadLoss(case.workload)
    if case.workload.sample_targets is None:
        with pytest.raises(SubmissionError, match="no likelihood"):
            loss.sample_targets(*case.variables, case.batch, KEY)
        return
    sample = jax.jit(loss.sample_targets)
    drawn, other = (sample(*case.variables, case.batch, jax.random.key(seed)) for seed in (0, 1))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), drawn) == jax.tree.map(lambda x: (x.shape, x.dtype), case.batch)
    changed = [name for name in drawn if not equal(drawn[name], other[name])]
    assert len(changed) == 1, "the targets, and nothing else, are drawn"


def test_evaluate_is_one_call_to_float32_scalars(case: Case) -> None:
    info = case.workload.info
    evaluate = jax.jit(case.workload.evaluate)
    results = evaluate(*case.variables, case.splits.validation_slice)
    assert info.metric in results
    for name, value in results.items():
        assert value.shape == (), name
        assert value.dtype == jnp.float32, name
        assert bool(jnp.isfinite(value)), name
    if info.floor is not None:
        assert float(results[info.metric]) > info.floor
    assert not info.meets(float(results[info.metric])), "an untrained model meets the target"
    # Other splits go through the same function.
    assert set(jax.eval_shape(evaluate, *case.variables, case.splits.test)) == set(results)


def test_splits(case: Case) -> None:
    splits = case.splits
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    hashes = {name: examples(arrays) for name, arrays in parts.items()}
    assert len(hashes["train"]) == case.workload.info.num_train_examples
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(hashes[one]) & set(hashes[other]), f"{one} and {other} share an example"
    assert set(examples(splits.validation_slice)) <= set(hashes["validation"])
    assert equal(dict(splits.train), dict(case.workload.splits().train)), "the data are the same at each call"


def test_no_convolution_in_a_loop(case: Case) -> None:
    """On a CPU the gradient of a convolution inside a scan runs 5 to 30 times slower; going forward is no slower."""
    shapes = jax.eval_shape(lambda: (*case.variables, case.batch, KEY))
    step = jax.make_jaxpr(WorkloadLoss(case.workload).value_and_grad)(*shapes)
    assert looped_convolutions(step.jaxpr) == 0
    if looped_convolutions(step.jaxpr, inside=True):
        assert case.workload.info.dispatch_steps.get("cpu", 1) == 1, "steps are scanned within a dispatch"


def test_a_convolution_in_a_loop_is_noticed() -> None:
    def program(x):
        convolve = lambda x: jax.lax.conv(x, x, (1, 1), "SAME")  # noqa: E731
        return jax.lax.scan(lambda x, _: (jax.jit(convolve)(x), None), convolve(x), None, length=3)[0]

    jaxpr = jax.make_jaxpr(program)(jnp.ones((1, 1, 2, 2))).jaxpr
    assert looped_convolutions(jaxpr) == 1
    assert looped_convolutions(jaxpr, inside=True) == 2


def looped_convolutions(jaxpr: Any, inside: bool = False) -> int:
    """Count the convolutions within scans and while loops of a jaxpr (`inside`: all of them)."""
    found = 0
    for eqn in jaxpr.eqns:
        found += inside and eqn.primitive.name == "conv_general_dilated"
        loop = inside or eqn.primitive.name in ("scan", "while")
        for value in eqn.params.values():
            for item in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    found += looped_convolutions(inner, loop)
    return found


def equal(one: Any, other: Any) -> bool:
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def examples(arrays: Any) -> list[bytes]:
    """Return a hash of the content of each example: its inputs, so that a relabelled copy counts as one."""
    inputs = [array for name, array in sorted(arrays.items()) if name not in ("label", "y")]
    assert len({len(array) for array in arrays.values()}) == 1
    return [hashlib.sha256(b"".join(a.tobytes() for a in row)).digest() for row in zip(*inputs, strict=True)]


# ---- held-out variants ----

INFOS = {name: discovery.workload_info(folder) for name, folder in FOLDERS.items()}
VARIED = [
    (name, v) for name, info in INFOS.items() if info.small is None for v in info.variants if v != "repeated"
]  # which changes no step
LARGE = [(name, v) for name, info in INFOS.items() if info.small for v in (None, "wide", "norm")]  # other shapes
LARGE += [("lm_books", "mup"), ("mae_base_imagenet", "mup"), ("resnet50_imagenet", "ghost")]  # other programs in bf16
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.mark.parametrize(("name", "variant"), VARIED)
def test_each_variant_trains(name: str, variant: str, with_data) -> None:
    """Thirty steps of AdamW on one small batch take a good part of its loss away."""
    with_data(discovery.workload_info(FOLDERS[name]).datasets)
    case = Case(discovery.load_workload(FOLDERS[name], variant))
    own = load(name)
    params, model_state = jax.jit(case.workload.init).lower(KEY).compile(QUICK)(KEY)
    optimizer = optax.adamw(3e-3)

    def step(params, model_state, opt_state, batch, key):
        (value, model_state), grads = WorkloadLoss(case.workload).value_and_grad(params, model_state, batch, key)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), model_state, opt_state, value

    state = (params, model_state, optimizer.init(params))
    compiled = jax.jit(step).lower(*state, own.batch, KEY).compile(QUICK)
    losses = []
    for _ in range(30):
        *state, value = compiled(*state, own.batch, KEY)
        losses.append(float(value))
    assert losses[-1] < 0.9 * losses[0], losses
    info, base = case.workload.info, own.workload.info
    assert (info.variant, info.target.value) == (variant, None)
    assert info.batch_size == (2 if variant == "batch" else 1) * base.batch_size
    shapes = jax.tree.map(jnp.shape, params)
    same_model = shapes == jax.tree.map(jnp.shape, own.variables[0])
    assert same_model == (variant not in ("wide", "norm") or (variant, name[:6]) == ("norm", "resnet"))
    if variant == "init":
        kernels = [k for k in jax.tree.leaves(own.variables[0]) if k.ndim > 1]
        doubled = [k for k in jax.tree.leaves(params) if k.ndim > 1]
        ratios = [float(jnp.std(d) / jnp.std(k)) for d, k in zip(doubled, kernels, strict=True)]
        assert sum(abs(r - 2) < 1e-3 for r in ratios) >= len(ratios) - 1, "all but the output layer of the ResNets"


@cache
def shapes_of_training_set(name: str) -> dict[str, jax.ShapeDtypeStruct]:
    stated = discovery.load_data(FOLDERS[name]).shapes["train"]
    assert {shape[0] for shape, _ in stated.values()} == {INFOS[name].num_train_examples}
    return {key: jax.ShapeDtypeStruct(shape, dtype) for key, (shape, dtype) in stated.items()}


@pytest.mark.parametrize(("name", "variant"), LARGE)
def test_each_variant_of_a_large_workload_has_its_shapes(name: str, variant: str | None) -> None:
    """Traced and never run: the loss of a whole batch, and which shapes a variant changes."""
    workload, base = (discovery.load_workload(FOLDERS[name], v) for v in (variant, None))
    (params, model_state), (own, _) = (jax.eval_shape(w.init, KEY) for w in (workload, base))
    index = jax.ShapeDtypeStruct((workload.info.batch_size,), jnp.int32)
    batch = jax.eval_shape(workload.batch, shapes_of_training_set(name), index, KEY)
    value, _ = jax.eval_shape(WorkloadLoss(workload).value, params, model_state, batch, KEY)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert (workload.info.variant, workload.info.target.value) == (
        variant,
        INFOS[name].target.value if not variant else None,
    )
    same_model = jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, own)
    assert same_model == (variant not in ("wide", "norm") or (variant, name[:6]) == ("norm", "resnet"))
    assert workload.flops is not None
    assert workload.flops > 0


RUNGS = [name for name in discovery.find_all("workloads") if scale_ladder.is_rung(name)]


@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_has_the_data_of_its_workload_and_another_width(name: str) -> None:
    """Traced and never run; no data are read."""
    folder, base = discovery.find("workloads", name), FOLDERS[name.rpartition("_w")[0]]
    data, own = discovery.load_data(folder), discovery.load_data(base)
    assert (data.shapes, data.batch, data.info.name) == (own.shapes, own.batch, name)
    workload, model = discovery.load_workload(folder), discovery.load(folder).MODEL
    assert workload.info == data.info and model.width == int(name.rpartition("_w")[2])
    base_model = discovery.load(base).MODEL
    assert replace(model, width=base_model.width, heads=base_model.heads) == base_model
    params, model_state = jax.eval_shape(workload.init, KEY)
    arrays = {key: jax.ShapeDtypeStruct(shape, dtype) for key, (shape, dtype) in data.shapes["train"].items()}
    index = jax.ShapeDtypeStruct((SIZE,), jnp.int32)
    batch = jax.eval_shape(workload.batch, arrays, index, KEY)
    value, _ = jax.eval_shape(WorkloadLoss(workload).value, params, model_state, batch, KEY)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert model.width in {axis for leaf in jax.tree.leaves(params) for axis in leaf.shape}


def test_a_rung_is_exported_without_the_folder_of_its_workload() -> None:
    """A confined process reads the folder of the workload that it exports, and no other one's target."""
    code = """if True:
        import sys
        from harness.program import discovery
        for name, folder in discovery.find_all("workloads").items():
            if name.rpartition("_w")[0] in ("lm_grammar", "lm_books"):
                discovery.load_workload(folder)
        read = [name for name in sys.modules if name.endswith(("lm_grammar.workload", "lm_books.workload"))]
        sys.exit(f"imported {read}" if read else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_variant_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lm_grammar has no variant 'wider'; did you mean 'wide'\?"):
        discovery.workload_info(FOLDERS["lm_grammar"], "wider")
    with pytest.raises(ConfigError, match="quadratic has no variant 'wide'; it has none"):
        discovery.load_workload(FOLDERS["quadratic"], "wide")


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("small", [False, True])
def test_the_shapes_stated_are_those_of_the_data(name: str, small: bool, with_data) -> None:
    info = discovery.workload_info(FOLDERS[name])
    if small and info.small is None:
        return
    if not small and any(store.find(dataset).images for dataset in info.datasets):
        pytest.skip("the tests draw images for the small form alone")
    with_data(info.datasets)
    data = discovery.load_data(FOLDERS[name], SMALL if small else None)
    splits = data.load()  # compares them
    assert len(next(iter(splits.train.values()))) == data.info.num_train_examples
    assert set(data.shapes) == {"train", "validation_slice", "validation", "test"}
    workload = discovery.load_workload(FOLDERS[name], SMALL if small else None)
    assert (workload.shapes, workload.info) == (data.shapes, data.info)


def test_data_of_other_shapes_than_stated_are_refused() -> None:
    data = discovery.load_data(FOLDERS["quadratic"])
    wrong = replace(data, shapes={**data.shapes, "test": {"x": ((1, 16), "float32")}})
    with pytest.raises(WorkloadError, match=r"quadratic: test has the arrays .*512, 16.* stated are .*\(1, 16\)"):
        wrong.load()
    stated = {split: shapes for split, shapes in data.shapes.items() if split != "test"}
    with pytest.raises(WorkloadError, match=r"quadratic: test has the arrays .*512, 16.* stated are \{\}"):
        replace(data, shapes=stated).load()
    more = replace(data, info=replace(data.info, num_train_examples=4096))
    with pytest.raises(WorkloadError, match=r"train has the arrays .*2048, 16.*, num_train_examples is 4096"):
        more.load()


def test_a_model_loads_no_data_of_other_shapes_than_stated(tmp_path: Path) -> None:
    """`harness check --debug`, the losses of `harness.trial.golden` and scripts take the data from the workload."""
    folder = tmp_path / "workloads" / "quadratic"
    shutil.copytree(FOLDERS["quadratic"].path, folder, ignore=shutil.ignore_patterns("__pycache__"))
    model = (folder / "model.py").read_text()
    assert "splits=data.load," in model
    (folder / "model.py").write_text(model.replace("splits=data.load,", "splits=data.splits,"))
    text = (folder / "workload.py").read_text()
    (folder / "workload.py").write_text(text.replace('{"x": ((INPUTS,)', '{"x": ((INPUTS + 1,)'))
    workload = discovery.load_workload(discovery.Folder("workloads", "quadratic", folder))
    with pytest.raises(WorkloadError, match=r"quadratic: train has the arrays .*2048, 16.* stated are .*2048, 17"):
        workload.splits()


def test_data_need_no_model_library() -> None:
    """A trial that runs programs imports the data and the batches of a workload, and neither flax nor optax."""
    code = """if True:
        import sys
        from harness.program import discovery
        for folder in discovery.find_all("workloads").values():
            discovery.load_data(folder)
        heavy = [name for name in ("flax", "optax", "orbax") if name in sys.modules]
        sys.exit(f"imported {heavy}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
