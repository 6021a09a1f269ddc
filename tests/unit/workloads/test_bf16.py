"""The families for accelerators: the loss over a vocabulary, attention, model FLOPs, and what is computed in which
precision; on a CPU, in small.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import in_process
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from harness.program import discovery, seeds
from harness.program.draws import Keys
from harness.program.loss import WorkloadLoss
from harness.program.workload import SMALL, Data
from harness.trial.programs import Inputs, compile_yardstick, variables_function
from workloads.families import attention, batches, flops, spec, vocabulary
from workloads.families.layers import cross_entropy

KEY = jax.random.key(0)
FOLDERS = {name: discovery.find("workloads", name) for name in ("lm_books", "resnet18_cifar10", "mae_small_cifar10")}


# ---- cross entropy


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(vocabulary, "CHUNK", 16)


def inputs(B: int = 6, T: int = 8, D: int = 16, V: int = 40):
    keys = jax.random.split(KEY, 3)
    x = jax.random.normal(keys[0], (B, T, D))
    kernel = 0.3 * jax.random.normal(keys[1], (D, V))
    return x, kernel, jax.random.randint(keys[2], (B, T), 0, V)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_and_gradients_are_those_of_the_plain_loss(small_chunks, smoothing):
    """In float32 both agree to rounding; so what differs in bf16 is rounding too."""
    x, kernel, targets = inputs()
    weights = jnp.linspace(0.5, 1.5, 6)[:, None]

    def total(loss):
        return lambda x, kernel, s: (weights * loss(x, kernel, s)).sum()

    own = total(lambda x, kernel, s: vocabulary.token_losses(x, kernel, targets, s))
    plain = total(lambda x, kernel, s: cross_entropy(x @ kernel, targets, s))
    args = (x, kernel, smoothing)
    np.testing.assert_allclose(jax.jit(own)(*args), jax.jit(plain)(*args), rtol=1e-5)
    for a, b in zip(*(jax.jit(jax.grad(f, argnums=(0, 1, 2)))(*args) for f in (own, plain)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    # Forward, and twice: a Hessian-vector product.
    direction = (jnp.ones_like(x), jnp.ones_like(kernel), 0.0)
    hvps = [jax.jit(lambda *a, f=f: jax.jvp(jax.grad(f, argnums=(0, 1)), a, direction)[1])(*args) for f in (own, plain)]
    for a, b in zip(*hvps, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_gradients_in_bf16_are_near_those_in_float32(small_chunks):
    x, kernel, targets = inputs()

    def mean(x, kernel):
        return vocabulary.token_losses(x, kernel, targets).mean()

    exact = jax.grad(mean, argnums=(0, 1))(x, kernel)
    rounded = jax.grad(mean, argnums=(0, 1))(x.astype(jnp.bfloat16), kernel)
    assert [g.dtype for g in rounded] == [jnp.bfloat16, jnp.float32]
    for a, b in zip(rounded, exact, strict=True):
        assert float(jnp.linalg.norm(a.astype(jnp.float32) - b) / jnp.linalg.norm(b)) < 0.01


def test_no_float32_logits_of_a_whole_batch(small_chunks):
    x, kernel, targets = inputs()
    step = jax.make_jaxpr(jax.grad(lambda x, k: vocabulary.token_losses(x, k, targets).mean(), argnums=(0, 1)))
    tokens, V = targets.size, kernel.shape[1]
    avals = [v.aval for v in variables(step(x.astype(jnp.bfloat16), kernel).jaxpr)]
    dtypes = {aval.dtype for aval in avals if aval.size >= tokens * V}
    assert dtypes == {jnp.dtype(jnp.bfloat16)}, "kept for the backward pass, in bf16"


# ---- attention


def test_attention_falls_back_and_says_why(monkeypatch):
    attention.choose.cache_clear()
    assert attention.choose(512, 4, 128, causal=True) == attention.Choice("xla", "no GPU")
    assert attention.choose(512, 4, 128, causal=True, dtype="float32").implementation == "plain"
    assert (attention.trouble("cudnn", 16, 2, 8, causal=True) or "").split(":")[0] in (
        "RuntimeError",
        "JaxRuntimeError",
    )
    assert attention.trouble("xla", 16, 2, 8, causal=True) is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    attention.choose.cache_clear()
    assert attention.choose(16, 6, 64, causal=False).reason == "16 positions are too few to gain"
    chosen = attention.choose(128, 1, 8, causal=True)
    assert chosen.implementation == "xla"
    assert chosen.reason.startswith("cudnn failed: ")
    monkeypatch.setattr(attention, "trouble", lambda *_, **__: None)
    attention.choose.cache_clear()
    assert attention.choose(512, 4, 128, causal=True).implementation == "cudnn"
    monkeypatch.setenv("HARNESS_ATTENTION", "xla")
    attention.choose.cache_clear()
    assert attention.choose(512, 4, 128, causal=True).implementation == "xla"
    attention.choose.cache_clear()


def test_a_wrong_implementation_is_noticed(monkeypatch):
    right = attention.attend

    def wrong(q, k, v, *, causal, implementation):
        return right(q, k, v, causal=causal and implementation == "xla", implementation="xla")

    monkeypatch.setattr(attention, "attend", wrong)
    assert attention.trouble("cudnn", 16, 2, 8, causal=True) == "its forward differs from xla's"


def test_rotary_positions_turn_pairs_and_see_distances_alone():
    x = jax.random.normal(KEY, (1, 1, 1, 8))
    turned = attention.rotary(jnp.broadcast_to(x, (1, 6, 1, 8)))[0, :, 0]
    np.testing.assert_allclose(turned[0], x[0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(turned, axis=1), jnp.full(6, jnp.linalg.norm(x)), rtol=1e-5)
    products = turned @ turned.T
    np.testing.assert_allclose(products[0, 2], products[3, 5], rtol=1e-4)
    assert abs(float(products[0, 2] - products[0, 1])) > 1e-3


# ---- model FLOPs, against what XLA counts


def counted(workload: Any, size: int) -> float:
    """FLOPs of XLA's for one example of a gradient; on the way there, elementwise operations are counted too."""
    params, model_state = jax.eval_shape(workload.init, KEY)
    arrays = {k: jax.ShapeDtypeStruct((size, *a.shape[1:]), a.dtype) for k, a in workload.splits().train.items()}
    batch = jax.eval_shape(workload.batch, arrays, jax.ShapeDtypeStruct((size,), jnp.int32), KEY)
    lowered = jax.jit(WorkloadLoss(workload).value_and_grad).lower(params, model_state, batch, KEY)
    return lowered.cost_analysis()["flops"] / size


