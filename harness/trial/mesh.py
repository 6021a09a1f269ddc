"""One trial over several devices: where each of its arrays lies.

The devices form a mesh of one axis, `data`. A batch is split over it; parameters, optimizer state and model state lie
whole on each device (`replicated`) or in parts (`fsdp`). Programs are exported for one device and know nothing of this:
the shardings stand on the arguments and results of what is compiled around them, and XLA splits what is between. So
losses, gradients and batch statistics are those of the global batch, whatever the number of devices. No constraint
stands inside a program, which would pin it to a number of devices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from harness.api import TrainState
from harness.errors import MachineError
from harness.machine.flags import Sharding
from harness.program.manifest import Contract, Leaf
from harness.trial.stacks import spread

AXIS = "data"

Tree = TypeVar("Tree")


@dataclass(frozen=True)
class Layout:
    """Where the arrays of a trial lie.

    Attributes:
      mesh: all its devices, along the axis `data`.
      sharding: of the state: whole on each device, or in parts.
    """

    mesh: Mesh
    sharding: Sharding = "replicated"

    @property
    def devices(self) -> int:
        """How many devices there are."""
        return int(self.mesh.size)

    @property
    def whole(self) -> NamedSharding:
        """Of an array that each device has all of."""
        return NamedSharding(self.mesh, PartitionSpec())

    def along(self, axis: int) -> NamedSharding:
        """Return the sharding of an array that is split along one of its axes."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, AXIS))

    def of(self, shape: Sequence[int]) -> NamedSharding:
        """Return the sharding of an array of the state."""
        return self.whole if self.sharding == "replicated" else self.parts(shape)

    def parts(self, shape: Sequence[int]) -> NamedSharding:
        """Return the sharding of an array in parts: split along the longest axis that the devices divide, the first of
        equally long ones; whole where they divide none.
        """
        lengths = [length if length % self.devices == 0 else 0 for length in shape]
        return self.along(lengths.index(max(lengths))) if any(lengths) else self.whole

    def state(self, contract: Contract) -> TrainState:
        """Return the shardings of a state, as lists in the order of the contract's leaves."""

        def each(leaves: Sequence[Leaf]) -> list[NamedSharding]:
            return [self.of(leaf.shape) for leaf in leaves]

        parts: list[Any] = [each(contract.params), each(contract.opt_state), each(contract.model_state)]
        parts += [self.whole, self.whole]  # step, examples
        return TrainState(*parts)

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a program's step on a batch that is split, whose new state lies as the old one did, and which works
        on stacks of matrices in parts.
        """
        function = spread(function, AXIS, self.devices)

        def call(
            params: Any, opt_state: Any, model_state: Any, step: Any, examples: Any, batch: Any, *rest: Any
        ) -> Any:
            batch = self._split(batch, 0)
            *state, metrics = function(params, opt_state, model_state, step, examples, batch, *rest)
            return *jax.tree.map(self._as_state, state), metrics

        return call

    def eval_variables(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a program's `eval_variables` on recalibration batches [count, examples, ...] that are split."""

        def call(
            params: Any, opt_state: Any, model_state: Any, step: Any, examples: Any, batches: Any, *rest: Any
        ) -> Any:
            return function(params, opt_state, model_state, step, examples, self._split(batches, 1), *rest)

        return call

    def evaluate(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a workload's evaluation with parameters in parts: a program's loop over examples cannot be split from
        outside, the products of each round can.
        """

        def call(params: Any, model_state: Any, arrays: Any) -> Any:
            params = [jax.lax.with_sharding_constraint(leaf, self.parts(leaf.shape)) for leaf in params]
            return function(params, model_state, arrays)

        return call

    def put(self, tree: Tree) -> Tree:
        """Return arrays of the host, or random keys, whole on each device."""
        return jax.tree.map(self._put, tree)

    def shapes(self, tree: Any) -> Any:
        """Return the shapes of arrays, or of shapes, that are whole on each device."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.whole), tree)

    def _put(self, array: Any) -> jax.Array:
        if jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(self._put(jax.random.key_data(array)))
        held = np.asarray(array)
        return jax.make_array_from_callback(held.shape, self.whole, lambda index: held[index])

    def _split(self, tree: Any, axis: int) -> Any:
        return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, self.along(axis)), tree)

    def _as_state(self, array: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(array, self.of(array.shape))


def layout_of(devices: int, sharding: Sharding = "replicated") -> Layout | None:
    """Return the layout over the first so many devices of this process, or of all processes that joined; None for one,
    which needs none. Raises MachineError where there are fewer, or more in several processes.
    """
    if devices == 1:
        return None
    found = jax.devices()
    if len(found) < devices:
        raise MachineError(f"devices={devices}: there are {len(found)} here; ask for as many at most")
    if jax.process_count() > 1 and len(found) > devices:
        raise MachineError(f"devices={devices}: the processes have {len(found)} together; ask for all of them")
    return Layout(Mesh(np.asarray(found[:devices]), (AXIS,)), sharding)
