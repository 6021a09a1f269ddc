"""What a program does with stacks of matrices is split over devices: decompositions, and products with themselves."""

from __future__ import annotations

import jax
import pytest
from jax import numpy as jnp
from jaxlib.mlir import ir

from harness.trial.stacks import split


def constrained(function, *shapes):
    """Return the types of what is constrained in a function of arrays of these shapes, and its text."""
    module = jax.jit(function).lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compiler_ir()
    with module.context, ir.Location.unknown():
        for op in module.body.operations:
            split(op.operation, "data", 8)
        module.operation.verify()
    lines = [line for line in str(module).splitlines() if "sdy.sharding_constraint" in line]
    assert all('[{"data"}, {}, {}]' in line for line in lines)
    return [line.rpartition("tensor<")[2].rstrip(">") for line in lines]


@pytest.mark.parametrize(
    "function",
    [lambda x: x @ x.mT, lambda x: x.mT @ x, lambda x: (lambda y: y @ y.mT)(2 * x)],
    ids=["rows", "columns", "made"],
)
def test_stacks_that_are_multiplied_by_themselves(function):
    assert constrained(function, (4, 16, 64)) == ["4x16x64xf32"]


def test_each_round_of_newton_schulz():
    def rounds(x):
        for _ in range(2):
            square = x @ x.mT
            x = x + (square @ square) @ x
        return x

    assert constrained(rounds, (4, 16, 64)) == ["4x16x64xf32", "4x16x16xf32"] * 2


@pytest.mark.parametrize("function", [jnp.linalg.eigh, jnp.linalg.cholesky])
def test_stacks_that_are_decomposed(function):
    assert constrained(function, (4, 16, 16)) == ["4x16x16xf32"]
    assert constrained(function, (16, 16)) == []


def test_no_other_products():
    assert constrained(lambda x, y: x @ y.mT, (4, 16, 64), (4, 16, 64)) == [], "attention"
    assert constrained(lambda x: x @ x.mT, (1, 16, 64)) == [], "a single matrix"
    assert constrained(lambda x: x @ x.T, (16, 64)) == []
    assert constrained(lambda x: x @ x.mT, (2, 4, 16, 64)) == []