def test_flops_are_those_that_xla_counts(with_data):
    with_data(["classic_books", "cifar10"])
    modules = {name: discovery.load(folder) for name, folder in FOLDERS.items()}
    models = {name: module.SMALL_MODEL for name, module in modules.items()}
    for name, own in (
        ("lm_books", flops.gpt(models["lm_books"], causal=False)),
        ("resnet18_cifar10", flops.resnet(models["resnet18_cifar10"], 16, padding=False)),
        ("mae_small_cifar10", flops.mae(models["mae_small_cifar10"])),
    ):
        ratio = counted(discovery.load_workload(FOLDERS[name], SMALL), 8) / own
        assert 1.0 <= ratio < 1.3, f"{name}: {ratio}"  # 1.0 to 1.3: narrow models have many elementwise operations


def test_flops_by_hand():
    # Two tokens, width 2, a vocabulary of 3: a layer multiplies each token with 12 * 2 * 2 weights, the head with 6;
    # three pairs under the mask take 2 products of width 2.
    one = spec.GPT(vocabulary=3, length=2, layers=1, width=2, heads=1)
    assert flops.gpt(one) == 3 * 2 * (2 * 48 + 3 * 2 * 2 + 2 * 6)
    # A 3x3 convolution on 2x2 pixels: every output sees 4 of its 9 taps, the others are padding.
    net = spec.ResNet(channels=1, classes=1, widths=(1,), blocks=0)
    assert flops.resnet(net, 2, padding=False) == 2 * 2 * (4 * 4) + 3 * 2
    assert flops.resnet(net, 2) == 2 * 2 * (4 * 9) + 3 * 2


