"""What a program is called and made of: the values that exporter, deriver, store and trial share. Needs no jax.

A program is a folder `programs/<id>/` of the cache: `manifest.json`, and a file of serialised StableHLO for each of its
functions. All functions are flat: they take and return arrays, never trees, in the order of the manifest's leaves.

| of a workload | takes | returns |
|---|---|---|
| `init` | key | parameters, model state |
| `batch` | training arrays, int32[B], key | the batch |
| `loss` | parameters, model state, batch, key | mean loss: what a forward pass takes |
| `evaluate_<split>` | parameters, model state, arrays of the split | metrics |
| `yardstick_init` | parameters | its optimizer state |
| `yardstick_step` | parameters, optimizer state, model state, step, examples, batch, key | the first three, metrics |

| of a submission | takes | returns |
|---|---|---|
| `init_opt` | parameters, key, arguments | optimizer state |
| `step_<B>` | the state, step, examples, batch of B, key, arguments | the state, metrics |
| `eval_variables` | the state, step, examples, batches, key, arguments | parameters, model state |

The state: parameters, optimizer state, model state. Keys are raw, uint32[2]. The arguments are float32 scalars:
hyperparameters whose values are handed in, so that one program serves many points (`harness.program.arguments`).

Attention on a GPU has two ways, XLA's products and cuDNN's fused kernels. Where cuDNN is found, each function is there
twice, the second as `<function>.cudnn`, and the trial tries out on the card whether it does (`harness.trial.ways`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from harness.machine.flags import Device

MAX_PROGRAM_BYTES = 4 * 2**20
MAX_CONSTANT_BYTES = 8 * 2**10  # of all functions, above those of the workload's own step
MAX_RECALIBRATION_BATCHES = 20
MAX_EXPORT_S = 120.0
MAX_EXPORT_BYTES = 4 * 2**30  # of memory
MAX_FILE_BYTES = 16 * 2**20  # of each file that a confined process writes, what it prints among them
MAX_ANSWER_BYTES = 2**16  # of a line by which a process answers
MAX_ERROR = 8192  # characters of an error that it tells

Kind = Literal["workload", "submission"]
Way = Literal["xla", "cudnn"]
WAYS: tuple[Way, ...] = get_args(Way)


@dataclass(frozen=True)
class Leaf:
    """One array: its name, as `params['head']['kernel']`, its shape, and the name of its dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Contract:
    """The part of a program that belongs to its identity, beside its StableHLO.

    Attributes:
      kind, platform: of what, and for which device.
      params, model_state, opt_state: their leaves in order; a workload's `opt_state` is the yardstick's.
      batch: leaves of a batch at the workload's own size.
      metrics: names of what a step returns beside the state, sorted.
      batch_sizes: the sizes there is a step for.
      candidates, recalibration_batches: see `harness.api.Algorithm`.
      control: hash of the sources whose `control` answers control calls, so that its answers are part of the identity;
        empty where nothing does.
      arguments: names of the hyperparameters that are handed in, sorted; all others are constants.
    """

    kind: Kind
    platform: Device
    params: tuple[Leaf, ...]
    model_state: tuple[Leaf, ...]
    opt_state: tuple[Leaf, ...]
    batch: tuple[Leaf, ...]
    metrics: tuple[str, ...] = ()
    batch_sizes: tuple[int, ...] = ()
    candidates: int = 1
    recalibration_batches: int = 0
    control: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What a process that saw no submission found in the StableHLO of one function.

    Attributes:
      sha256: of the file.
      program_bytes: of the file.
      flops, bytes: of a step, by XLA's cost analysis, before optimisation; a loop counts once.
      products, exact: operations of matrix products and convolutions, loops counted as often as they run, of branches
        the dearest; exact is False where a loop of unknown length holds any.
      constant_bytes: of all constants; one value repeated counts once.
      custom_calls: their targets, and operations that no step needs, sorted (`harness.program.operations`).
      least: products with the cheapest of branches, and without loops of unknown length; 0 in older programs.
    """

    sha256: str
    program_bytes: int
    flops: float | None
    bytes: float | None
    products: float
    exact: bool
    constant_bytes: int
    custom_calls: tuple[str, ...] = ()
    least: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`.

    Attributes:
      id: SHA-256 over the contract and the StableHLO without debug information, symbols renamed.
      contract: see there.
      functions: facts by name of the function.
      flagged: what a reader of a score has to know of it, in a line each.
      declared: what the exporter said and nobody can derive, gradient calls and examples of a step among it.
      sources: hashes of the sources and versions that it was made from; no part of the identity.
    """

    id: str
    contract: Contract
    functions: dict[str, Facts]
    flagged: tuple[str, ...] = ()
    declared: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Any] = field(default_factory=dict)
    schema: int = 1

    def has(self, way: Way) -> bool:
        """Whether every function is there by this way."""
        return way == "xla" or any(name.endswith(f".{way}") for name in self.functions)
