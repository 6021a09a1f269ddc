"""Which of the candidates of a batch are trained on: the hard ones. A wrapper round any algorithm."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

from harness.api import Algorithm, Batch, Key, Loss, Metrics, TrainState
from harness.errors import SubmissionError
from harness.optim.checks import expect
from harness.optim.optax_adapter import from_optax


def hard_examples(
    inner: Algorithm | optax.GradientTransformation,
    candidates: int = 2,
    beta: float | jax.Array | None = None,
) -> Algorithm:
    """Return `inner`, trained on the hardest b of c b examples, c = `candidates`: a forward pass over all, then a step.

    The losses l_1 ... l_cb are those under running statistics, without dropout. With r_i in 1 ... cb the rank of l_i,
    from the least on (equal ones in their order):

        beta None    the b largest losses                                    Ordered SGD
        beta         b are drawn one after the other, without putting any    Selective-Backprop
                     back, in proportion to (r_i / cb)^beta

    Both train on another mean than that of the data, by intent. 0 draws uniformly, a large beta takes the largest.

    What differs from Selective-Backprop: c b candidates fill a batch, where the paper goes through the data until
    enough examples were drawn, 1 in 1 + beta on average: so `candidates` = 1 + beta comes nearest to it. Its ranks are
    among the last losses of training, here among the candidates.

    The metric `loss` is that of the chosen, `candidate_loss` the mean over all candidates. Epochs pass c times as fast;
    the forward pass is on the clock.

    Args:
      inner: what trains on the chosen; it must not ask for candidates itself.
      candidates: a whole number of at least 2.
      beta: at least 0.

    Raises SubmissionError for hyperparameters out of range.

    Source: Kawaguchi and Lu (2020), arXiv:1907.04371; Jiang et al. (2019), arXiv:1910.00762.
    """
    expect("hard_examples: candidates", candidates, 2, whole=True)
    if beta is not None:
        expect("hard_examples: beta", beta, 0)
    trained = inner if isinstance(inner, Algorithm) else from_optax(inner)
    if trained.candidates != 1:
        raise SubmissionError(
            f"hard_examples: what it wraps asks for {trained.candidates} candidates itself; wrap an algorithm that "
            "trains on all of its batch"
        )

    def step(loss: Loss, state: TrainState, batch: Batch, key: Key) -> tuple[TrainState, Metrics]:
        of_choice, of_step = jax.random.split(key)
        losses = loss.per_example(state.params, state.model_state, batch, of_choice)
        count = losses.shape[0] // candidates
        chosen = hardest(losses, count) if beta is None else drawn(losses, count, beta, of_choice)
        new, metrics = trained.step(loss, state, {name: x[chosen] for name, x in batch.items()}, of_step)
        return new, {**metrics, "candidate_loss": losses.mean()}

    return dataclasses.replace(trained, step=step, candidates=candidates)


def hardest(losses: jax.Array, count: int) -> jax.Array:
    """Return int32[count]: where the largest of the losses are."""
    return jax.lax.top_k(losses, count)[1]


def drawn(losses: jax.Array, count: int, beta: float | jax.Array, key: Key) -> jax.Array:
    """Return int32[count]: places drawn without replacement in proportion to rank^beta, by the Gumbel top-k trick.

    Source: Kool, van Hoof and Welling (2019), arXiv:1903.06059.
    """
    ranks = jnp.argsort(jnp.argsort(losses)) + 1
    perturbed = beta * jnp.log(ranks.astype(losses.dtype)) + jax.random.gumbel(key, losses.shape, losses.dtype)
    return jax.lax.top_k(perturbed, count)[1]