def test_flops_of_the_workloads():
    """The orders that the suite was planned by: 189 MFLOP a token, 3.3 GFLOP and 2.8 GFLOP an image."""
    models = {name: discovery.load(folder).MODEL for name, folder in FOLDERS.items()}
    assert flops.gpt(models["lm_books"]) / 512 == pytest.approx(189e6, rel=0.01)
    assert flops.resnet(models["resnet18_cifar10"], 32) == pytest.approx(3.33e9, rel=0.01)
    assert flops.mae(models["mae_small_cifar10"]) == pytest.approx(2.79e9, rel=0.01)


# ---- precision, evaluation, the scanned step


@pytest.mark.parametrize("name", FOLDERS)
def test_products_are_in_bf16(name, with_data):
    with_data(discovery.workload_info(FOLDERS[name]).datasets)
    workload = discovery.load_workload(FOLDERS[name], SMALL)
    params, model_state = jax.eval_shape(workload.init, KEY)
    arrays = {k: jax.ShapeDtypeStruct((64, *a.shape[1:]), a.dtype) for k, a in workload.splits().train.items()}
    batch = jax.eval_shape(workload.batch, arrays, jax.ShapeDtypeStruct((64,), jnp.int32), KEY)
    step = jax.make_jaxpr(WorkloadLoss(workload).value_and_grad)(params, model_state, batch, KEY)
    for eqn in equations(step.jaxpr):
        name_of, (one, other) = eqn.primitive.name, ([v.aval for v in eqn.invars] + [None, None])[:2]
        if name_of == "conv_general_dilated":
            assert one.shape[3] % 8 == 0 or one.shape[0] % 8 == 0, (one, other)
        elif name_of != "dot_general" or eqn.params["dimension_numbers"][1][0]:
            continue  # a product for each head, within attention, may be what the implementation likes
        if {16, 10} <= {*one.shape, *other.shape}:
            continue  # the output layer of the ResNet, in float32
        assert {one.dtype, other.dtype} == {jnp.dtype(jnp.bfloat16)}, (one, other)


@pytest.mark.parametrize("name", FOLDERS)
def test_losses_and_gradients_are_those_of_float32(name, with_data, monkeypatch):
    """The same parameters and batch in both: what differs is the rounding of products, to 8 bits."""
    with_data(discovery.workload_info(FOLDERS[name]).datasets)
    module = discovery.load(FOLDERS[name])
    rounded = module.load(SMALL)
    monkeypatch.setattr(module, "SMALL_MODEL", dataclasses.replace(module.SMALL_MODEL, dtype="float32"))
    exact = module.load(SMALL)
    assert (rounded.param_info, jax.eval_shape(rounded.init, KEY)) == (
        exact.param_info,
        jax.eval_shape(exact.init, KEY),
    )
    params, model_state = exact.init(KEY)
    # Gains that start at 0 hide the gradients behind them.
    params = jax.tree.map(lambda p: p + 0.02 * jax.random.normal(KEY, p.shape), params)
    splits = exact.splits()
    batch = exact.batch({k: v[:32] for k, v in splits.train.items()}, jnp.arange(32), KEY)
    part = {k: jnp.asarray(v[:32]) for k, v in splits.validation_slice.items()}
    found = []
    for workload in (rounded, exact):
        (loss, _), grads = jax.jit(WorkloadLoss(workload).value_and_grad)(params, model_state, batch, KEY)
        found.append((loss, jax.jit(workload.evaluate)(params, model_state, part)["loss"], grads))
    (loss, measured, grads), (exact_loss, exact_measured, exact_grads) = found
    np.testing.assert_allclose([loss, measured], [exact_loss, exact_measured], rtol=1e-3)
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype("float32")}
    whole, exact_whole = (jax.flatten_util.ravel_pytree(g)[0] for g in (grads, exact_grads))
    assert relative(whole, exact_whole) < 0.02  # 0.005 to 0.007
    assert max(jax.tree.leaves(jax.tree.map(relative, grads, exact_grads))) < 0.1  # 0.06: a bias of norm 4e-4


