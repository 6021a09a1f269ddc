"""An MLP whose step takes about 2 ms on two cores: small enough that a runner's own cost per step shows. For
bench_loop.py only.
"""

import itertools

from harness.api import LossKind, ParamInfo, ParamKind
from harness.program.workload import UNSET, Data, Splits, Workload, WorkloadInfo, split_shapes

INFO = WorkloadInfo(
    name="mlp",
    description="random regression with a four-layer MLP",
    metric="loss",
    mode="min",
    target=UNSET,
    batch_size=256,
    step_hint=2000,
    num_train_examples=8192,
    loss_kind=LossKind.MEAN_SQUARED_ERROR,
    scored=False,
)
WIDTHS = (256, 320, 320, 320, 1)


def data() -> Data:
    """Return the data."""
    import numpy as np

    def split(seed: int, n: int):
        random = np.random.default_rng(seed)
        x = random.normal(size=(n, WIDTHS[0])).astype(np.float32)
        return {"x": x, "y": np.sin(x[:, :4].sum(1)).astype(np.float32)}

    shapes = split_shapes(
        (INFO.num_train_examples, 256, 256, 256), {"x": ((WIDTHS[0],), "float32"), "y": ((), "float32")}
    )
    return Data(
        INFO,
        shapes,
        splits=lambda: Splits(split(0, INFO.num_train_examples), split(1, 256), split(1, 256), split(2, 256)),
        batch=lambda train, index, key: {"x": train["x"][index], "y": train["y"][index]},
    )


def load() -> Workload:
    """Return the workload."""
    import jax
    import jax.numpy as jnp

    own = data()
    layers = list(itertools.pairwise(WIDTHS))

    def init(key):
        keys = jax.random.split(key, len(layers))
        return {
            f"layer{i}": {"kernel": jax.random.normal(k, shape) / shape[0] ** 0.5, "bias": jnp.zeros(shape[1])}
            for i, (k, shape) in enumerate(zip(keys, layers, strict=True))
        }, {}

    def loss(params, model_state, batch, key, train):
        x = batch["x"]
        for i in range(len(layers)):
            layer = params[f"layer{i}"]
            x = x @ layer["kernel"] + layer["bias"][None, :]
            x = x if i == len(layers) - 1 else jax.nn.relu(x)
        return (x[:, 0] - batch["y"]) ** 2, model_state

    kernel, bias = ParamInfo(ParamKind.MATRIX, (0,), (1,)), ParamInfo(ParamKind.BIAS, (), (0,))
    return Workload(
        info=INFO,
        init=init,
        param_info={f"layer{i}": {"kernel": kernel, "bias": bias} for i in range(len(layers))},
        splits=own.load,
        batch=own.batch,
        shapes=own.shapes,
        loss=loss,
        evaluate=lambda params, state, arrays: {"loss": loss(params, state, arrays, None, False)[0].mean()},
    )
