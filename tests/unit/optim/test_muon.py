"""Orthogonalisation, Muon and NorMuon beside numbers worked by hand, and what must not change the result.

One Newton-Schulz step takes a singular value 1 to ONE = 3.4445 - 4.7750 + 2.0315; a matrix with one row or column has
no other, once it is normalised.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import ParamInfo, ParamKind
from harness.errors import SubmissionError
from harness.optim import orthogonalize as module
from harness.optim.muon import muon
from harness.optim.normuon import normuon
from harness.optim.orthogonalize import JORDAN, orthogonalize

ONE = 3.4445 - 4.7750 + 2.0315
MATRIX = ParamInfo(ParamKind.MATRIX, (0,), (1,))
HAND = {"momentum": 0.0, "ns_steps": 1, "ns_eps": 0.0}


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def step(rule: optax.GradientTransformation, params, *gradients):
    """Return the update after the last of the gradients."""
    state = rule.init(params)
    for grads in gradients:
        updates, state = rule.update(grads, state, params)
    return updates


def direction(grads, info, rule=muon, **options):
    """Return what the rule turns a first gradient into: lr 1, no decay."""
    return jax.tree.map(jnp.negative, step(rule(1.0, info, **options), grads, grads))


# ---- orthogonalize ----


def test_one_step_by_hand():
    """Singular values (3, 4) / 5: x -> a x + b x^3 + c x^5."""
    a, b, c = JORDAN
    expected = [a * x + b * x**3 + c * x**5 for x in (0.6, 0.8)]
    np.testing.assert_allclose(orthogonalize(jnp.diag(jnp.array([3.0, 4.0])), steps=1), np.diag(expected), rtol=1e-5)


@pytest.mark.parametrize(("clamp", "length"), [(False, 5.0 + 20.0), (True, 20.0)])
def test_eps_is_added_to_the_norm_or_bounds_it(clamp, length):
    x = orthogonalize(jnp.array([[3.0, 4.0]]), coeffs=(1.0, 0.0, 0.0), eps=20.0, clamp=clamp)
    np.testing.assert_allclose(x, [[3 / length, 4 / length]], rtol=1e-6)


def test_singular_values_end_near_one():
    values = jnp.linalg.svd(orthogonalize(draw(4, 20, 30)), compute_uv=False)
    assert float(values.min()) > 0.6
    assert float(values.max()) < 1.2


def test_singular_vectors_are_kept():
    x = draw(6, 9)
    u, _, vt = jnp.linalg.svd(x, full_matrices=False)
    inside = u.T @ orthogonalize(x) @ vt.T
    np.testing.assert_allclose(inside, jnp.diag(jnp.diag(inside)), atol=1e-5)
    assert float(jnp.diag(inside).min()) > 0.6


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 7)])
def test_transposed_matrix_transposed_result(shape):
    x = draw(*shape)
    np.testing.assert_allclose(orthogonalize(x.T), orthogonalize(x).T, atol=1e-6)


def test_leading_axes_are_a_batch():
    x = draw(2, 3, 4, 6)
    each = jnp.stack([jnp.stack([orthogonalize(m) for m in row]) for row in x])
    np.testing.assert_allclose(orthogonalize(x), each, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(st.floats(1e-6, 1e6))
def test_scale_does_not_matter(scale):
    x = draw(4, 6)
    np.testing.assert_allclose(orthogonalize(scale * x, eps=0.0), orthogonalize(x, eps=0.0), atol=1e-5)


@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_zeros_stay_zeros(eps):
    np.testing.assert_array_equal(orthogonalize(jnp.zeros((2, 3, 4)), eps=eps), 0)


def test_a_triple_for_each_step():
    x = draw(3, 4)
    np.testing.assert_array_equal(orthogonalize(x, coeffs=[JORDAN] * 5), orthogonalize(x))
    one_by_one = orthogonalize(x, coeffs=[(2.0, -1.5, 0.5), (1.5, -0.5, 0.0)], steps=2)
    X = x / jnp.linalg.norm(x)
    for a, b, c in [(2.0, -1.5, 0.5), (1.5, -0.5, 0.0)]:
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    np.testing.assert_allclose(one_by_one, X, atol=1e-6)


@pytest.mark.parametrize("coeffs", [[JORDAN] * 4, (1.0, 2.0), [(1.0, 2.0)] * 5])
def test_coefficients_of_the_wrong_shape(coeffs):
    with pytest.raises(SubmissionError, match="expected \\(a, b, c\\), or 5 such triples"):
        orthogonalize(draw(2, 2), coeffs=coeffs)


def test_dtype_of_the_iterations_only():
    x = draw(16, 24)
    low = orthogonalize(x, dtype="bfloat16")
    assert low.dtype == x.dtype
    difference = float(jnp.abs(low - orthogonalize(x)).max())
    assert 1e-5 < difference < 0.03


@pytest.mark.parametrize("small", [0, module.SMALL])
def test_all_shapes_at_once_are_each_on_its_own(small, monkeypatch):
    """Two shapes, transposed or not, several leaves; as matrices that a CPU batches, and as such that it does not."""
    monkeypatch.setattr(module, "SMALL", small)
    xs = [draw(2, 4, 6), draw(3, 6, 4, seed=1), draw(1, 5, 5, seed=2), draw(1, 4, 6, seed=3), draw(4, 5, 5, seed=4)]
    for x, got in zip(xs, jax.jit(lambda xs: module.orthogonalize_all(xs))(xs), strict=True):
        np.testing.assert_allclose(got, jnp.stack([orthogonalize(m) for m in x]), atol=2e-6)


@pytest.mark.parametrize(("platform", "small", "calls"), [("cpu", 0, 11), ("cuda", 0, 2), ("cpu", module.SMALL, 2)])
def test_one_batched_product_for_each_shape(platform, small, calls, monkeypatch):
    """Eleven matrices of two shapes: 3 products a step and shape, not a matrix, but for big ones on a CPU."""
    monkeypatch.setattr(module, "SMALL", small)
    xs = [draw(2, 4, 6), draw(3, 6, 4), draw(1, 5, 5), draw(1, 4, 6), draw(4, 5, 5)]
    program = jax.jit(lambda xs: module.orthogonalize_all(xs)).trace(xs).lower(lowering_platforms=(platform,)).as_text()
    assert program.count("stablehlo.dot_general") == calls * 5 * 3


# ---- Muon ----


def test_momentum_by_hand():
    """Gradients (1, 0) then (0, 1), momentum 1/2: M = (1/4, 1/2); with Nesterov U = (1/8, 3/4)."""
    info, options = {"w": MATRIX}, {"momentum": 0.5, "ns_steps": 1, "ns_eps": 0.0, "scale": "shape"}
    w, g1, g2 = ({"w": jnp.array([row])} for row in ([8.0, 8.0], [1.0, 0.0], [0.0, 1.0]))
    for nesterov, u in [(True, np.array([0.125, 0.75])), (False, np.array([0.25, 0.5]))]:
        updates = step(muon(0.1, info, nesterov=nesterov, weight_decay=0.01, **options), w, g1, g2)
        o = ONE * u / np.linalg.norm(u)
        # one input, two outputs: s = sqrt(2), which the decay is spared
        np.testing.assert_allclose(updates["w"][0], -0.1 * (2**0.5 * o + 0.01 * 8), rtol=1e-5)


@pytest.mark.parametrize(
    ("scale", "to_four", "to_one"), [("shape", 2.0, 1.0), ("match_rms", 0.4, 0.4), ("spectral", 2.0, 0.5)]
)
def test_scales_by_hand(scale, to_four, to_one):
    """One input and four outputs, then four inputs and one output: a kernel is (in, out)."""
    info = {"up": MATRIX, "down": MATRIX}
    grads = {"up": jnp.array([[3.0, 0, 0, 4]]), "down": jnp.array([[3.0], [0], [0], [4]])}
    got = direction(grads, info, scale=scale, **HAND)
    np.testing.assert_allclose(got["up"], to_four * ONE * np.array([[0.6, 0, 0, 0.8]]), rtol=1e-5)
    np.testing.assert_allclose(got["down"], to_one * ONE * np.array([[0.6], [0], [0], [0.8]]), rtol=1e-5)


@pytest.mark.parametrize(("scale", "length"), [("shape", 10.0), ("match_rms", 5.0), ("spectral", 10.0)])
def test_each_form_guards_the_norm_as_its_source_does(scale, length):
    got = direction(
        {"w": jnp.array([[3.0], [4.0]])},
        {"w": MATRIX},
        scale=scale,
        ns_coeffs=(1.0, 0.0, 0.0),
        momentum=0.0,
        ns_eps=5.0,
    )
    s = {"shape": 1.0, "match_rms": 0.2 * 2**0.5, "spectral": 0.5**0.5}[scale]
    np.testing.assert_allclose(got["w"], s * np.array([[3.0], [4.0]]) / length, rtol=1e-5)


@pytest.mark.parametrize("rule", [muon, normuon])
def test_stacked_layers_qkv_and_experts_are_separate_matrices(rule):
    stacked = ParamInfo(ParamKind.MATRIX, (1,), (3,), ((0, "layer"), (2, "qkv")))
    x = draw(2, 6, 3, 5)
    apart = {f"{layer}{which}": x[layer, :, which] for layer in range(2) for which in range(3)}
    got = direction({"x": x}, {"x": stacked}, rule)["x"]
    each = direction(apart, dict.fromkeys(apart, MATRIX), rule)
    for name, o in each.items():
        np.testing.assert_allclose(got[int(name[0]), :, int(name[1])], o, atol=2e-6)


@pytest.mark.parametrize("rule", [muon, normuon])
def test_heads_are_one_matrix_unless_split(rule):
    info = {"w": ParamInfo(ParamKind.MATRIX, (0,), (2,), ((1, "head"),))}
    x = draw(6, 2, 4)
    whole = direction({"w": x.reshape(6, 8)}, {"w": MATRIX}, rule)["w"].reshape(6, 2, 4)
    np.testing.assert_allclose(direction({"w": x}, info, rule)["w"], whole, atol=2e-6)
    heads = jnp.stack([direction({"w": x[:, h]}, {"w": MATRIX}, rule)["w"] for h in range(2)], axis=1)
    np.testing.assert_allclose(direction({"w": x}, info, rule, split_heads=True)["w"], heads, atol=2e-6)
    assert float(jnp.abs(whole - heads).max()) > 0.1


@pytest.mark.parametrize("rule", [muon, normuon])
def test_a_convolution_is_its_flattened_matrix(rule):
    x = draw(3, 3, 4, 8)
    conv = direction({"w": x}, {"w": ParamInfo(ParamKind.CONV, (0, 1, 2), (3,))}, rule)["w"]
    flat = direction({"w": x.reshape(36, 8)}, {"w": MATRIX}, rule)["w"]
    np.testing.assert_allclose(conv.reshape(36, 8), flat, atol=2e-6)


@pytest.mark.parametrize("rule", [muon, normuon])
def test_an_out_in_matrix_declared_so_gets_the_same(rule):
    x = draw(6, 4)
    got = direction({"w": x.T}, {"w": ParamInfo(ParamKind.MATRIX, (1,), (0,))}, rule)["w"]
    np.testing.assert_allclose(got.T, direction({"w": x}, {"w": MATRIX}, rule)["w"], atol=2e-6)


# ---- NorMuon ----


def test_normuon_by_hand():
    """One input, two outputs, O = ONE (0.6, 0.8) then ONE (0.8, 0.6), b2 = 1/2: v = ONE^2 (0.41, 0.34)."""
    info = {"w": MATRIX}
    w, g1, g2 = ({"w": jnp.array([row])} for row in ([8.0, 8.0], [3.0, 4.0], [4.0, 3.0]))
    oh = np.array([0.8 / 0.41**0.5, 0.6 / 0.34**0.5])
    unit = oh / np.linalg.norm(oh)
    norm = step(normuon(0.1, info, b2=0.5, scale="norm", weight_decay=0.01, **HAND), w, g1, g2)
    np.testing.assert_allclose(norm["w"][0], -0.1 * (ONE * 2**0.5 * unit + 0.01 * 8), rtol=1e-5)
    rms = step(normuon(0.1, info, b2=0.5, scale="rms", **HAND), w, g1, g2)
    np.testing.assert_allclose(rms["w"][0], -0.1 * 0.2 * 2**0.5 * unit, rtol=1e-5)


def test_normuon_statistics_are_one_for_each_output():
    """Mean over the inputs, whichever side is the longer."""
    for shape in [(6, 4), (4, 6)]:
        rule, w = normuon(1.0, {"w": MATRIX}, b2=0.5, scale="rms"), {"w": draw(*shape)}
        state = rule.init(w)
        _, state = rule.update(w, state, w)
        (nu,) = [x for x in jax.tree.leaves(state) if x.shape == (1, shape[1])]
        o = orthogonalize(w["w"])
        np.testing.assert_allclose(nu[0], 0.5 * (o**2).mean(axis=0), rtol=1e-4)


def test_normuon_rms_is_exact():
    got = direction({"w": draw(5, 7)}, {"w": MATRIX}, normuon, scale="rms")["w"]
    assert float(jnp.sqrt(jnp.mean(got**2))) == pytest.approx(0.2, rel=1e-5)


def test_normuon_of_a_zero_gradient_is_zero():
    np.testing.assert_array_equal(direction({"w": jnp.zeros((3, 4))}, {"w": MATRIX}, normuon)["w"], 0)
