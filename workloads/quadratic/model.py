"""Linear regression on plain dicts: what a workload needs at the least, without a neural network library.

Shapes: B examples, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import Batch, Key, ModelState, ParamInfo, ParamKind, Params
from harness.program.workload import Data, Splits, Workload

INPUTS, OUTPUTS = 16, 4
CONDITION = 300.0
VALIDATION, SLICE, TEST = 1024, 512, 512
_SEED = 5

PARAM_INFO = {
    "linear": {
        "kernel": ParamInfo(ParamKind.MATRIX, in_axes=(0,), out_axes=(1,)),
        "bias": ParamInfo(ParamKind.BIAS, in_axes=(), out_axes=(0,)),
    }
}


def make(data: Data) -> Workload:
    """Return the workload. A batch is {"x": float32[B, I], "y": float32[B, O]}."""
    return Workload(
        info=data.info,
        init=init,
        param_info=PARAM_INFO,
        splits=data.load,
        batch=data.batch,
        shapes=data.shapes,
        loss=loss,
        evaluate=lambda params, model_state, arrays: {"loss": _squared_error(params, arrays).mean()},
    )


def batch(train: Mapping[str, jax.Array], index: jax.Array, key: Key) -> dict[str, jax.Array]:
    """Return the examples `index`, int32[B]."""
    del key  # no augmentation
    return {name: array[index] for name, array in train.items()}


def init(key: Key) -> tuple[Params, ModelState]:
    """Return small random weights, and no model state."""
    kernel_IO = 0.01 * jax.random.normal(key, (INPUTS, OUTPUTS), jnp.float32)
    return {"linear": {"kernel": kernel_IO, "bias": jnp.zeros(OUTPUTS, jnp.float32)}}, {}


def loss(params: Params, model_state: ModelState, batch: Batch, key: Key, train: bool) -> tuple[jax.Array, ModelState]:
    """Return (squared errors averaged over the outputs, float32[B]; the empty model state)."""
    del key, train
    return _squared_error(params, batch), model_state


def splits(train: int, noise_variance: float) -> Splits:
    """Draw all examples from one generator: y = x W + noise, with E[y^2] = 1 + noise_variance for each output.

    The inputs are independent, with variances falling geometrically by CONDITION; each carries as much of the output.
    """
    rng = np.random.Generator(np.random.PCG64(_SEED))
    scale_I = np.geomspace(1, CONDITION**-0.5, INPUTS)
    count = train + VALIDATION + TEST
    x_BI = scale_I * rng.standard_normal((count, INPUTS))
    kernel_IO = np.sign(rng.random((INPUTS, OUTPUTS)) - 0.5) / (scale_I[:, None] * INPUTS**0.5)
    y_BO = x_BI @ kernel_IO + noise_variance**0.5 * rng.standard_normal((count, OUTPUTS))

    def part(start: int, stop: int) -> dict[str, np.ndarray]:
        return {"x": x_BI[start:stop].astype(np.float32), "y": y_BO[start:stop].astype(np.float32)}

    end = train + VALIDATION
    return Splits(part(0, train), part(train, train + SLICE), part(train, end), part(end, count))


def _squared_error(params: Params, batch: Mapping[str, jax.Array]) -> jax.Array:
    layer = params["linear"]
    error_BO = batch["x"] @ layer["kernel"] + layer["bias"][None] - batch["y"]
    return jnp.square(error_BO).mean(axis=1)
