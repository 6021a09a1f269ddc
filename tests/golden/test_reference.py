"""The files *_reference.json are what their maker makes, and the rules do what one can tell of them by hand."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from reference import adamp, kron, make, sam, shampoo, soap
from reference.case import DATA, INPUTS, SHAPES
from reference.cases import CASES

NAMES = list(CASES)
TWO_EPS = ("adagrad", "adagrad_eps_in_root")


def stored(name: str) -> dict:
    return json.loads((DATA / f"{name}_reference.json").read_text())


def assert_alike(ours, theirs, where: str) -> None:
    """Compare two JSON documents: numbers to 12 digits, all else exactly."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), where
        for k in theirs:
            assert_alike(ours[k], theirs[k], f"{where}.{k}")
    elif isinstance(theirs, list) and theirs and not isinstance(theirs[0], str):
        assert len(ours) == len(theirs), where
        if np.ndim(theirs[0]) < 2 and not isinstance(theirs[0], dict):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12, err_msg=where)
        else:
            for i, pair in enumerate(zip(ours, theirs, strict=True)):
                assert_alike(*pair, f"{where}[{i}]")
    else:
        assert ours == theirs, where


@pytest.mark.parametrize("name", NAMES)
def test_file_is_what_its_maker_makes(name: str) -> None:
    ours, theirs = json.loads(make.text(make.document(name))), stored(name)
    # Rounding in float32 is that of the machine; that a port may differ by so much has to hold here as well.
    here, there = ours.pop("tolerance"), theirs.pop("tolerance")
    assert here["float64_replay"] == there["float64_replay"]
    assert here["reference_float32_vs_float64_max_abs_diff"] <= there["float32_replay"]["atol"]
    assert_alike(ours, theirs, name)


def test_index_names_every_file() -> None:
    index = {f["file"]: f for f in json.loads((DATA / "index.json").read_text())["files"] if f["stage"] == "reference"}
    assert set(index) == {f"{name}_reference.json" for name in NAMES}
    for name in NAMES:
        assert index[f"{name}_reference.json"] == make.index_entry(stored(name))


def test_every_rule_has_its_line_in_the_readme() -> None:
    readme = (Path(make.__file__).parent / "README.md").read_text()
    rules = {Path(make.__file__).parent / f"{case.rule.__module__.split('.')[-1]}.py" for case in CASES.values()}
    assert all(f"({path.name})" in readme for path in rules)


# Row 6 of E never has a gradient; but sam's loss is a function of the parameters, and Kron's triangles mix rows.
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.rule not in (sam.sam, kron.kron)])
def test_row_without_a_gradient_only_decays(name: str) -> None:
    case = CASES[name]
    before, after = np.array(INPUTS["params_before"]["E"][6]), make.run(case)[-1]["params_after"]["E"][6]
    ratio = after / before
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-7)
    assert ratio[0] == pytest.approx(1) if case.weight_decay is None else ratio[0] < 1


@pytest.mark.parametrize("name", NAMES)
def test_steps_do_not_look_ahead(name: str) -> None:
    case = CASES[name]
    few, all_ = make.run(case, steps=3), make.run(case)
    for a, b in zip(few, all_[:3], strict=True):
        assert_alike(make.plain(a), make.plain(b), name)


def test_what_first_steps_do() -> None:
    """Facts of the papers that need no second implementation."""
    before, grads = make.inputs("float64")
    first = {name: make.run(case, steps=1)[0]["params_after"] for name, case in CASES.items()}
    for name in ("soap", "soap_two_sided", "adopt", "adopt_unclipped", "mechanic_adamw"):
        assert all(np.array_equal(first[name][k], before[k]) for k in before), f"{name} moves at its first gradient"
    signs = -np.sign(grads[0]["b"])
    np.testing.assert_allclose(first["lion"]["b"], CASES["lion"].lr[0] * signs)
    rate = CASES["rmsprop"].lr[0] / math.sqrt(1 - CASES["rmsprop"].hyperparameters["decay"])
    np.testing.assert_allclose(first["rmsprop"]["b"], rate * signs, rtol=1e-3)
    for name in ("shampoo", "shampoo_blocks", "ademamix_warmup"):
        assert np.all(np.sign(first[name]["b"]) == signs)


def test_the_cases_reach_their_branches() -> None:
    views = {v for step in make.run(CASES["adamp"]) for v in step["projections_after"].values()}
    assert views == {"channel", "layer", "none"}
    for name in ("momo", "momo_adam"):
        case = CASES[name]
        b1 = case.hyperparameters.get("b1")
        caps = [lr / (1 - b1**t) if b1 else lr for t, lr in enumerate(case.lr, 1)]
        capped = [step["step_size_after"] == pytest.approx(c) for step, c in zip(make.run(case), caps, strict=True)]
        assert any(capped) and not all(capped)
    for name in ("prodigy", "prodigy_uncorrected", "dadapt_adam", "dadapt_adam_uncorrected"):
        assert make.run(CASES[name])[-1]["d_after"] > 1.2 * CASES[name].hyperparameters["d0"]


