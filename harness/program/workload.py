"""What a workload is: the value types that `workloads/<name>/workload.py` fills in. Importing this does not import jax.

A workload folder's `workload.py` holds `INFO`, a `WorkloadInfo`, at module level (so that listing and planning need
no jax); `data(variant=None) -> Data`, which imports jax and numpy at most; and `load(variant=None) -> Workload`, which
imports the model. All its constants stand in code; the target is
read from `target.json` beside it, which `scripts/set_targets.py` writes from recorded runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api import Batch, Key, LossKind, ModelState, Params, PyTree
from harness.errors import ConfigError, WorkloadError, suggest
from harness.record import plain_data
from harness.record.spec import Mode

if TYPE_CHECKING:
    import jax
    import numpy as np


@dataclass(frozen=True)
class Target:
    """The validation target and what follows from the runs that set it.

    Attributes:
      value: the metric to reach; None while no runs have been recorded.
      version: 0 is provisional (fewer seeds or a shorter search than the protocol asks for).
      steps_to_target: median steps of the tuned baseline to the target.
      reference_step_s: the baseline's seconds per step on the machine that recorded it: the unit of calibrated seconds.
      record: path of the run records, relative to the repository.
      spread: standard deviation over seeds of the baseline's final metric.
      seeds: number of scoring seeds behind the value.
    """

    value: float | None
    version: int
    steps_to_target: int
    reference_step_s: float
    record: str = ""
    spread: float | None = None
    seeds: int = 0

    @property
    def budget_steps(self) -> int:
        """The budget in baseline steps: twice what the baseline takes to the target."""
        return 2 * self.steps_to_target


UNSET = Target(value=None, version=0, steps_to_target=0, reference_step_s=0.0)


def read_target(workload_py: str) -> Target:
    """Read `target.json` beside the file `workload_py` (pass `__file__`); `UNSET` where no runs are recorded yet."""
    path = Path(workload_py).with_name("target.json")
    if not path.is_file():
        return UNSET
    return plain_data.read(Target, json.loads(path.read_text()), str(path), WorkloadError)


MEASUREMENTS = 25
"""Of the validation slice in a step hint: every 4% of it, which is where a submission may be asked for control."""
GPU_MEASUREMENTS = 50
"""Of the workloads for a GPU: every 2%."""

VARIANTS: Mapping[str, str] = {
    "wide": "half as wide again",
    "norm": "another normalisation",
    "activation": "another activation function",
    "init": "initial weights twice as large",
    "batch": "twice the batch size",
}
"""Held-out variants: the same task with one thing changed, which no submission was tuned on. They have no target."""

UNCHANGED = "unchanged"
"""The workload itself under the terms of its held-out variants, which every workload that has some can be run by: no
target, the whole horizon, no score. What the variants are compared with.
"""

SMALL = "small"
"""The variant of a workload for an accelerator that runs the same code on a CPU: a smaller model, batch and schedule.
No task of its own, and not held out: it shows that the code works."""


@dataclass(frozen=True)
class Small:
    """What is smaller in the variant `SMALL`: see `WorkloadInfo`."""

    batch_size: int
    step_hint: int


@dataclass(frozen=True)
class WorkloadInfo:
    """The frozen specification of a workload: constants that never come from configuration.

    Attributes:
      name: the folder's name.
      description: one line.
      metric: the key of `Workload.evaluate`'s result that the target is about.
      mode: whether a smaller or larger metric is better.
      target: see `Target`.
      batch_size: examples per step.
      step_hint: the baseline's schedule length in steps; a multiple of 200, so that every measurement is on a step.
      num_train_examples: examples in the training set.
      loss_kind: the family of the training loss.
      datasets: the data sets needed, by name, each with the sha256 of its prepared arrays (`harness.data.store`).
      dispatch_steps: training steps per call of the compiled step, by platform ("cpu", "gpu"); 1 where not given.
        Steps are scanned on the device within a call. Convolutions must not be scanned on CPU, where that runs 5-30
        times slower.
      scored: False for toys, which no suite holds and no leaderboard shows.
      floor: the smallest loss any model can reach, where it is known exactly (nats).
      measurements: of the validation slice in a step hint, at equal distances.
      variants: the held-out variants there are, of `VARIANTS`, and `SMALL` where there is one.
      small: what is smaller in that one.
      variant: which of them this is; None for the workload itself.
    """

    name: str
    description: str
    metric: str
    mode: Mode
    target: Target
    batch_size: int
    step_hint: int
    num_train_examples: int
    loss_kind: LossKind
    datasets: Mapping[str, str] = field(default_factory=dict)
    dispatch_steps: Mapping[str, int] = field(default_factory=dict)
    scored: bool = True
    floor: float | None = None
    measurements: int = MEASUREMENTS
    variants: tuple[str, ...] = ()
    small: Small | None = None
    variant: str | None = None

    @property
    def budget_steps(self) -> int:
        """The budget in baseline steps; without a target that of a baseline that takes the whole step hint to one."""
        return 2 * self.step_hint if self.target.value is None else self.target.budget_steps

    def meets(self, value: float | None) -> bool:
        """Whether `value` of the metric meets the target (equality does; NaN never does)."""
        if self.target.value is None or value is None:
            return False
        return value <= self.target.value if self.mode == "min" else value >= self.target.value


def held_out(info: WorkloadInfo, variant: str | None) -> WorkloadInfo:
    """Return the specification of a held-out variant or of `UNCHANGED`, which have no target; for None, that of the
    workload itself.

    Raises ConfigError where there is no such variant.
    """
    if variant is None:
        return info
    if variant not in info.variants and not (variant == UNCHANGED and info.variants):
        known = suggest(variant, info.variants, f"variants of {info.name}") if info.variants else "it has none"
        raise ConfigError(f"{info.name} has no variant '{variant}'; {known}")
    if variant == SMALL and info.small is not None:
        small = info.small
        return replace(
            info,
            variant=variant,
            target=UNSET,
            batch_size=small.batch_size,
            step_hint=small.step_hint,
            measurements=MEASUREMENTS,
        )
    factor = 2 if variant == "batch" else 1
    return replace(info, variant=variant, target=UNSET, batch_size=factor * info.batch_size)


def asked_variants(info: WorkloadInfo, asked: str) -> tuple[str, ...]:
    """Return the variants of a workload that `variant=asked` names: one, several separated by commas, or `all` that
    are held out.

    Raises ConfigError for a name that the workload does not have, and for `SMALL` beside others.
    """
    names = tuple(dict.fromkeys(map(str.strip, asked.split(","))))
    held = tuple(name for name in info.variants if name != SMALL)
    if "all" in names:
        if not held:
            raise ConfigError(f"variant={asked}: {info.name} has no held-out variants")
        return held
    for name in names:
        held_out(info, name)
    if SMALL in names and len(names) > 1:
        raise ConfigError(
            f"variant={asked}: '{SMALL}' is another model, batch and schedule, no held-out variant of {info.name}; "
            "run it alone"
        )
    return names


@dataclass(frozen=True)
class Splits:
    """Host arrays of each split: dicts of numpy arrays with the example axis first.

    `validation_slice` is the fixed part of `validation` that is measured while training; `test` is evaluated once, at
    the end.
    """

    train: Mapping[str, np.ndarray]
    validation_slice: Mapping[str, np.ndarray]
    validation: Mapping[str, np.ndarray]
    test: Mapping[str, np.ndarray]


Shape = tuple[tuple[int, ...], str]
"""The shape of an array and the name of its dtype."""
Shapes = Mapping[str, Mapping[str, Shape]]
"""Of the arrays of each split of `SPLITS`, by name."""
SPLITS = ("train", "validation_slice", "validation", "test")


def split_shapes(
    counts: tuple[int, int, int, int], train: Mapping[str, Shape], evaluation: Mapping[str, Shape] | None = None
) -> Shapes:
    """Return the shapes of the splits train, validation slice, validation and test, which hold so many examples each.

    `train` and `evaluation` give the shape of one example in the training and in the other splits; None: the same.
    """
    examples = (train, *[train if evaluation is None else evaluation] * 3)
    return {
        split: {name: ((count, *shape), dtype) for name, (shape, dtype) in example.items()}
        for split, count, example in zip(SPLITS, counts, examples, strict=True)
    }


@dataclass(frozen=True)
class Data:
    """The data of a workload without its model: all that a trial needs beside programs. jax and numpy do for it.

    Attributes:
      info: the specification.
      shapes: stated, so that programs can be made where the data are not.
      splits, batch: as in `Workload`.
    """

    info: WorkloadInfo
    shapes: Shapes
    splits: Callable[[], Splits]
    batch: Callable[[Mapping[str, jax.Array], jax.Array, Key], dict[str, jax.Array]]

    def load(self) -> Splits:
        """Return the host arrays. Raises WorkloadError where they have other shapes than those stated, or another
        number of training examples than `info` says.
        """
        splits, name, count = self.splits(), self.info.name, self.info.num_train_examples
        for split in SPLITS:
            stated = dict(self.shapes.get(split, {}))
            found = {key: (array.shape, str(array.dtype)) for key, array in getattr(splits, split).items()}
            if found != stated:
                raise WorkloadError(f"{name}: {split} has the arrays {found}, stated are {stated}")
        if {len(array) for array in splits.train.values()} != {count}:  # a gather beyond the end would be silent
            raise WorkloadError(f"{name}: train has the arrays {self.shapes['train']}, num_train_examples is {count}")
        return splits


@dataclass(frozen=True)
class Workload:
    """A workload loaded: pure functions on plain dicts, as `harness.program.nnx_adapter` makes them of a flax module.

    Attributes:
      info: the specification.
      init: key -> (params, model_state), float32 nested dicts.
      param_info: tree of `ParamInfo` that matches params.
      splits: () -> the host arrays; called once, off the clock.
      batch: (train arrays on the device, index int32[B], key) -> batch: gather and augmentation; a pure function. The
        harness adds `index` to it.
      loss: (params, model_state, batch, key, train, **options) -> (per-example losses f32[B], new model_state).
      loss_options: the options that `loss` takes beyond these (of "dropout", "label_smoothing"), with the workload's
        own setting.
      evaluate: (params, model_state, arrays of a split) -> flat dict of f32 scalars, `info.metric` among them; a
        whole split in one compiled call.
      sample_targets: (params, model_state, batch, key) -> batch; None for a loss without a likelihood.
      choices: what was chosen for this device, by name, for the record: {"attention": "cudnn"}.
      shapes: of the arrays of the splits, as stated; None where nobody has.
      flops: floating-point operations of the model's matrix products and convolutions, forward and backward, for one
        training example; None where nobody has counted them.
    """

    info: WorkloadInfo
    init: Callable[[Key], tuple[Params, ModelState]]
    param_info: PyTree
    splits: Callable[[], Splits]
    batch: Callable[[Mapping[str, jax.Array], jax.Array, Key], dict[str, jax.Array]]
    loss: Callable[..., tuple[jax.Array, ModelState]]
    evaluate: Callable[[Params, ModelState, Mapping[str, jax.Array]], dict[str, jax.Array]]
    loss_options: Mapping[str, float] = field(default_factory=dict)
    sample_targets: Callable[[Params, ModelState, Batch, Key], dict[str, Any]] | None = None
    choices: Mapping[str, str] = field(default_factory=dict)
    shapes: Shapes | None = None
    flops: float | None = None


def next_measurement(step_hint: int, done: int, measurements: int = MEASUREMENTS) -> int:
    """Return the first step after `done` at which the validation slice is measured (steps at the workload's batch
    size): the step hint in so many equal parts, and on past its end.
    """
    part = done * measurements // step_hint + 1
    return -(-part * step_hint // measurements)
