"""COCOB: no learning rate; every entry bets on its gradients."""

from __future__ import annotations

import optax

from harness.optim.checks import expect


def cocob(alpha: float = 100.0, eps: float = 1e-8) -> optax.GradientTransformation:
    """Return COCOB-Backprop: optax's own, which agrees with the reference.

    For each entry, with the gradient g and x_1 the first parameters:

        L <- max(L, |g|)                                from eps
        G <- G + |g|
        r <- max(0, r - (x - x_1) g)                    by the x of before
        s <- s - g
        x  = x_1 + s / (L max(G + L, alpha L)) (L + r)

    alpha bounds the first steps. State: x_1, L, G, r and s, five numbers per parameter.

    Raises SubmissionError for hyperparameters out of range.

    Source: Orabona and Tommasi (2017), arXiv:1705.07795, Algorithm 2.
    """
    expect("cocob: alpha", alpha, 0, above=True)
    expect("cocob: eps", eps, 0, above=True)
    return optax.contrib.cocob(alpha=alpha, eps=eps)
