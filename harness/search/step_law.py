"""Step Law: the best peak learning rate and batch size of a language model, by its size and its data. No jax.

    η(N, D) = 1.79 N^-0.713 D^0.307        B(D) = 0.58 D^0.571 tokens

N parameters without the embeddings, D tokens of training (Li et al. 2025, arXiv:2503.04715, fitted on AdamW with models
of about 60 million to 1 billion parameters and 2 to 100 billion tokens). Beyond that range it is an extrapolation: a
centre to search around, and no answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harness.program.manifest import Contract
from harness.program.workload import WorkloadInfo

PARAMETERS = (6e7, 1.1e9)
TOKENS = (2e9, 1e11)
BATCH = 4.0
"""So many times more or fewer tokens in a batch than the law's own are told: its learning rate goes with its batch."""


@dataclass(frozen=True)
class Size:
    """What the law is asked about.

    Attributes:
      parameters: N.
      batch_tokens: in a step.
      steps: of the training.
    """

    parameters: int
    batch_tokens: int
    steps: int

    @property
    def tokens(self) -> int:
        """D."""
        return self.batch_tokens * self.steps


def learning_rate(size: Size) -> float:
    """Return the peak learning rate."""
    return 1.79 * size.parameters**-0.713 * size.tokens**0.307


def batch_tokens(size: Size) -> float:
    """Return the tokens in a batch."""
    return 0.58 * size.tokens**0.571


def outside(size: Size) -> list[str]:
    """Return in words in what a size lies outside of what the law was fitted on; empty within."""
    found = []
    for what, value, (least, most) in (("parameters", size.parameters, PARAMETERS), ("tokens", size.tokens, TOKENS)):
        if not least <= value <= most:
            found.append(f"{value:.2g} {what}, not {least:.1g} to {most:.1g}")
    best = batch_tokens(size)
    if abs(math.log(size.batch_tokens / best)) > math.log(BATCH):
        found.append(f"a batch of {size.batch_tokens} tokens, where the law's own has {best:.0f}")
    return found


def size_of(info: WorkloadInfo, contract: Contract) -> Size | None:
    """Return the size of a language model that trains for the step hint; None where a batch has no tokens to predict.

    `contract` is that of the workload's own program. Parameters are all but the tables that are looked up.
    """
    inputs = next((leaf for leaf in contract.batch if leaf.name == "batch['inputs']"), None)
    if inputs is None or len(inputs.shape) != 2 or not inputs.dtype.startswith("int"):
        return None
    count = sum(math.prod(leaf.shape) for leaf in contract.params if not leaf.name.endswith("['embedding']"))
    return Size(count, math.prod(inputs.shape), info.step_hint)
