"""Stacks of matrices over several devices: each device works on some of the matrices, and has those whole.

Newton-Schulz and Gram matrices multiply matrices by themselves, a stack of them at a time. From outside a program only
its arguments can be told where to lie, and these are no stacks. So the products are looked for in what an exported
program has become when it is compiled for several devices, and what they multiply is split along the stack: by a
constraint, which changes no number. A program never holds one, which would pin it to a number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core
from jax.interpreters import mlir
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import sdy

BATCHED = "lhs_batching_dimensions = [0], rhs_batching_dimensions = [0]"  # of a product of two stacks
FRONTEND = "mhlo.frontend_attributes"  # where jax says of a decomposition that its first axes are stacked


def spread(function: Callable[..., Any], axis: str, devices: int) -> Callable[..., Any]:
    """Return a program's function that works on each stack of matrices in parts, along so many devices of a mesh whose
    one axis has this name.
    """

    def call(*args: Any) -> Any:
        leaves, taken = jax.tree.flatten(args)
        shapes, given = jax.tree.flatten(jax.eval_shape(function, *args))

        def flat(*leaves: Any) -> list[Any]:
            return jax.tree.leaves(function(*jax.tree.unflatten(taken, leaves)))

        found = _SPREAD.bind(*leaves, function=flat, shapes=tuple(shapes), axis=axis, devices=devices)
        return jax.tree.unflatten(given, found)

    return call


_SPREAD = core.Primitive("spread")
_SPREAD.multiple_results = True


@_SPREAD.def_abstract_eval
def _shapes(*_: Any, shapes: tuple[Any, ...], **__: Any) -> list[Any]:
    return [jax.core.ShapedArray(shape.shape, shape.dtype) for shape in shapes]


def _lower(ctx: Any, *args: Any, function: Any, shapes: Any, axis: str, devices: int) -> Any:
    body = ctx.module_context.module.body
    before = len(list(body.operations))
    results = mlir.lower_fun(function, multiple_results=True)(ctx, *args)
    for added in list(body.operations)[before:]:
        split(added.operation, axis, devices)
    return results


mlir.register_lowering(_SPREAD, _lower)


def split(function: Any, axis: str, devices: int) -> None:
    """Split what a function of a module multiplies by itself along the stack, in place."""
    mesh = sdy.MeshAttr.get([sdy.MeshAxisAttr.get(axis, devices)])
    along, whole = (
        sdy.DimensionShardingAttr.get([sdy.AxisRefAttr.get(axis)], True),
        sdy.DimensionShardingAttr.get([], True),
    )
    sharding = sdy.TensorShardingAttr.get(mesh, [along, whole, whole])
    stacks = dict.fromkeys(filter(None, map(_stack, _all(function))))
    for stack in stacks:
        owner = stack.owner
        at = ir.InsertionPoint.at_block_begin(owner) if isinstance(owner, ir.Block) else ir.InsertionPoint.after(owner)
        with at, ir.Location.unknown():
            parts = sdy.ShardingConstraintOp(stack, sharding)
        stack.replace_all_uses_except(parts.result, parts.operation)


def _stack(op: Any) -> Any:
    """Return the stack x_SNM whose matrices an operation decomposes, or multiplies by themselves or their transposes;
    None for other operations.
    """
    if op.name == "stablehlo.custom_call":
        if FRONTEND not in op.attributes or "num_batch_dims" not in str(op.attributes[FRONTEND]):
            return None
        stack = op.operands[0]
    elif op.name == "stablehlo.dot_general" and BATCHED in str(op.attributes["dot_dimension_numbers"]):
        stack, other = map(_untransposed, op.operands)
        if stack != other:
            return None
    else:
        return None
    shape = ir.ShapedType(stack.type).shape
    return stack if len(shape) == 3 and shape[0] > 1 else None


def _untransposed(value: Any) -> Any:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "stablehlo.transpose":
        return value
    return value if "array<i64: 0, 2, 1>" not in str(owner.attributes["permutation"]) else owner.operands[0]


def _all(op: Any) -> Iterator[Any]:
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _all(inner.operation)
