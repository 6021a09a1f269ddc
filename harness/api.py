"""The page a submitter reads: what a submission is given, and what it returns. Types only, no logic.

A submission is a folder with a `submission.py` that holds

    def build(task: TaskView, hp: Mapping[str, float | int | str | bool]) -> optax.GradientTransformation | Algorithm

Most return an optax transformation. One that needs several gradients, other evaluation parameters, data selection or
control over the batch size returns an `Algorithm`. Everything in it is a pure function: randomness comes from the key
handed in. The functions are traced once, by a process without data, and what runs is the program that comes out: a
counter or a list that Python keeps would stand still in it, and is refused: it belongs into the optimizer's state. A
print or another callback to the host cannot be part of it: return what you want to see as a metric, or run
`harness check NAME --debug`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:  # this module is read by the command line, which must not wait for jax
    import jax

PyTree: TypeAlias = Any
"""A nested structure of dicts, tuples and named tuples with arrays at its leaves."""
Params: TypeAlias = PyTree
"""Nested dict of float32 arrays, the model's own structure."""
ModelState: TypeAlias = PyTree
"""Nested dict of float32 arrays that are not trained (BatchNorm's running statistics); `{}` where the model has
none.
"""
OptState: TypeAlias = PyTree
Batch: TypeAlias = Mapping[str, "jax.Array"]
"""Arrays with the example axis first; always holds `index`, int32[B], the examples' numbers in the training set."""
Metrics: TypeAlias = dict[str, "jax.Array"]
"""Flat dict of float32 scalars; must hold `loss`."""
Key: TypeAlias = "jax.Array"
"""A typed PRNG key (`jax.random.key`)."""
Hyperparameters: TypeAlias = Mapping[str, float | int | str | bool]


class ParamKind(StrEnum):
    """What a parameter is for, as the model's own definition says; never guessed from its name or rank."""

    MATRIX = "matrix"  # hidden linear maps: attention projections, MLP weights
    CONV = "conv"  # convolution kernels but the first
    EMBEDDING = "embedding"  # token, position and patch embeddings, first convolutions, class tokens
    HEAD = "head"  # the output layer
    NORM = "norm"  # gains of normalisation layers
    BIAS = "bias"  # additive vectors, those of normalisation layers included
    OTHER = "other"


StackName: TypeAlias = Literal["layer", "qkv", "head", "expert"]


@dataclass(frozen=True)
class ParamInfo:
    """The axes of one parameter array: each axis is in exactly one of the three groups.

    Attributes:
      kind: the role of the parameter.
      in_axes: axes summed over when the layer is applied (fan-in); empty for norms and biases.
      out_axes: axes of the layer's output (fan-out).
      stack_axes: (axis, name) for axes that only stack independent maps. Update rules treat each index of a layer,
        qkv or expert axis as a matrix of its own; heads are merged into the neighbouring fan axis.
    """

    kind: ParamKind
    in_axes: tuple[int, ...]
    out_axes: tuple[int, ...]
    stack_axes: tuple[tuple[int, StackName], ...] = ()


class LossKind(StrEnum):
    """The family of the training loss; a submission may branch on it."""

    SOFTMAX_CROSS_ENTROPY = "softmax_cross_entropy"
    MEAN_SQUARED_ERROR = "mean_squared_error"


@dataclass(frozen=True)
class TaskView:
    """All that a submission may know of the task: no name, no data, no target, no seconds.

    Attributes:
      params: the parameter tree with a `jax.ShapeDtypeStruct` at each leaf.
      param_info: the same tree with a `ParamInfo` at each leaf.
      batch_size: examples per step, unless `Algorithm.batch_sizes` asks for others.
      step_hint: the tuned baseline's schedule length in steps: the natural horizon of a schedule. In a speedrun the
        declared length.
      budget_steps: the budget in baseline steps.
      num_train_examples: examples in the training set.
      loss_kind: the family of the loss.
      has_model_state: whether the model keeps running statistics.
      platform: "cpu" or "gpu": what the step will run on. Ask this, not jax, which may be traced elsewhere.
    """

    params: PyTree
    param_info: PyTree
    batch_size: int
    step_hint: int
    budget_steps: int
    num_train_examples: int
    loss_kind: LossKind
    has_model_state: bool
    platform: Literal["cpu", "gpu"] = "cpu"


