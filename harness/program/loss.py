"""The `Loss` handed to a submission, and the count of what a step does with it.

Every evaluation of the model goes through one jitted function with a known name, so the calls can be counted in the
traced step itself: in both directions, through scans and branches, whatever the submission differentiates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.extend.core
import jax.numpy as jnp

from harness.api import Batch, Key, ModelState, Params
from harness.errors import SubmissionError
from harness.program.workload import Workload

_MARK = "harness_per_example_loss_"  # and the number of examples


@dataclass(frozen=True)
class WorkloadLoss:
    """`harness.api.Loss` of a workload. `gradients=False` gives the one that `eval_variables` sees."""

    workload: Workload
    gradients: bool = True

    def value(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: Key,
        *,
        train: bool = True,
        dropout: float | None = None,
        label_smoothing: float | None = None,
    ) -> tuple[jax.Array, ModelState]:
        options = self._options(dropout=dropout, label_smoothing=label_smoothing)
        losses, new_state = self._call(params, model_state, batch, key, train, options)
        return jnp.mean(losses), new_state

    def value_and_grad(
        self, params: Params, model_state: ModelState, batch: Batch, key: Key, **options: Any
    ) -> tuple[tuple[jax.Array, ModelState], Params]:
        if not self.gradients:
            raise SubmissionError("eval_variables may run the loss forward but takes no gradient; take it in step")
        grad: Callable[..., Any] = jax.value_and_grad(self.value, has_aux=True)
        return grad(params, model_state, batch, key, **options)

    def per_example(self, params: Params, model_state: ModelState, batch: Batch, key: Key) -> jax.Array:
        return self._call(params, model_state, batch, key, False, self._options())[0]

    def sample_targets(self, params: Params, model_state: ModelState, batch: Batch, key: Key) -> Batch:
        if self.workload.sample_targets is None:
            raise SubmissionError(
                f"sample_targets: a {self.workload.info.loss_kind} loss has no likelihood to draw from"
            )
        return dict(batch) | self.workload.sample_targets(params, model_state, batch, key)

    def _options(self, **asked: float | None) -> dict[str, float]:
        own = dict(self.workload.loss_options)
        for name, value in asked.items():
            if value is not None and name not in own:
                have = f"it takes {', '.join(own)}" if own else "it takes none"
                raise SubmissionError(f"the loss of this task has no option {name}={value}; {have}; leave it None")
            own |= {} if value is None else {name: value}
        return own

    def _call(
        self, params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool, options: dict[str, float]
    ) -> tuple[jax.Array, ModelState]:
        def per_example(
            params: Params, model_state: ModelState, batch: Batch, key: Key
        ) -> tuple[jax.Array, ModelState]:
            return self.workload.loss(params, model_state, batch, key, train, **options)

        per_example.__name__ = f"{_MARK}{jax.tree.leaves(batch)[0].shape[0]}"
        return jax.jit(per_example)(params, model_state, batch, key)


@dataclass(frozen=True)
class StepCost:
    """What one step asks of the model, counted in its trace.

    Attributes:
      gradient_calls: backward passes through the loss.
      forward_examples: examples run forward, over all calls.
      exact: False where a `while` loop makes the count a lower bound.
    """

    gradient_calls: float
    forward_examples: float
    exact: bool


def count_cost(step: Callable[..., Any], *args: Any) -> StepCost:
    """Trace `step(*args)` (shapes will do) and count the calls of the loss in it."""
    return cost_of(jax.make_jaxpr(step)(*args))


def cost_of(program: jax.extend.core.ClosedJaxpr, steps: int = 1) -> StepCost:
    """Count the calls of the loss in a traced program that takes `steps` steps; return the count of one step.

    A scan counts by its length, a branch by its dearest arm.
    """
    cost = _count(program.jaxpr)
    return StepCost(cost.gradient_calls / steps, cost.forward_examples / steps, cost.exact)


def _count(jaxpr: Any, mode: str = "forward") -> StepCost:
    """Count a jaxpr that stands within a program of this `mode`: "forward", "backward" or "recomputed"."""
    gradients = examples = 0.0
    exact = True
    for eqn in jaxpr.eqns:
        # A name stack is relative to its jaxpr: where a jit, scan or branch is differentiated, only its own call tells.
        stack = str(eqn.source_info.name_stack)
        within = "backward" if "transpose" in stack else "recomputed" if "rematted_computation" in stack else mode
        name = str(eqn.params.get("name"))
        if name.startswith(_MARK):
            size = int(name.removeprefix(_MARK))
            if within == "backward":
                gradients += 1
            elif within == "recomputed":  # the losses themselves are not among what is computed again
                examples += size
            elif eqn.outvars and eqn.outvars[0].aval.shape[-1:] == (size,):  # not a part hoisted out of a loop
                examples += eqn.outvars[0].aval.size
            continue
        inner = [_count(j, within) for j in inner_jaxprs(eqn.params)]
        if not inner:
            continue
        times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
        combine = max if eqn.primitive.name == "cond" else sum
        gradients += times * combine(c.gradient_calls for c in inner)
        examples += times * combine(c.forward_examples for c in inner)
        loops = eqn.primitive.name == "while" and any(c.gradient_calls or c.forward_examples for c in inner)
        exact &= all(c.exact for c in inner) and not loops
    return StepCost(gradients, examples, exact)


def inner_jaxprs(params: dict[str, Any]) -> list[Any]:
    found = []
    for value in params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                found.append(item)
    return found
