"""The cases of rules that take a gradient and go entry by entry or tensor by tensor; and SAM's."""

from __future__ import annotations

import numpy as np

from . import adagrad, adamp, ademamix, adopt, cautious, diffgrad, lars, lion, mars, nadam, rmsprop, sam, sophia
from .case import ADAM, INPUTS, MATRICES, Case, scaled
from .trees import Tree

ADAMP_CONVENTIONS = [
    "channel = row of (out, in); where the largest |cosine| of GRADIENT and parameter is below delta/sqrt(size)",
    "channels first, then the whole layer, else no projection; `projections_after` says which it was; vectors never",
    "a projected tensor decays by wd_ratio times its decay",
]
LARS_CONVENTIONS = [
    "ratio = trust_coefficient |p| / (|g| + wd |p| + eps): two norms, not the norm of g + wd p; 1 if |p| or |g| is 0",
    "u = ratio (g + wd p); a parameter without decay (b) is not adapted either",
]
ADOPT_SIGNATURE = "adopt(learning_rate, b1, b2, eps, weight_decay, clip, mask)"
SAM_SIGNATURE = "two gradients a step: sam(inner, rho)"


def hessian_estimates() -> dict[int, Tree]:
    """Return an estimate every fifth step: 32 times the squares of the gradients seven steps later."""
    grads = INPUTS["grads"]
    return {t: {k: (32 * np.array(g) ** 2).round(9) for k, g in grads[t + 6].items()} for t in (1, 6, 11)}


