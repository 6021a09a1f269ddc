"""The cases of rules that find their own step size, from numbers over all parameters."""

from __future__ import annotations

from . import cocob, dadapt_adam, dog, mechanic, momo, prodigy
from .case import ADAM, MATRICES, Case, scaled

LOSSES = [2.1, 1.7, 1.9, 0.9, 1.2, 0.4, 0.7, 2.6, 0.5, 0.3, 0.35, 0.02, 0.2, 0.25, 0.05, 0.3, 0.1, 0.15, 0.01, 0.08]
PRODIGY_CONVENTIONS = [
    "d is one number for all parameters; d_after[t-1] is it after step t",
    "moments, numerator and s of step t use the d of before; the step is d_before lr m / (sqrt(v) + d_after eps)",
    "r <- sqrt(b2) r + d^2 lr <g, x0 - x>; s <- sqrt(b2) s + d^2 lr g; d <- max(d, r/|s|_1); lr corrected if on",
    "decay is decoupled: p <- p (1 - d_before lr wd) before the step",
]
DADAPT_CONVENTIONS = [
    "d_after[t-1] is d after step t; the numerator takes <g, s / (sqrt(v)+eps)> BEFORE s and v get this gradient",
    "d lr (with the bias correction if on) is inside m and s; the step is m / (sqrt(v) + eps) without a further factor",
    "decay is decoupled: p <- p (1 - d_before lr wd) before the step",
]
MOMO_CONVENTIONS = [
    "losses[t-1] is the loss at the parameters before step t; step_size_after[t-1] is tau of step t",
    "inner products and norms run over all parameters together",
    "decay is proximal: p <- (p - tau d) / (1 + lr wd), by lr and not by tau; it enters tau's numerator",
]
MECHANIC_CONVENTIONS = [
    "base: u_t = -lr (mhat/(sqrt(vhat)+eps) + wd x_t); x_{t+1} = x_1 + (sum s) Delta; scale_after[t-1] = sum s",
    "h_t = <Delta_t, g_t + lambda (sum s) |g_t| x/|x|> by the Delta of BEFORE this update; norms over all parameters",
    "m <- max(beta m, |h|); v <- beta^2 v + h^2; r <- max(0, beta r - s h); s = (s_init m/n + r) / (sqrt(v)+eps)",
    "at step 1 Delta = 0, so h = 0",
]
MECHANIC_BETAS = [0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999]
MECHANIC = ADAM | {"betas": MECHANIC_BETAS, "s_init": 0.01, "s_decay": 0.01, "mechanic_eps": 1e-8}


SCALE: dict[str, Case] = {
    "prodigy": Case(
        prodigy.prodigy,
        "Prodigy",
        "bias correction on, decoupled decay, d0 1e-3 so that d grows within 20 steps",
        "prodigy(learning_rate, b1, b2, eps, weight_decay, d0)",
        PRODIGY_CONVENTIONS,
        {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "d0": 1e-3, "use_bias_correction": True},
        scaled(100),
        MATRICES,
    ),
    "prodigy_uncorrected": Case(
        prodigy.prodigy,
        "Prodigy",
        "bias correction off (prodigyopt's default)",
        "prodigy(learning_rate, b1, b2, eps, weight_decay, d0)",
        PRODIGY_CONVENTIONS,
        {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "d0": 1e-3, "use_bias_correction": False},
        scaled(100),
        MATRICES,
    ),
    "dadapt_adam": Case(
        dadapt_adam.dadapt_adam,
        "D-Adapt Adam",
        "bias correction on, decoupled decay",
        "dadapt_adam(learning_rate, b1, b2, eps, weight_decay, d0)",
        DADAPT_CONVENTIONS,
        {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "d0": 1e-3, "use_bias_correction": True},
        scaled(100),
        MATRICES,
    ),
    "dadapt_adam_uncorrected": Case(
        dadapt_adam.dadapt_adam,
        "D-Adapt Adam",
        "bias correction off (dadaptation's default), decoupled decay",
        "dadapt_adam(learning_rate, b1, b2, eps, weight_decay, d0)",
        DADAPT_CONVENTIONS,
        {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "d0": 1e-3, "use_bias_correction": False},
        scaled(100),
        MATRICES,
    ),
    "dog": Case(
        dog.dog,
        "DoG",
        "all parameters one vector; eval_params_after is the polynomial average",
        "dog(reps_rel, eps)",
        [
            "eta = max distance from x0 / sqrt(eps + sum of |g|^2), this gradient in; at first reps_rel (1 + |x0|)",
            "average: w = 9/(t+8), so 1 at t = 1",
        ],
        {"reps_rel": 1e-2, "eps": 1e-8},
        [1.0] * 20,
    ),
    "ldog": Case(
        dog.dog,
        "L-DoG",
        "each array a vector of its own",
        "dog(reps_rel, eps) per layer",
        ["as dog, with distance, norm and sum per array; eps once in each sum"],
        {"reps_rel": 1e-2, "eps": 1e-8, "layer_wise": True},
        [1.0] * 20,
    ),
    "momo": Case(
        momo.momo,
        "MoMo",
        "lower bound 0, averages from their first value",
        "momo(learning_rate, beta, lb, weight_decay), update(..., value=loss)",
        [
            *MOMO_CONVENTIONS,
            "f_bar, d and <d, x> start at the first loss, gradient and product; tau = min(lr, h+/|d|^2)",
        ],
        {"beta": 0.9, "lb": 0.0},
        scaled(300),
        0.05,
        {"losses": LOSSES},
    ),
    "momo_adam": Case(
        momo.momo_adam,
        "MoMo-Adam",
        "lower bound 0, proximal decay",
        "momo_adam(learning_rate, b1, b2, eps, lb, weight_decay), update(..., value=loss)",
        [
            *MOMO_CONVENTIONS,
            "averages from 0, uncorrected, but D = sqrt(v/(1-b2^t)) + eps; tau = min(lr/(1-b1^t), h+/|d|^2 in D^-1)",
        ],
        ADAM | {"lb": 0.0},
        scaled(20),
        0.05,
        {"losses": LOSSES},
    ),
    "mechanic_adamw": Case(
        mechanic.mechanic_adamw,
        "Mechanic",
        "round AdamW, the paper's form: m_0 = 0, decay at x_t; s_init 0.01",
        "mechanic(inner, betas, s_init, s_decay, eps)",
        [*MECHANIC_CONVENTIONS, "m_0 = 0: s is 0 after step 1, and the parameters stand still once"],
        MECHANIC | {"first_max": 0.0, "decay_at": "x"},
        weight_decay=MATRICES,
    ),
    "mechanic_adamw_package": Case(
        mechanic.mechanic_adamw,
        "Mechanic",
        "round AdamW, the authors' package: m_0 = 1e-6, decay at x_t + u_t; s_init 0.01",
        "mechanic(inner, betas, s_init, s_decay, eps)",
        [*MECHANIC_CONVENTIONS, "m_0 = 1e-6 over eps makes s large at step 1: sum s = s_init 1e-6/eps (mean of betas)"],
        MECHANIC | {"first_max": 1e-6, "decay_at": "after_base"},
        weight_decay=MATRICES,
    ),
    "cocob": Case(
        cocob.cocob,
        "COCOB-Backprop",
        "alpha 50 (the default is 100)",
        "cocob(alpha, eps)",
        [
            "L starts at eps; all is per entry; x = x_1 + theta/(L max(G+L, alpha L)) (L + reward)",
            "the reward takes this gradient times the offset of BEFORE the step, and is kept at 0 or above",
        ],
        {"alpha": 50.0, "eps": 1e-8},
        None,
    ),
}