def relative(own: jax.Array, other: jax.Array) -> float:
    return float(jnp.linalg.norm(own - other) / jnp.linalg.norm(other))


def test_bits_per_byte_do_not_depend_on_the_tokenizer(with_data):
    """A model that gives every token the same probability needs log2(V) bits a token, over its bytes."""
    with_data(["classic_books"])
    workload = discovery.load_workload(FOLDERS["lm_books"], SMALL)
    params, state = jax.eval_shape(workload.init, KEY)
    params = jax.tree.map(lambda p: jnp.zeros(p.shape, p.dtype), params)
    arrays = {k: jnp.asarray(v[:8]) for k, v in workload.splits().validation.items()}
    found = jax.jit(workload.evaluate)(params, state, arrays)
    np.testing.assert_allclose(found["loss"], np.log(8192), rtol=1e-5)
    np.testing.assert_allclose(found["bits_per_byte"], 13 * 8 * 64 / float(arrays["bytes"].sum()), rtol=1e-5)


def test_bytes_are_those_of_the_text_that_is_predicted(with_data):
    with_data(["classic_books"])
    from harness.data import bpe, store

    held = store.load("classic_books")
    whole = discovery.load(FOLDERS["lm_books"]).splits().validation
    for window in (0, 7):
        text = bpe.decode(whole["tokens"][window, 1:], held["merges"])
        assert whole["bytes"][window] == len(text)
    # The tokenizer and its tokens are those that the workload was made with, and give the whole text back.
    info = discovery.workload_info(FOLDERS["lm_books"])
    assert store.content_sha256(held) == info.datasets["classic_books"]
    lengths = np.array([len(t) for t in bpe.spellings(held["merges"])])
    assert lengths[held["validation"]].sum() == store.find("classic_books").facts["bytes"]["validation"]


def test_steps_scanned_within_a_dispatch_are_the_same_steps(with_data):
    """The way a GPU takes, on a CPU; and nothing goes between host and device on it."""
    with_data(["cifar10"])
    workload = discovery.load_workload(FOLDERS["mae_small_cifar10"], SMALL)
    workload = dataclasses.replace(workload, info=dataclasses.replace(workload.info, batch_size=4))
    train = jax.device_put(dict(workload.splits().train))
    keys = Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation")))
    own = in_process.workload_program(workload)
    losses = []
    for dispatch in (1, 4):
        info = dataclasses.replace(workload.info, dispatch_steps={"cpu": dispatch})
        data = Data(info, workload.shapes, workload.splits, workload.batch)
        begin, step = compile_yardstick(own, data, train, platform="cpu")
        state = begin(*variables_function(own)(keys.init))
        first = jax.tree.leaves(state)[0]
        with jax.transfer_guard("disallow"):
            series = []
            for _ in range(4 // dispatch):
                state, metrics = step(state, Inputs(keys), train)
                series.append(metrics["loss"])
        assert first.is_deleted(), "the state is donated"
        losses.append(np.concatenate(series))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    assert len(set(losses[0].tolist())) == 4


def test_masks_of_evaluation_are_fixed():
    assert np.array_equal(batches.fixed_orders(3, 64, 20), batches.fixed_orders(5, 64, 20)[:3])


def equations(jaxpr: Any) -> Iterator[Any]:
    """Yield the equations of a jaxpr, those within loops and calls included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for item in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)


def variables(jaxpr: Any) -> Iterator[Any]:
    for eqn in equations(jaxpr):
        yield from eqn.outvars
