"""Held-out variants of some families: the maximal update parametrisation, Ghost BatchNorm, fewer training examples."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from harness.api import ParamKind
from harness.campaign import scale_ladder
from harness.program import discovery
from harness.program.nnx_adapter import Model
from harness.program.workload import SMALL
from harness.scoring.variants import KNOWN
from workloads.families import gpt, mae, subsets
from workloads.families.layers import GhostBatchNorm, normalisation
from workloads.families.spec import GPT, MAE, ResNet, varied

KEY = jax.random.key(0)
INFOS = {name: discovery.workload_info(folder) for name, folder in discovery.find_all("workloads").items()}


def test_every_variant_has_a_column_in_the_table() -> None:
    assert {variant for info in INFOS.values() for variant in info.variants} == {*KNOWN, SMALL}


# ---- maximal update parametrisation

TINY = GPT(vocabulary=11, length=16, layers=1, width=16, heads=2)
TINY_MAE = MAE(
    size=8, channels=1, patch=2, visible=8, layers=1, width=16, heads=2,
    decoder_layers=1, decoder_width=8, decoder_heads=1,
)  # fmt: skip
MODELS = {
    "GPT": (TINY, lambda spec: Model(lambda rngs: gpt.GPT(spec, rngs, "plain"))),
    "bf16": (
        replace(TINY, dtype="bfloat16", rotary=True, chunked=True),
        lambda spec: Model(lambda rngs: gpt.GPT(spec, rngs, "xla")),
    ),
    "MAE": (TINY_MAE, lambda spec: Model(lambda rngs: mae.MAE(spec, rngs, ("plain", "plain")))),
}
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TOKENS = jax.random.randint(KEY, (8, 16), 0, TINY.vocabulary)


def given_to(spec: GPT | MAE) -> tuple:
    """Return inputs of the model."""
    if isinstance(spec, GPT):
        return (TOKENS,)
    tables = (mae.sine_cosine(4, width)[None] for width in (spec.width, spec.decoder_width))
    visible_BVX = jax.random.normal(KEY, (1, spec.visible, 4))
    encoder, decoder = tables
    return visible_BVX, (jnp.asarray(encoder[:, : spec.visible]), jnp.asarray(decoder))


@pytest.mark.parametrize("name", MODELS)
def test_matrices_and_the_output_layer_are_multiplied_by_one_over_the_ratio(name: str) -> None:
    """Stored that many times as large they give what the standard model gives, so a step of Adam does that much less;
    and hidden matrices start at that size, so the model starts as the standard one but for its output layer.
    """
    spec, make = MODELS[name]
    plain, mup = make(spec), make(varied(spec, "mup"))
    params, started = (jax.jit(model.init)(KEY)[0] for model in (plain, mup))
    ratios = {ParamKind.MATRIX: 2.0, ParamKind.HEAD: 2.0**0.5}
    for info, own, other in zip(*map(jax.tree.leaves, (plain.param_info, params, started)), strict=True):
        np.testing.assert_allclose(other, ratios.get(info.kind, 1.0) * own, rtol=1e-6)

    def larger(info, kernel):
        return 2 * kernel if info.kind in ratios else kernel

    @partial(jax.jit, static_argnums=0)
    def outputs(model: Model, params) -> jax.Array:
        module = model.bind(params, {}, train=True)
        if module.head.bias is not None:  # which is added as it is
            module.head.bias[...] = jnp.ones_like(module.head.bias[...])
        out = module(*given_to(spec))
        return (out if name == "MAE" else module.head(out)).astype(jnp.float32)

    found = outputs(mup, jax.tree.map(larger, mup.param_info, params))
    np.testing.assert_allclose(found, outputs(plain, params), rtol=1e-5, atol=1e-6)


def moved(width: int, mup: float, steps: int = 4) -> tuple[float, float]:
    """Return how much steps of AdamW move the residual stream behind the blocks, and the logits: root mean squares."""
    spec = replace(TINY, width=width, heads=width // 8, mup=mup)
    model = MODELS["GPT"][1](spec)

    def stream_and_logits(params):
        module = model.bind(params, {}, train=True)
        x_BTD = module.embedded(TOKENS)
        for block in module.blocks:
            x_BTD = block(x_BTD)
        return x_BTD, module.head(module(TOKENS))

    def run(params):
        optimizer = optax.adamw(3e-3)

        def step(carry, _):
            params, state = carry
            loss = lambda p: model.bind(p, {}, train=True).losses(TOKENS, jnp.roll(TOKENS, 1, axis=1)).mean()  # noqa: E731
            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        (after, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), None, length=steps)
        pairs = zip(stream_and_logits(after), stream_and_logits(params), strict=True)
        return tuple(jnp.sqrt(jnp.square(new - old).mean()) for new, old in pairs)

    params = jax.jit(model.init).lower(KEY).compile(QUICK)(KEY)[0]
    stream, logits = jax.jit(run).lower(params).compile(QUICK)(params)
    return float(stream), float(logits)


def test_the_coordinate_check() -> None:
    """What a few steps of AdamW move is the same at every width, and without the parametrisation grows with it (Yang et
    al. 2022, arXiv:2203.03466, appendix D.1).
    """
    narrow, standard, wide = moved(16, 1.0), moved(128, 1.0), moved(128, 8.0)
    for before, grown, flat in zip(narrow, standard, wide, strict=True):
        assert grown > 2.5 * before, (narrow, standard)
        assert before / 1.6 < flat < 1.6 * before, (narrow, wide)


def test_all_rungs_of_a_ladder_are_over_one_base() -> None:
    for name in filter(scale_ladder.is_rung, INFOS):
        folder, base = (discovery.load(discovery.find("workloads", n)) for n in (name, name.rpartition("_w")[0]))
        assert folder.RUNG.base == base.MODEL
        mup = folder.RUNG.varied("mup")
        assert mup.width / mup.mup == base.MODEL.width / varied(base.MODEL, "mup").mup
        assert replace(mup, mup=1.0) == folder.MODEL == folder.RUNG.varied(None)


# ---- Ghost BatchNorm


def batch_norm(virtual_batch: int | None) -> nnx.Module:
    return normalisation("batch", 3, nnx.Rngs(0), virtual_batch=virtual_batch, gain=1.5)


def test_each_virtual_batch_is_normalised_by_itself() -> None:
    x_BHWC = 2.0 + jax.random.normal(KEY, (8, 2, 2, 3)) * jnp.arange(1.0, 9.0)[:, None, None, None]
    ghost, plain, halves = batch_norm(4), batch_norm(None), [batch_norm(None), batch_norm(None)]
    assert isinstance(ghost, GhostBatchNorm)
    for norm in (ghost, plain, *halves):
        norm.train()
    expected = jnp.concatenate([half(x) for half, x in zip(halves, jnp.split(x_BHWC, 2), strict=True)])
    np.testing.assert_allclose(ghost(x_BHWC), expected, rtol=1e-4, atol=1e-5)
    for name in ("mean", "var"):
        average = sum(getattr(half, name)[...] for half in halves) / 2
        np.testing.assert_allclose(getattr(ghost, name)[...], average, rtol=1e-5)
    assert float(jnp.abs(plain(x_BHWC) - expected).max()) > 0.5
    ghost.eval()
    mean, var = (stat[...][None, None, None] for stat in (ghost.mean, ghost.var))
    running = (x_BHWC - mean) * jax.lax.rsqrt(var + 1e-5) * 1.5
    np.testing.assert_allclose(ghost(x_BHWC), running, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("images", "size"), [(1, 1), (3, 3), (5, 5), (6, 6), (7, 7), (8, 4), (9, 9), (10, 5)])
def test_any_number_of_images_makes_virtual_batches_of_one_size(images: int, size: int) -> None:
    """The least from 4 on that divides it, or all where there are fewer."""
    x_BHWC = jax.random.normal(KEY, (images, 1, 2, 3))
    norm = batch_norm(4)
    norm.train()
    means = norm(x_BHWC).reshape(images // size, -1, 3).mean(axis=1)
    np.testing.assert_allclose(means, np.zeros_like(means), atol=1e-5)
    assert images < 8 or float(jnp.abs(norm(x_BHWC)[: size - 1].mean((0, 1, 2))).max()) > 1e-3


def test_only_workloads_with_batch_norm_have_the_variant() -> None:
    """And its batch holds more than one virtual one."""
    for name, info in INFOS.items():
        model = getattr(discovery.load(discovery.find("workloads", name)), "MODEL", None)
        if info.variants and hasattr(model, "virtual_batch"):
            assert ("ghost" in info.variants) == (model.norm == "batch")
            assert "ghost" not in info.variants or info.batch_size >= 2 * varied(model, "ghost").virtual_batch
    assert varied(ResNet(1, 10), "norm").virtual_batch is None


# ---- fewer training examples

LANGUAGE_MODELS = {name: info for name, info in INFOS.items() if "repeated" in info.variants}


@cache
def epochs(name: str, variant: str | None) -> float:
    """Return how often a run to the step hint goes through the training data."""
    info = discovery.load_data(discovery.find("workloads", name), variant).info
    return info.step_hint * info.batch_size / info.num_train_examples


def test_a_run_sees_no_example_twice_but_of_books_and_of_the_variant() -> None:
    """The figures of workloads/families/README.md."""
    found = {name: (round(epochs(name, None), 2), round(epochs(name, "repeated"), 1)) for name in LANGUAGE_MODELS}
    assert found == {
        "lm_books": (1.71, 13.7),
        "lm_fineweb": (1.0, 8.3),
        "lm_grammar": (0.5, 4.0),
        "lm_shakespeare": (0.82, 6.5),
    }
    assert epochs("lm_fineweb", None) <= 1


def test_repeated_data_are_each_eighth_training_example() -> None:
    folder = discovery.find("workloads", "lm_grammar")
    data, base = (discovery.load_data(folder, variant) for variant in ("repeated", None))
    few, all_ = data.load(), base.load()  # which compare them with the shapes stated
    assert np.array_equal(few.train["tokens"], all_.train["tokens"][:: subsets.EVERY])
    assert (data.info.num_train_examples, data.info.target.value) == (4_800, None)
    for split in ("validation_slice", "validation", "test"):
        assert np.array_equal(getattr(few, split)["tokens"], getattr(all_, split)["tokens"])
