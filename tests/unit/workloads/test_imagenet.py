"""The workloads on ImageNet: boxes and crops on the device, the order of the splits, model and FLOPs."""

from __future__ import annotations

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from harness.program import discovery
from harness.program.loss import WorkloadLoss
from harness.program.workload import SMALL
from workloads.families import crops, flops, imagenet

KEY = jax.random.key(0)
NAMES = ("resnet50_imagenet", "mae_base_imagenet")
BOXES = jax.jit(crops.boxes, static_argnums=2)
RESAMPLED = jax.jit(crops.resampled, static_argnums=2)
FOLDERS = {name: discovery.find("workloads", name) for name in NAMES}


def test_boxes_have_the_area_and_ratio_asked_for_in_the_pixels_of_the_photograph() -> None:
    sizes = jnp.tile(jnp.array([[375, 500]]), (4000, 1))
    top, left, height, width = np.asarray(BOXES(sizes, KEY, (0.08, 1.0))).T
    assert min(top.min(), left.min()) >= 0
    assert max((top + height).max(), (left + width).max()) <= 1 + 1e-6
    ratio, area = width * 500 / (height * 375), height * width
    assert 0.75 - 1e-4 <= ratio.min() < 0.76
    assert 1.31 < ratio.max() <= 4 / 3 + 1e-4
    assert 0.08 - 1e-4 <= area.min() < 0.09
    assert abs(area.mean() - drawn_one_by_one(375, 500).mean()) < 0.015  # about 0.43: large boxes often do not fit
    assert len(np.unique(top)) > 3900


def drawn_one_by_one(rows: int, columns: int) -> np.ndarray:
    rng, found = np.random.default_rng(0), []
    while len(found) < 4000:
        area, ratio = rng.uniform(0.08, 1) * rows * columns, np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        if (area / ratio) ** 0.5 <= rows and (area * ratio) ** 0.5 <= columns:
            found.append(area / rows / columns)
    return np.array(found)


def test_a_box_that_never_fits_is_the_largest_in_the_middle() -> None:
    """A strip of 20 to 1: no crop of half its area is as narrow as 4 to 3."""
    top, left, height, width = np.asarray(BOXES(jnp.array([[100, 2000]]), KEY, (0.5, 1.0)))[0]
    assert (top, height) == (0, 1)
    assert width == pytest.approx(4 / 3 / 20)
    assert left == pytest.approx((1 - width) / 2)


def test_a_crop_is_what_pillow_cuts_out() -> None:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    image = coarse.resize((80, 80), Image.Resampling.BICUBIC)
    for top, left, height, width in ((0.0, 0.0, 1.0, 1.0), (0.25, 0.125, 0.5, 0.75)):
        box = jnp.array([[top, left, height, width]])
        found = np.asarray(RESAMPLED(jnp.asarray(np.asarray(image))[None], box, 32))[0]
        pixels = tuple(80 * edge for edge in (left, top, left + width, top + height))
        expected = np.asarray(image.resize((32, 32), Image.Resampling.BICUBIC, box=pixels), float)
        # At the edges of a box pillow looks no further, and jax does.
        assert abs(found - expected)[2:-2, 2:-2].max() < 2
        assert abs(found - expected).max() < 25


def test_the_slice_holds_the_first_images_of_each_class() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3])
    assert imagenet.interleaved(labels, 3).tolist() == [0, 3, 5, 1, 4, 6, 2, 7]


def test_resnet50_has_its_parameters_and_both_their_flops() -> None:
    """25,557,032 parameters, as everybody's; 8.2 GFLOP an image forward (4.1 G products and sums)."""
    own = discovery.load(FOLDERS["resnet50_imagenet"])
    workload = own.load()
    params, _ = jax.eval_shape(workload.init, KEY)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 25_557_032
    assert workload.flops == pytest.approx(3 * 8.2e9, rel=0.02)
    model = discovery.load(FOLDERS["mae_base_imagenet"]).MODEL
    assert flops.mae(model) == pytest.approx(57e9, rel=0.03)


def test_products_are_in_bf16_and_flops_those_that_xla_counts() -> None:
    module, size = discovery.load(FOLDERS["resnet50_imagenet"]), 64
    make = importlib.import_module(".model", module.__package__).make
    spec = dataclasses.replace(module.MODEL, widths=(64, 128), blocks=(1, 1))  # narrower ones are mostly elementwise
    workload = make(module.data(SMALL), spec, size, imagenet.scaled)
    params, model_state = jax.eval_shape(workload.init, KEY)
    batch = {
        "image": jax.ShapeDtypeStruct((8, size, size, 3), jnp.float32),
        "label": jax.ShapeDtypeStruct((8,), jnp.int32),
    }
    gradient = jax.jit(WorkloadLoss(workload).value_and_grad)
    eqns = gradient.trace(params, model_state, batch, KEY).jaxpr.jaxpr
    convolved = [
        {v.aval.dtype for v in eqn.invars} for eqn in equations(eqns) if eqn.primitive.name == "conv_general_dilated"
    ]
    assert len(convolved) > 20
    assert all(dtypes == {jnp.dtype(jnp.bfloat16)} for dtypes in convolved)
    counted = gradient.lower(params, model_state, batch, KEY).cost_analysis()["flops"] / 8
    assert 0.9 < counted / workload.flops < 1.2  # products with padding are counted here, elementwise operations there


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            for item in value if isinstance(value, list | tuple) else [value]:
                inner = getattr(item, "jaxpr", item)
                if hasattr(inner, "eqns"):
                    yield from equations(inner)
