"""Windows whose data name the part that each comes from: a batch holds it, and an algorithm can choose by it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from harness.api import TrainState
from harness.program import discovery
from harness.program.draws import draw_step
from harness.program.loss import WorkloadLoss
from harness.program.workload import Data
from workloads.families import gpt

ALGORITHM = Path(__file__).resolve().parents[2] / "algorithms/mixture"
FOLDER = discovery.find("workloads", "shrunk_gpt")
PARTS = (2, 3, 3)  # of eight training windows; the algorithm takes half from each of the first two sources


def named() -> Data:
    """Return the data of a toy, with sources; its last one is noise."""
    data = discovery.load_data(FOLDER)
    source = np.resize(np.repeat(np.arange(3), PARTS), data.info.num_train_examples).astype(np.uint8)
    train = data.shapes["train"] | {"source": (source.shape, "uint8")}

    def splits():
        found = data.splits()
        noise = np.random.default_rng(0).integers(0, 11, found.train["tokens"].shape, np.uint8)
        tokens = np.where(source[:, None] == 2, noise, found.train["tokens"])
        return replace(found, train={"tokens": tokens, "source": source})

    return replace(data, shapes={**data.shapes, "train": train}, splits=splits)


def test_a_batch_names_the_source_of_each_window_where_the_data_do() -> None:
    data, plain = named(), discovery.load_data(FOLDER)
    train, index = data.load().train, jnp.array([5, 0, 2])
    assert data.batch(train, index, jax.random.key(0))["source"].tolist() == train["source"][[5, 0, 2]].tolist()
    assert set(plain.batch(plain.load().train, index, jax.random.key(0))) == {"inputs", "targets"}


def test_an_algorithm_trains_on_a_mixture_of_sources() -> None:
    """Three eighths of the candidates are noise, and of what it trains on nearly nothing."""
    data = named()
    workload, train = gpt.make(data, discovery.load(FOLDER).MODEL), jax.device_put(dict(data.load().train))
    module = discovery.load(discovery.find("submissions", str(ALGORITHM)))
    size = data.info.batch_size
    algorithm = module.build(SimpleNamespace(batch_size=size), {"learning_rate": 0.01})
    key = jax.random.key(0)
    params, model_state = jax.jit(workload.init)(key)
    keys = SimpleNamespace(data=key, algorithm=key)

    @jax.jit
    def run(state: TrainState):
        def step(state: TrainState, number: jax.Array):
            draw = draw_step(
                keys, size * number, number, size, num_examples=data.info.num_train_examples,
                candidates=algorithm.candidates,
            )  # fmt: skip
            batch = data.batch(train, draw.examples, draw.batch_key) | {"index": draw.examples}
            state, metrics = algorithm.step(WorkloadLoss(workload), state, batch, draw.key)
            return state, metrics | {"candidates": (batch["source"] == 2).mean()}

        return jax.lax.scan(step, state, jnp.arange(60))

    zero = jnp.int32(0)
    _, metrics = run(TrainState(params, algorithm.init(params, key), model_state, zero, zero))
    shares = [float(metrics[f"share_{source}"].mean()) for source in range(3)]
    np.testing.assert_allclose(shares, module.SHARES, atol=0.05)
    assert abs(float(metrics["candidates"].mean()) - 3 / 8) < 0.05
    assert float(metrics["loss"][-10:].mean()) < 0.7 * float(metrics["loss"][0])
