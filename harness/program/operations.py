"""What a StableHLO module computes and holds, read off its operations: products, constants, custom calls.

XLA's own cost analysis counts a loop once. Here a loop whose counter goes from one constant to another, as those of
`jax.lax.scan`, `map` and `fori_loop` do, counts as often as it runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax.interpreters import mlir
from jaxlib.mlir import ir

from harness.program import calls

DIALECTS = ("stablehlo", "chlo", "func", "sdy")
TO_THE_HOST = frozenset(f"stablehlo.{name}" for name in ("infeed", "outfeed", "send", "recv"))
WITHOUT_A_KEY = frozenset({"stablehlo.rng"})  # another number each time
UNCOUNTED = re.compile(r"\w+\.(dot|einsum|unary_einsum|dynamic_conv|\w+_dot)")  # products that jax writes otherwise


@dataclass(frozen=True)
class Operations:
    """What was counted.

    Attributes:
      products: floating-point operations of matrix products and convolutions; of branches the dearest. Padding counts,
        so compare it with that of other programs of the same model.
      least: the same with the cheapest of branches, and without loops of unknown length.
      exact: False where products stand in a loop of unknown length, which then counts once.
      constant_bytes: of all constants; one value repeated counts once.
      custom_calls: their targets; and by name the operations that no step needs: of other dialects, to the host,
        random numbers without a key, and products under other names than jax's.
    """

    products: float
    least: float
    exact: bool
    constant_bytes: int
    custom_calls: frozenset[str]


class _Products(NamedTuple):
    """Of a part of a module: see `Operations`."""

    most: float = 0.0
    least: float = 0.0
    exact: bool = True


def _summed(parts: Iterable[_Products]) -> _Products:
    found = list(parts)
    return _Products(sum(p.most for p in found), sum(p.least for p in found), all(p.exact for p in found))


def count(text: str) -> Operations:
    """Count the operations of a module, given as text."""
    with mlir.make_ir_context():
        counter = _Counter(ir.Module.parse(text))
        products = counter.function("main")
        return Operations(*products, counter.constant_bytes, frozenset(counter.calls))


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
        self._known: dict[str, _Products] = {}
        self.constant_bytes = 0
        self.calls: set[str] = set()
        for function in self._functions.values():
            for op in (function.operation, *_all(function.operation)):
                dialect, _, name = op.name.partition(".")
                odd = op.name in TO_THE_HOST | WITHOUT_A_KEY or UNCOUNTED.fullmatch(op.name)
                if odd or dialect not in DIALECTS:
                    self.calls.add(op.name)
                elif name == "constant":  # whosever: XLA makes one of all
                    self.constant_bytes += _constant_bytes(op.attributes["value"])
                elif name == "custom_call":
                    target = ir.StringAttr(op.attributes["call_target_name"]).value
                    taken, given = ([tuple(_shape(value)) for value in of] for of in (op.operands, op.results))
                    whole = calls.fit(target, taken, given, _options(op))
                    self.calls.add(target if whole else f"{target} with other shapes")

    def function(self, name: str) -> _Products:
        """Return what a function takes."""
        if name not in self._known:
            self._known[name] = _Products()  # functions do not call themselves
            self._known[name] = self._region(self._functions[name].operation.regions[0])
        return self._known[name]

    def _region(self, region: Any) -> _Products:
        return _summed(self._operation(op.operation) for block in region.blocks for op in block.operations)

    def _operation(self, op: Any) -> _Products:
        if op.name == "stablehlo.dot_general":
            return _Products(number := _dot(op), number)
        if op.name == "stablehlo.convolution":
            return _Products(number := _convolution(op), number)
        inner = [self._region(region) for region in op.regions]
        if op.name == "stablehlo.while":
            body, trips = _summed(inner), _trips(op)
            if trips is None:
                return _Products(body.most, 0.0, body.exact and body.most == 0.0)
            return _Products(trips * body.most, trips * body.least, body.exact)
        if op.name in ("stablehlo.case", "stablehlo.if"):
            exact = all(p.exact for p in inner)
            return _Products(max(p.most for p in inner), min(p.least for p in inner), exact)
        return _summed([*inner, *(self.function(name) for name in self._called(op))])

    def _called(self, op: Any) -> Iterator[str]:
        """Yield the functions that any attribute of an operation names: those of calls, of composites and of custom
        calls.
        """
        for number in range(len(op.attributes)):
            held = op.attributes[number].attr
            for each in held if isinstance(held, ir.ArrayAttr) else (held,):
                if isinstance(each, ir.FlatSymbolRefAttr) and each.value in self._functions:
                    yield each.value


def _options(op: Any) -> dict[str, int]:
    """Return the whole numbers that a custom call is told."""
    held = op.attributes["mhlo.backend_config"] if "mhlo.backend_config" in op.attributes else None
    named = [held[number] for number in range(len(held))] if isinstance(held, ir.DictAttr) else []
    return {one.name: int(one.attr.value) for one in named if isinstance(one.attr, ir.IntegerAttr | ir.BoolAttr)}


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
    bits = re.search(r"i(\d+)", str(test.operands[0].type))
    if bits is None or limit + step > 2 ** (int(bits[1]) - 1):  # it would go on from the smallest number
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