COORDINATE: dict[str, Case] = {
    "lion": Case(
        lion.lion,
        "Lion",
        "decoupled decay",
        "lion(learning_rate, b1, b2, weight_decay, mask)",
        ["sign(b1 m + (1-b1) g) with sign(0) = 0", "m is averaged by b2, after the step", "p <- p - lr (sign + wd p)"],
        {"b1": 0.9, "b2": 0.99},
        scaled(0.2),
        MATRICES,
    ),
    "ademamix": Case(
        ademamix.ademamix,
        "AdEMAMix",
        "constant alpha and b3",
        "ademamix(learning_rate, b1, b2, b3, alpha, eps, weight_decay, mask)",
        [
            "the slow average starts at 0 and has no bias correction",
            "p <- p - lr ((m1hat + alpha m2)/(sqrt(vhat)+eps) + wd p)",
        ],
        ADAM | {"b3": 0.999, "alpha": 5.0},
        weight_decay=MATRICES,
    ),
    "ademamix_warmup": Case(
        ademamix.ademamix,
        "AdEMAMix",
        "alpha and b3 warmed up over 12 steps",
        "ademamix(learning_rate, b1, b2, b3, alpha, eps, weight_decay, mask) with schedules",
        [
            "alpha_t = min(t alpha / warmup, alpha), t = 1, 2, ...: a twelfth of it at the first step",
            "b3_t = exp(ln b1 ln b3 / ((1 - t/warmup) ln b3 + t/warmup ln b1)), b3 from t = warmup on",
        ],
        ADAM | {"b3": 0.999, "alpha": 5.0, "warmup": 12},
        weight_decay=MATRICES,
    ),
    "cautious_adamw": Case(
        cautious.cautious_adamw,
        "Cautious AdamW",
        "mask over its mean, kept above 1e-3",
        "cautious(inner)",
        [
            "mask = [u g > 0] with u = mhat/(sqrt(vhat)+eps); mask <- mask / max(mean(mask), 1e-3), per tensor",
            "decay is not masked: p <- p (1 - lr wd) - lr u mask",
        ],
        ADAM,
        weight_decay=MATRICES,
    ),
    "mars_adamw": Case(
        mars.mars_adamw,
        "MARS-AdamW",
        "approximate form; every parameter by MARS (the authors' optimize_1d=True)",
        "mars_adamw(learning_rate, b1, b2, eps, gamma, weight_decay, mask)",
        [
            "c = g + gamma b1/(1-b1) (g - g_last), g_last = 0 at step 1: there c = g (1 + gamma b1/(1-b1))",
            "c is clipped to norm 1 per tensor; both moments average the clipped c",
            "the authors' default treats vectors by AdamW with a rate of its own (optimize_1d=False): not here",
        ],
        {"b1": 0.95, "b2": 0.99, "eps": 1e-8, "gamma": 0.025},
        weight_decay=MATRICES,
    ),
    "adamp": Case(
        adamp.adamp,
        "AdamP",
        "delta 1.3, so that channel, layer and no projection all occur",
        "adamp(learning_rate, b1, b2, eps, weight_decay, delta, wd_ratio, mask)",
        [*ADAMP_CONVENTIONS, "u = m/(sqrt(vhat)+eps) is projected; p <- p (1 - lr wd ratio) - lr/(1-b1^t) u"],
        ADAM | {"delta": 1.3, "wd_ratio": 0.1},
        weight_decay=MATRICES,
    ),
    "sgdp": Case(
        adamp.sgdp,
        "SGDP",
        "heavy ball, delta 1.3",
        "sgdp(learning_rate, momentum, weight_decay, delta, wd_ratio, eps, mask)",
        [*ADAMP_CONVENTIONS, "m <- momentum m + g; p <- p (1 - lr wd ratio/(1-momentum)) - lr m"],
        {"momentum": 0.9, "eps": 1e-8, "delta": 1.3, "wd_ratio": 0.1},
        scaled(2),
        MATRICES,
    ),
    "diffgrad": Case(
        diffgrad.diffgrad,
        "diffGrad",
        "no decay",
        "diffgrad(learning_rate, b1, b2, eps)",
        [
            "friction = sigmoid(|g_last - g|), g_last = 0 at step 1; it multiplies m, which stays as it was",
            "p <- p - lr sqrt(1-b2^t)/(1-b1^t) friction m/(sqrt(v)+eps): eps meets the uncorrected root",
        ],
        {"b1": 0.9, "b2": 0.999, "eps": 1e-8},
    ),
    "lars": Case(
        lars.lars,
        "LARS",
        "lr outside the momentum (torch's SGD, timm)",
        "lars(learning_rate, momentum, trust_coefficient, eps, weight_decay, mask)",
        [*LARS_CONVENTIONS, "m <- momentum m + u; p <- p - lr m"],
        {"momentum": 0.9, "trust_coefficient": 0.1, "eps": 1e-8},
        scaled(100),
        MATRICES,
    ),
    "lars_paper": Case(
        lars.lars,
        "LARS",
        "lr inside the momentum (the paper's Algorithm 1)",
        "lars(learning_rate, momentum, trust_coefficient, eps, weight_decay, mask)",
        [*LARS_CONVENTIONS, "m <- momentum m + lr u; p <- p - m"],
        {"momentum": 0.9, "trust_coefficient": 0.1, "eps": 1e-8, "lr_inside": True},
        scaled(100),
        MATRICES,
    ),
    "adopt": Case(
        adopt.adopt,
        "ADOPT",
        "v2: clip at t^0.25 (the authors' default today)",
        ADOPT_SIGNATURE,
        [
            "step 1 moves nothing and decays nothing: v = g^2",
            "then u = g / max(sqrt(v of before), eps), clipped to +-(t-1)^0.25",
            "m <- b1 m + (1-b1) u; p <- p(1 - lr wd) - lr m; v comes last",
            "no bias correction",
        ],
        {"b1": 0.9, "b2": 0.99, "eps": 1e-6, "clip": 0.25},
        weight_decay=MATRICES,
    ),
    "adopt_unclipped": Case(
        adopt.adopt,
        "ADOPT",
        "first form: no clip (Algorithm 1)",
        ADOPT_SIGNATURE,
        ["as adopt, without the clip; m starts at 0 (an earlier commit of the authors' started it at the first u)"],
        {"b1": 0.9, "b2": 0.99, "eps": 1e-2, "clip": None},
        scaled(0.1),
        MATRICES,
    ),
    "nadam": Case(
        nadam.nadam,
        "NAdam",
        "Dozat's schedule of mu, decoupled decay, as torch",
        "nadam(learning_rate, b1, b2, eps, psi, weight_decay, mask)",
        [
            "mu_t = b1 (1 - 0.5 0.96^(t psi)); m averages by b1",
            "u = (1-mu_t) g/(1-prod mu to t) + mu_{t+1} m/(1-prod mu to t+1), over sqrt(vhat)+eps",
        ],
        {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "psi": 0.004},
        weight_decay=MATRICES,
    ),
    "rmsprop": Case(
        rmsprop.rmsprop,
        "RMSProp",
        "momentum outside, not centred, as torch",
        "rmsprop(learning_rate, decay, eps, momentum)",
        ["v from 0 without bias correction: the first step is lr/sqrt(1-decay) in every entry", "eps outside the root"],
        {"decay": 0.9, "eps": 1e-8, "momentum": 0.9},
        scaled(0.3),
    ),
    "adagrad": Case(
        adagrad.adagrad,
        "AdaGrad",
        "eps outside the root, as torch",
        "adagrad(learning_rate, initial_accumulator, eps)",
        ["the sum of squares starts at initial_accumulator (torch's default is 0)", "p <- p - lr g/(sqrt(G)+eps)"],
        {"initial_accumulator": 0.1, "eps": 1e-7},
        scaled(5),
    ),
    "adagrad_eps_in_root": Case(
        adagrad.adagrad,
        "AdaGrad",
        "eps inside the root",
        "adagrad(learning_rate, initial_accumulator, eps)",
        ["p <- p - lr g/sqrt(G+eps); where G is 0 nothing moves"],
        {"initial_accumulator": 0.1, "eps": 1e-7, "eps_in_root": True},
        scaled(5),
    ),
    "sophia_g": Case(
        sophia.sophia,
        "Sophia-G",
        "estimates of the Hessian's diagonal given at steps 1, 6 and 11",
        "sophia_g(learning_rate, b1, b2, gamma, eps, weight_decay, update_interval, mask) through sample_targets",
        [
            "hessian_estimates[t] is B ghat^2, with B the batch size: averaged into h at step t, before the step",
            "h and m start at 0 without bias corrections: h after the first estimate is (1-b2) of it",
            "p <- p (1 - lr wd); p <- p - lr clip(m / max(gamma h, eps), 1)",
            "the authors' code adds 1e-15 instead of the maximum; it is the same to the tolerance",
        ],
        {"b1": 0.96, "b2": 0.9, "gamma": 0.3, "eps": 1e-12},
        weight_decay=MATRICES,
        given={"hessian_estimates": hessian_estimates()},
    ),
    "sam_sgd": Case(
        sam.sam,
        "SAM",
        "round SGD with momentum, coupled decay",
        SAM_SIGNATURE,
        [
            "`grads` are not the gradients: f_t = sum over arrays of <grads[t-1], p> + |p|^2/4 + sum(p^4)/4",
            "so the gradient at p is grads[t-1] + p/2 + p^3, at both points of step t",
            "second point: p + rho g/(|g| + 1e-12), one norm over all; the inner rule gets its gradient, and p",
            "u = gradient + wd p; m <- momentum m + u; p <- p - lr m",
        ],
        {"rho": 0.05, "momentum": 0.9},
        scaled(3),
        MATRICES,
    ),
    "gradient_norm_penalty": Case(
        sam.sam,
        "Gradient norm penalty",
        "Zhao et al. 2022: (1-alpha) of the gradient here, alpha of SAM's",
        SAM_SIGNATURE,
        ["as sam_sgd; the inner rule gets (1-alpha) grad(p) + alpha grad(p + rho g/|g|): penalty alpha rho |grad|"],
        {"rho": 0.05, "momentum": 0.9, "alpha": 0.7},
        scaled(3),
        MATRICES,
    ),
}
