"""What a submission is told, and the algorithm that it builds."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping

import jax
import optax

from harness.api import Algorithm, TaskView
from harness.errors import SubmissionError, suggest
from harness.machine.flags import Device
from harness.optim import optax_adapter
from harness.program import discovery
from harness.program.workload import Workload
from harness.record.spec import Value

sys.modules.setdefault("harness.optax_adapter", optax_adapter)  # as submissions of the first edition call it


def task_view(
    workload: Workload, budget_steps: int, declared_steps: int | None = None, platform: Device = "cpu"
) -> TaskView:
    """Return what the submission may know; a declared length stands in for the step hint."""
    params, model_state = jax.eval_shape(workload.init, jax.random.key(0))
    return TaskView(
        params=params,
        param_info=workload.param_info,
        batch_size=workload.info.batch_size,
        step_hint=declared_steps or workload.info.step_hint,
        budget_steps=budget_steps,
        num_train_examples=workload.info.num_train_examples,
        loss_kind=workload.info.loss_kind,
        has_model_state=bool(jax.tree.leaves(model_state)),
        platform=platform,
    )


def yardstick() -> Algorithm:
    """Return the harness's own AdamW: the step every other is measured against."""
    return optax_adapter.from_optax(optax.adamw(1e-3, weight_decay=0.01))


def build_algorithm(folder: discovery.Folder, task: TaskView, hyperparameters: Mapping[str, Value]) -> Algorithm:
    """Import the folder's `build`, call it, and return an `Algorithm` (an optax transformation is adapted).

    Raises SubmissionError with file and cause for whatever goes wrong in it.
    """
    where = discovery.entry(folder.path)
    function = getattr(discovery.load(folder), "build", None)
    if not callable(function):
        raise SubmissionError(
            f"{where}: expected a function build(task, hp), found {'none' if function is None else repr(function)}"
        )
    try:
        inspect.signature(function).bind(task, hyperparameters)
    except TypeError as error:
        raise SubmissionError(f"{where}: build must take (task, hp): {error}") from None
    try:
        made = function(task, dict(hyperparameters))
    except SubmissionError:
        raise
    except Exception as error:
        blamed = discovery.blame(folder.path, "build", error)
        if isinstance(error, KeyError) and error.args and error.args[0] not in hyperparameters:
            blamed += f"; {suggest(str(error.args[0]), hyperparameters, 'hp has')}"
        raise SubmissionError(blamed) from error
    if isinstance(made, Algorithm):
        return made
    if not isinstance(made, type) and all(callable(getattr(made, name, None)) for name in ("init", "update")):
        return optax_adapter.from_optax(made)
    raise SubmissionError(
        f"{where}: build must return an optax.GradientTransformation or a harness.api.Algorithm, "
        f"got {type(made).__name__}{f'; call it: return {made.__name__}(...)' if inspect.isroutine(made) else ''}"
    )
