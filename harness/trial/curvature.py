"""The subprocess of `harness curvature`: the largest eigenvalue of the Hessian of a workload's training loss, at what
trials evaluated at their end. It imports no submission.

`python -m harness.trial.curvature < REQUEST`, a `Request` as JSON. It writes a JSON object a line: an `Answer` for each
run folder, then `{"end": true}`.

The programs in the store hold no Hessian, since an exported function can be differentiated no further. So the loss is
traced here, from the workload's own sources. It is the mean over fixed batches of the loss that a step sees: with
augmentation, masks and batch statistics, drawn by fixed keys. A product with the Hessian is a derivative of the
gradient along the vector, forward over reverse (Pearlmutter 1994), a batch at a time.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from harness.api import Batch, ModelState, Params, PyTree
from harness.errors import HarnessError
from harness.machine import backend
from harness.machine.allocator import keep_memory
from harness.machine.lifetime import end_with_parent
from harness.program import discovery, seeds
from harness.program.draws import draw_examples
from harness.program.exporting import leaves
from harness.program.loss import WorkloadLoss
from harness.program.manifest import Contract, Leaf
from harness.program.workload import Workload
from harness.record import plain_data
from harness.trial import evaluated
from harness.trial.curvature_messages import Answer, Case, Request
from harness.trial.lanczos import Found, largest

Product = Callable[[Params, ModelState, jax.Array], jax.Array]
"""(parameters, model state, float32[N]) -> the Hessian there times the vector, N the number of all parameters."""


def main() -> int:
    """Measure what is asked for on standard input."""
    end_with_parent()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    request = plain_data.read(Request, json.load(sys.stdin), "request")
    backend.configure_jax(request.device, compile_cache=True)
    jax.config.update("jax_default_matmul_precision", "highest")  # on a GPU float32 is not to mean TF32
    for case in request.cases:
        for answer in measured(case, request.batches, request.products):
            print(json.dumps(plain_data.to_plain(answer)), file=answers)
    print(json.dumps({"end": True}), file=answers)
    return 0


def measured(case: Case, batches: int, products: int) -> Iterator[Answer]:
    """Yield what comes of each run folder of a case; a workload that cannot be used comes back for each of them."""
    path = Path(case.workload)
    try:
        workload = discovery.load_workload(discovery.Folder("workloads", path.name, path), case.variant)
        shapes = jax.eval_shape(workload.init, jax.random.key(0))
        contract = contract_of(*shapes)
        product = hessian(workload, drawn(workload, batches))
    except HarnessError as error:
        yield from (Answer(folder, problem=str(error)) for folder in case.folders)
        return
    for folder in case.folders:
        try:
            held = evaluated.load(Path(folder) / evaluated.FILE, contract)
        except HarnessError as error:
            yield Answer(folder, problem=str(error))
            continue
        params, model_state = (
            jax.tree.unflatten(jax.tree.structure(tree), jax.device_put(arrays))
            for tree, arrays in zip(shapes, held, strict=True)
        )
        digest = evaluated.digest(contract, [*held[0], *held[1]])
        found = largest_at(product, params, model_state, products)
        yield Answer(folder, digest, workload.info.batch_size, found.value, found.error)


def keys() -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the keys of the batches, of what the loss draws, and of the first vector: the same for every run."""
    data, loss, start = jax.random.split(seeds.stream(0, 0, 0, "evaluation", tuning=True), 3)
    return data, loss, start


def contract_of(params: Params, model_state: ModelState) -> Contract:
    """Return the contract of a workload's program, as far as parameters and model state go."""

    def of(name: str, tree: PyTree) -> tuple[Leaf, ...]:
        return tuple(Leaf(leaf["name"], tuple(leaf["shape"]), leaf["dtype"]) for leaf in leaves(name, tree))

    return Contract("workload", "cpu", of("params", params), of("model_state", model_state), opt_state=(), batch=())


def drawn(workload: Workload, count: int) -> list[Batch]:
    """Return `count` batches of the workload's own size, on the device. No other examples are read."""
    size, columns, (data_key, _, _) = workload.info.batch_size, workload.splits().train, keys()
    batches: list[Batch] = []
    for number in range(count):
        examples, key = draw_examples(data_key, jnp.int32(number * size), size, workload.info.num_train_examples)
        rows, place = np.unique(np.asarray(examples), return_inverse=True)
        read = jax.device_put({name: column[rows] for name, column in columns.items()})
        batches.append(dict(workload.batch(read, jnp.asarray(place, jnp.int32), key)) | {"index": examples})
    return batches


def hessian(workload: Workload, batches: Sequence[Batch]) -> Product:
    """Return the products with the Hessian of the mean training loss over these batches."""
    loss, given = WorkloadLoss(workload), jax.random.split(keys()[1], len(batches))

    @jax.jit
    def of_batch(params: Params, model_state: ModelState, batch: Batch, key: jax.Array, vector: jax.Array) -> jax.Array:
        point, tree_of = ravel_pytree(params)

        def value(flat: jax.Array) -> jax.Array:
            return loss.value(tree_of(flat), model_state, batch, key)[0]

        return jax.jvp(jax.grad(value), (point,), (vector,))[1]

    def product(params: Params, model_state: ModelState, vector: jax.Array) -> jax.Array:
        parts = [of_batch(params, model_state, batch, key, vector) for batch, key in zip(batches, given, strict=True)]
        return sum(parts[1:], parts[0]) / len(parts)

    return product


def largest_at(product: Product, params: Params, model_state: ModelState, products: int) -> Found:
    """Return the largest eigenvalue of the Hessian at these variables."""
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    start = jax.random.normal(keys()[2], (count,))
    return largest(lambda vector: product(params, model_state, vector), start, products)


if __name__ == "__main__":
    keep_memory()
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