class Loss(Protocol):
    """The only way to the model. Built by the harness; every call is on the clock and counted in the record.

    All methods take any leading batch size and may be differentiated again (`jvp`, gradient of gradient). The same key
    gives the same dropout and masks. `None` for an option means the workload's own setting; an option that the
    workload's loss lacks raises `SubmissionError` when the step is traced. The caller decides which returned
    model_state it keeps.
    """

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
        """Return (mean loss over the batch, f32 scalar; new model_state)."""
        ...

    def value_and_grad(
        self,
        params: Params,
        model_state: ModelState,
        batch: Batch,
        key: Key,
        *,
        train: bool = True,
        dropout: float | None = None,
        label_smoothing: float | None = None,
    ) -> tuple[tuple[jax.Array, ModelState], Params]:
        """Return ((mean loss, new model_state), gradients with respect to params)."""
        ...

    def per_example(self, params: Params, model_state: ModelState, batch: Batch, key: Key) -> jax.Array:
        """Return the losses, f32[B], under running statistics (no dropout, no state update)."""
        ...

    def sample_targets(self, params: Params, model_state: ModelState, batch: Batch, key: Key) -> Batch:
        """Return the batch with targets drawn from the model's own likelihood (for Gauss-Newton estimates).

        Raises `SubmissionError` for a loss without a likelihood.
        """
        ...


class TrainState(NamedTuple):
    """What a step takes and returns. `step` and `examples` (int32 scalars) belong to the harness, which overwrites
    them.
    """

    params: Params
    opt_state: OptState
    model_state: ModelState
    step: jax.Array
    examples: jax.Array


@dataclass(frozen=True)
class Progress:
    """What `Algorithm.control` is told: never validation results, never seconds.

    Attributes:
      step: steps done.
      examples: examples trained on.
      metrics: mean of each step metric since the last call; empty at the first, which comes before the first step.
    """

    step: int
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Control:
    """Answer of `Algorithm.control`: the batch size from here on (None: unchanged), or a stop."""

    batch_size: int | None = None
    stop: bool = False


@dataclass(frozen=True)
class Algorithm:
    """A training algorithm: a value made of pure functions, like optax's pair.

    Attributes:
      init: (params, key) -> opt_state. Arrays only, no keys.
      step: (loss, state, batch, key) -> (state, metrics). Returns the tree, shapes and dtypes it was given. Donates
        its state.
      eval_variables: (loss, state, batches, key) -> (params, model_state) to evaluate: averages, schedule-free's x,
        recalibrated statistics. On the clock. May run the loss forward but takes no gradient.
      recalibration_batches: number of training batches (at most 20) handed to `eval_variables`, stacked on a leading
        axis; with 0, `batches` is None.
      candidates: with c > 1 a batch holds c * batch_size examples, from which `step` selects.
      batch_sizes: all sizes that `control` may ask for; each is compiled ahead of time.
      control: (Progress) -> Control or None, on the host, pure; called before the first step and after every 4% of
        the step hint (counted in examples). Its answers are logged and replayed on resume.
    """

    init: Callable[[Params, Key], OptState]
    step: Callable[[Loss, TrainState, Batch, Key], tuple[TrainState, Metrics]]
    eval_variables: Callable[[Loss, TrainState, Batch | None, Key], tuple[Params, ModelState]] | None = None
    recalibration_batches: int = 0
    candidates: int = 1
    batch_sizes: tuple[int, ...] = ()
    control: Callable[[Progress], Control | None] | None = None
