"""The learning rates of AdamW over the widths of a ladder, with the variant `mup` and without it.

    python scripts/mup_rates.py          lm_grammar and two of its rungs, 200 steps each: 7 minutes on 2 cores

Prints the loss on the validation slice after a short run, one seed, at rates a factor of two apart: with `mup` the best
rate is to be the same at each width. Nothing is recorded. The table is in workloads/families/README.md.
"""

from __future__ import annotations

import argparse

import jax
import jax.numpy as jnp
import optax

from harness.program import discovery
from harness.program.data_order import batch_indices
from harness.program.loss import WorkloadLoss

WORKLOADS = ("lm_grammar_w32", "lm_grammar", "lm_grammar_w128")
RATES = (0.004, 0.008, 0.016, 0.032, 0.064)
WARM_UP = 10  # steps


def main() -> None:
    """Print a row for each width, without the variant and with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=WORKLOADS, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=200, help="of each run (default %(default)s)")
    args = parser.parse_args()
    print("| variant | workload |" + "".join(f" {rate} |" for rate in RATES))
    print("|---|---|" + "---|" * len(RATES))
    for variant in (None, "mup"):
        for name in args.workloads:
            found = finals(name, variant, args.steps)
            best = min(found)
            cells = [f"**{loss:.3f}**" if loss == best else f"{loss:.3f}" for loss in found]
            print(f"| {variant or 'unchanged'} | {name} | {' | '.join(cells)} |", flush=True)


def finals(name: str, variant: str | None, steps: int) -> list[float]:
    """Return the final loss at each rate: clipping, AdamW, a warm-up and linear decay."""
    workload = discovery.load_workload(discovery.find("workloads", name), variant)
    splits, info, key = workload.splits(), workload.info, jax.random.key(0)
    train, validation = (jax.device_put(dict(part)) for part in (splits.train, splits.validation_slice))

    @jax.jit
    def final(rate: jax.Array) -> jax.Array:
        def schedule(step: jax.Array) -> jax.Array:
            return rate * jnp.minimum(1.0, (step + 1) / WARM_UP) * (1 - step / steps)

        optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.02))
        params, model_state = workload.init(key)

        def step(carry, number):  # type: ignore[no-untyped-def]
            params, state = carry
            index = batch_indices(key, number * info.batch_size, info.batch_size, info.num_train_examples)
            batch = workload.batch(train, index, key) | {"index": index}
            _, gradients = WorkloadLoss(workload).value_and_grad(params, model_state, batch, key)
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(steps))
        return workload.evaluate(params, model_state, validation)["loss"]

    return [float(final(jnp.float32(rate))) for rate in RATES]


if __name__ == "__main__":
    main()
