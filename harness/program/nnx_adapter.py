"""flax NNX module -> pure functions on plain dicts, split once.

The hot loop is `jax.jit` on dicts: `nnx.jit` walks the object graph at every call, which costs milliseconds a step.
Parameter kinds come from metadata on the variables, put there where the layer is made: `nnx.Linear(...,
kernel_metadata=matrix())`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax
from flax import nnx

from harness.api import Key, ModelState, ParamInfo, ParamKind, Params, PyTree
from harness.errors import WorkloadError

M = TypeVar("M", bound=nnx.Module)


def matrix(kind: ParamKind = ParamKind.MATRIX, **axes: Any) -> dict[str, ParamInfo]:
    """Metadata of a (in, out) kernel; `kind` HEAD for the output layer, EMBEDDING for a linear patch embedding."""
    return {"info": ParamInfo(kind, **({"in_axes": (0,), "out_axes": (1,)} | axes))}


def conv(kind: ParamKind = ParamKind.CONV) -> dict[str, ParamInfo]:
    """Metadata of a (height, width, in, out) kernel; `kind` EMBEDDING for the first convolution."""
    return {"info": ParamInfo(kind, in_axes=(0, 1, 2), out_axes=(3,))}


def embedding() -> dict[str, ParamInfo]:
    """Metadata of a (number of entries, features) table."""
    return {"info": ParamInfo(ParamKind.EMBEDDING, in_axes=(0,), out_axes=(1,))}


def vector(kind: ParamKind) -> dict[str, ParamInfo]:
    """Metadata of a gain (NORM) or an additive vector (BIAS)."""
    return {"info": ParamInfo(kind, in_axes=(), out_axes=(0,))}


class Model(Generic[M]):
    """The functions of one NNX model class on plain dicts.

    Attributes:
      param_info: tree of `ParamInfo` that matches the params.
    """

    def __init__(self, make: Callable[[nnx.Rngs], M]):
        """`make(rngs)` builds the module. It is traced for its shapes here; no array is made."""
        self._make = make
        shapes = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
        self._graph: Any
        self._graph, *states = nnx.split(shapes, nnx.Param, nnx.BatchStat)
        self.param_info: PyTree = {}
        for path, variable in nnx.to_flat_state(states[0]):
            info = variable.get_metadata().get("info")
            _check(path, variable.get_value(), info)
            node = self.param_info
            for part in path[:-1]:
                node = node.setdefault(part, {})
            node[path[-1]] = info

    def init(self, key: Key) -> tuple[Params, ModelState]:
        """Return (params, model_state) of a fresh model: nested dicts of float32 arrays."""
        _, *states = nnx.split(self._make(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        params, model_state = map(nnx.to_pure_dict, states)
        return params, model_state

    def bind(self, params: Params, model_state: ModelState, *, train: bool) -> M:
        """Return the module with these arrays, in training or evaluation mode. Cheap under jit: it runs while
        tracing.
        """
        module: M = nnx.merge(self._graph, params, model_state, copy=True)
        module.train() if train else module.eval()
        return module

    @staticmethod
    def state_of(module: nnx.Module) -> ModelState:
        """Return the running statistics of a bound module after a call."""
        return nnx.to_pure_dict(nnx.state(module, nnx.BatchStat))


def _check(path: tuple[Any, ...], value: jax.ShapeDtypeStruct, info: ParamInfo | None) -> None:
    where = "/".join(map(str, path))
    if info is None:
        raise WorkloadError(
            f"parameter {where} has no `info` metadata; make its layer with "
            "kernel_metadata=matrix(), bias_metadata=vector(ParamKind.BIAS) or the like (harness.program.nnx_adapter)"
        )
    axes = sorted([*info.in_axes, *info.out_axes, *(axis for axis, _ in info.stack_axes)])
    if axes != list(range(value.ndim)):
        raise WorkloadError(
            f"parameter {where} of shape {value.shape}: ParamInfo names the axes {axes}, not each exactly once"
        )