def test_what_falls_together() -> None:
    """Where one rule is another's special case both have to go the same way, AdamW's by torch."""
    torch = [{"params_after": {k: np.array(v) for k, v in step.items()}} for step in INPUTS["params_after"]]
    for name, changes in (
        ("ademamix", {"alpha": 0.0}),
        ("adamp", {"delta": 0.0}),
        ("shampoo", {"start_preconditioning_step": 100}),
    ):
        assert make.largest_difference(make.run(CASES[name], **changes), torch) < 1e-14, name
    penalty = make.run(CASES["gradient_norm_penalty"], alpha=1.0)
    assert make.largest_difference(penalty, make.run(CASES["sam_sgd"])) == 0
    steady = [replace(CASES[name], lr=[0.5] * make.STEPS) for name in ("lars", "lars_paper")]
    assert make.largest_difference(*map(make.run, steady)) < 1e-13
    steady = [replace(CASES[name], hyperparameters=CASES[name].hyperparameters | {"eps": 0.0}) for name in TWO_EPS]
    assert make.largest_difference(*map(make.run, steady)) < 1e-14
    # A block as large as the matrix is no block; smaller ones matter from the start on.
    whole, cut = make.run(CASES["shampoo"]), make.run(CASES["shampoo_blocks"])
    assert make.largest_difference(whole[:4], cut[:4]) == 0 < make.largest_difference(whole[:5], cut[:5])
    # Grafting: Shampoo's step has the length of Adam's.
    start = CASES["shampoo"].hyperparameters["start_preconditioning_step"]
    x = whole[start - 2]["params_after"]
    lengths = [
        np.linalg.norm(step[start - 1]["params_after"]["W_wide"] - x["W_wide"] * (1 - 0.1 * INPUTS["lr"][start - 1]))
        for step in (whole, torch)
    ]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-9)


def test_matrix_functions() -> None:
    random = np.random.default_rng(0)
    A = random.standard_normal((4, 4))
    A = A @ A.T
    root = shampoo.inverse_root(A, 4, 1e-3)
    np.testing.assert_allclose(np.linalg.matrix_power(root, 4) @ (A + 1e-3 * np.eye(4)), np.eye(4), atol=1e-9)
    pieces = shampoo.blocks((7, 4), 4)
    assert sum(np.ones((7, 4))[cut].size for cut in pieces) == 28 and len(pieces) == 2
    Q = [soap.eigenbasis(A), None]
    G = random.standard_normal((4, 3))
    np.testing.assert_allclose(soap.rotate(soap.rotate(G, Q), Q, back=True), G)
    np.testing.assert_allclose(soap.rotate(G, Q), Q[0].T @ G)
    assert kron.spectral_bound(A) <= np.linalg.norm(A, 2) * (1 + 1e-12)
    factors = [np.triu(random.standard_normal((4, 4))), np.triu(random.standard_normal((3, 3)))]
    np.testing.assert_allclose(kron.apply(factors, G), factors[0] @ G @ factors[1].T)
    x, u = random.standard_normal((4, 3)), random.standard_normal((4, 3))
    flat, ratio, view = adamp.project(x, np.zeros((4, 3)), u, 0.1, 0.5, 1e-8)  # a zero gradient is orthogonal
    assert (ratio, view) == (0.5, "channel")
    np.testing.assert_allclose(np.sum(flat * x, axis=1), 0, atol=1e-6)


def test_kron_whitens() -> None:
    """At the fixed point P = (E g g^T)^(-1/2): the mean of |P g|^2 over many gradients is the dimension."""
    random = np.random.default_rng(1)
    factors, scales = [np.eye(4), np.eye(3)], np.array([4.0, 1.0, 0.25, 2.0])[:, None]
    for step in [0.1] * 300 + [0.01] * 1200:
        g, V = scales * random.standard_normal((4, 3)), random.standard_normal((4, 3))
        factors = kron.updated(factors, g, V, step)
    whitened = [kron.apply(factors, scales * random.standard_normal((4, 3))) for _ in range(2000)]
    # Q^T Q g has identity covariance.
    rows = np.mean([kron.apply(factors, w, transpose=True) ** 2 for w in whitened], axis=(0, 2))
    np.testing.assert_allclose(rows, 1, atol=0.3)


def test_layout() -> None:
    assert {k: np.array(v).shape for k, v in INPUTS["params_before"].items()} == SHAPES
