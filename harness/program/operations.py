"""What a StableHLO module computes and holds, read off its operations: products, constants, custom calls.

XLA's own cost analysis counts a loop once. Here a loop whose counter goes from one constant to another, as those of
`jax.lax.scan`, `map` and `fori_loop` do, counts as often as it runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jax.interpreters import mlir
from jaxlib.mlir import ir


@dataclass(frozen=True)
class Operations:
    """What was counted.

    Attributes:
      products: floating-point operations of matrix products and convolutions; of branches the dearest. Padding counts,
        so compare it with that of other programs of the same model.
      exact: False where products stand in a loop of unknown length, which then counts once.
      constant_bytes: of all constants; one value repeated counts once.
      custom_calls: their targets.
    """

    products: float
    exact: bool
    constant_bytes: int
    custom_calls: frozenset[str]


def count(text: str) -> Operations:
    """Count the operations of a module, given as text."""
    with mlir.make_ir_context():
        counter = _Counter(ir.Module.parse(text))
        products, exact = counter.function("main")
        return Operations(products, exact, counter.constant_bytes, frozenset(counter.calls))


def normalised(text: str) -> str:
    """Return a module without debug information, its symbols renamed in the order they come in."""
    with mlir.make_ir_context():
        text = str(ir.Module.parse(text).operation.get_asm(enable_debug_info=False))
    names: dict[str, str] = {}

    def renamed(match: re.Match[str]) -> str:
        return f"@{names.setdefault(match[1], f's{len(names)}')}"

    symbol = r'@("[^"]*"|[\w$.]+)'
    text = re.sub(f"module {symbol}", "module", text)
    return re.sub(f"(?<!custom_call ){symbol}", renamed, text)


class _Counter:
    """Walks a module, each function once."""

    def __init__(self, module: Any):
        self._module = module  # its operations go with it
        self._functions = {ir.StringAttr(f.attributes["sym_name"]).value: f for f in module.body.operations}
        self._known: dict[str, tuple[float, bool]] = {}
        self.constant_bytes = 0
        self.calls: set[str] = set()
        for function in self._functions.values():
            for op in _all(function.operation):
                if op.name == "stablehlo.constant":
                    self.constant_bytes += _constant_bytes(op.attributes["value"])
                elif op.name == "stablehlo.custom_call":
                    self.calls.add(ir.StringAttr(op.attributes["call_target_name"]).value)

    def function(self, name: str) -> tuple[float, bool]:
        """Return (products, exact) of a function."""
        if name not in self._known:
            self._known[name] = (0.0, True)  # functions do not call themselves
            self._known[name] = self._region(self._functions[name].operation.regions[0])
        return self._known[name]

    def _region(self, region: Any) -> tuple[float, bool]:
        total, exact = 0.0, True
        for block in region.blocks:
            for op in block.operations:
                products, known = self._operation(op.operation)
                total, exact = total + products, exact and known
        return total, exact

    def _operation(self, op: Any) -> tuple[float, bool]:
        if op.name == "stablehlo.dot_general":
            return _dot(op), True
        if op.name == "stablehlo.convolution":
            return _convolution(op), True
        if op.name in ("func.call", "call"):
            return self.function(ir.FlatSymbolRefAttr(op.attributes["callee"]).value)
        inner = [self._region(region) for region in op.regions]
        if not inner:
            return 0.0, True
        if op.name == "stablehlo.while":
            products, exact = sum(p for p, _ in inner), all(known for _, known in inner)
            trips = _trips(op)
            return (products, exact and products == 0.0) if trips is None else (trips * products, exact)
        combine = max if op.name in ("stablehlo.case", "stablehlo.if") else sum
        return combine(p for p, _ in inner), all(known for _, known in inner)


def _all(op: Any) -> Iterator[Any]:
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _all(inner.operation)


def _dot(op: Any) -> float:
    contracted = re.search(r"lhs_contracting_dimensions = \[([\d, ]*)\]", str(op.attributes["dot_dimension_numbers"]))
    axes = [int(axis) for axis in contracted[1].split(",") if axis.strip()] if contracted else []
    left = _shape(op.operands[0])
    return 2.0 * math.prod(_shape(op.results[0])) * math.prod(left[axis] for axis in axes)


def _convolution(op: Any) -> float:
    layout = re.search(r"x\[([^\]]*)\]", str(op.attributes["dimension_numbers"]))
    assert layout is not None
    kernel = _shape(op.operands[1])
    features = kernel[[part.strip() for part in layout[1].split(",")].index("o")]
    return 2.0 * math.prod(_shape(op.results[0])) * math.prod(kernel) / features


def _trips(op: Any) -> int | None:
    """Return how often a loop runs: its counter starts at a constant, grows by one, and ends below a third."""
    condition, body = (region.blocks[0] for region in op.regions)
    ends = [inner.operation for inner in condition.operations][-1]
    test = _owner(ends.operands[0])
    if test is None or test.name != "stablehlo.compare" or "LT" not in str(test.attributes["comparison_direction"]):
        return None
    which = next((i for i, argument in enumerate(condition.arguments) if argument == test.operands[0]), None)
    if which is None:
        return None
    following = _owner([inner.operation for inner in body.operations][-1].operands[which])
    if following is None or following.name != "stablehlo.add" or body.arguments[which] not in list(following.operands):
        return None
    own = [operand for operand in following.operands if operand != body.arguments[which]]
    start, limit, step = (_integer(v) for v in (op.operands[which], test.operands[1], own[0] if own else None))
    if start is None or limit is None or step is None or step < 1:
        return None
    return max(0, -(-(limit - start) // step))


def _integer(value: Any) -> int | None:
    owner = None if value is None else _owner(value)
    if owner is None or owner.name != "stablehlo.constant":
        return None
    number = re.fullmatch(r"dense<(-?\d+)> : tensor<u?i\d+>", str(owner.attributes["value"]))
    return int(number[1]) if number else None


def _owner(value: Any) -> Any:
    """Return the operation that makes a value; None for an argument of a block."""
    owner = value.owner
    return None if isinstance(owner, ir.Block) else getattr(owner, "operation", owner)


def _shape(value: Any) -> list[int]:
    return list(ir.ShapedType(value.type).shape)


def _constant_bytes(attribute: Any) -> int:
    shaped = ir.ShapedType(attribute.type)
    digits = re.findall(r"\d+", str(shaped.element_type))  # f32, i1, ui8, complex<f32>, f8E4M3FN
    bits = int(digits[0]) * (2 if "complex" in str(shaped.element_type) else 1)
    elements = 1 if ir.DenseElementsAttr(attribute).is_splat else math.prod(shaped.shape)
    return -(-elements * bits // 8)
