"""Compares the rules of this folder with torch and the authors' packages; writes cross_checks.json for make.py.

Needs torch and the packages named in CHECKS, which no other part of the project does: run it in an environment of its
own, `python -m tests.golden.reference.cross_check`, then make.py. With names, those alone.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from io import StringIO
from typing import Any

import numpy as np
import torch

from . import dog, sam
from .case import SHAPES
from .cases import CASES
from .make import CROSS_CHECKS, inputs, largest_difference, run

torch.set_default_dtype(torch.float64)
Params = dict[str, torch.Tensor]
Make = Callable[[list[dict[str, Any]], dict[str, Any]], Any]
Before = Callable[[int, Any, Params], dict[str, Any]]


def groups_of(params: Params, decay: Any) -> list[dict[str, Any]]:
    """Return one group for each decay, so that one rule over all parameters is no question for the others."""
    if not isinstance(decay, dict):
        return [{"params": list(params.values())} | ({} if decay is None else {"weight_decay": decay})]
    return [
        {"params": [params[k] for k in params if decay[k] == d], "weight_decay": d}
        for d in sorted(set(decay.values()), reverse=True)
    ]


def trajectory(name: str, make: Make, before: Before | None, changes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the package's parameters after each step; `before(step, optimizer, params)` gives what step() takes."""
    case = CASES[name]
    start, grads = inputs("float64")
    params = torch.nn.ParameterDict({k: torch.nn.Parameter(torch.tensor(v)) for k, v in start.items()})
    optimizer = make(groups_of(params, case.weight_decay), case.hyperparameters | changes)
    average = import_module("dog").PolynomialDecayAverager(params) if case.rule is dog.dog else None
    after = []
    for t, g in enumerate(grads):
        for group in optimizer.param_groups:
            if case.lr is not None:
                group["lr"] = case.lr[t]
        for k, p in params.items():
            p.grad = torch.tensor(g[k])
        optimizer.step(**(before(t, optimizer, params) if before else {}))
        after.append({"params_after": {k: p.detach().numpy().copy() for k, p in params.items()}})
        if average:
            average.step()
            average_now = {k: p.detach().numpy().copy() for k, p in average.averaged_model.items()}
            after[-1]["eval_params_after"] = average_now
    return after


def rule(path: str, arguments: Callable[[dict[str, Any]], dict[str, Any]]) -> Make:
    module, name = path.rsplit(".", 1)
    return lambda groups, hp: getattr(import_module(module), name)(groups, **arguments(hp))


def betas(hp: dict[str, Any]) -> dict[str, Any]:
    return {"lr": 1.0, "betas": (hp["b1"], hp["b2"]), "eps": hp["eps"]}


def losses(t: int, optimizer: Any, params: Params) -> dict[str, Any]:
    return {"loss": torch.tensor(CASES["momo"].given["losses"][t])}


def estimates(t: int, optimizer: Any, params: Params) -> dict[str, Any]:
    given = CASES["sophia_g"].given["hessian_estimates"].get(t + 1)
    if given is None:  # an average of itself: h stays
        moments = [optimizer.state[p]["hessian_moment"].clone() for g in optimizer.param_groups for p in g["params"]]
        return {"hessian": moments}
    gamma = CASES["sophia_g"].hyperparameters["gamma"]
    names = {id(p): k for k, p in params.items()}
    return {"hessian": [torch.tensor(gamma * given[names[id(p)]]) for g in optimizer.param_groups for p in g["params"]]}


def second_gradient(t: int, optimizer: Any, params: Params) -> dict[str, Any]:
    linear = inputs("float64")[1][t]

    def closure() -> None:
        here = sam.gradient(linear, {k: p.detach().numpy() for k, p in params.items()})
        for k, p in params.items():
            p.grad = torch.tensor(here[k])

    closure()
    return {"closure": closure}


def sam_of_package(groups: list[dict[str, Any]], hp: dict[str, Any]) -> Any:
    """Return pytorch_optimizer's SAM with the gradient's norm in float64: it is a float32 tensor there."""
    package, module = import_module("pytorch_optimizer"), import_module("pytorch_optimizer.optimizer.sam")
    module.get_global_gradient_norm = lambda groups, **_: sum(
        (p.grad**2).sum().reshape(1) for group in groups for p in group["params"]
    )
    return package.SAM(groups, torch.optim.SGD, rho=hp["rho"], lr=1.0, momentum=hp["momentum"])


def soap_of_package(groups: list[dict[str, Any]], hp: dict[str, Any]) -> Any:
    """Return pytorch_optimizer's SOAP with its QR in float64: it casts to float32 there."""
    module = import_module("pytorch_optimizer.optimizer.soap")

    class Float64:
        float32 = torch.float64

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    module.torch = Float64()
    options = {k: hp[k] for k in ("shampoo_beta", "precondition_frequency")}
    return module.SOAP(groups, max_precondition_dim=hp["max_precond_dim"], **betas(hp), **options)


def first_bases(t: int, optimizer: Any, params: Params) -> dict[str, Any]:
    """Put the given bases in the place of the package's own after the first step."""
    if t == 1:
        for k, bases in CASES["soap_two_sided"].given["first_eigenbases"].items():
            optimizer.state[params[k]]["Q"] = [torch.tensor(np.ascontiguousarray(q)) for q in bases]
    return {}


def kron_of_package(groups: list[dict[str, Any]], hp: dict[str, Any]) -> Any:
    """Return kron_torch's Kron, in float64, with the given probes and balance steps instead of its random numbers.

    Its update of the factors adds the damping to the momentum in place, so the noise enters the step as well: it is
    handed a copy.
    """
    module = import_module("kron_torch.kron")
    case = CASES["kron"]
    names = sorted(sorted(SHAPES), key=lambda k: -case.weight_decay[k])  # groups, in each as torch sorts a dict
    queue = [torch.tensor(probe[k]) for probe in case.given["probes"] for k in names]

    class Given:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        def randn_like(self, g: torch.Tensor) -> torch.Tensor:
            return queue.pop(0)

    class Balance:
        step = 0

        def random(self) -> float:
            self.step += 1
            return 0.0 if self.step in case.given["balance_steps"] else 1.0

    originals = {}
    for name in ("_update_precond", "_balance_Q", "_precond_grad", "_clip_update_rms"):
        function = getattr(module, name)
        originals[name] = getattr(function, "_torchdynamo_orig_callable", function)
        setattr(module, name, originals[name])
    module.torch = Given()
    module._solve_triangular_right = lambda X, A: X @ torch.linalg.inv(A)  # theirs solves in float32
    module._update_precond = lambda Q, e, G, s, tiny: originals["_update_precond"](Q, e, G.clone(), s, tiny)
    optimizer = module.Kron(
        groups,
        lr=1.0,
        b1=hp["b1"],
        preconditioner_update_probability=1.0,
        precond_lr=hp["precond_lr"],
        precond_init_scale=hp["precond_init_scale"],
        precond_dtype=torch.float64,
    )
    optimizer.rng = Balance()
    return optimizer


def mechanic_of_package(groups: list[dict[str, Any]], hp: dict[str, Any]) -> Any:
    package = import_module("mechanic_pytorch")
    options = {"s_decay": hp["s_decay"], "betas": tuple(hp["betas"]), "s_init": hp["s_init"], "eps": hp["mechanic_eps"]}
    return package.mechanize(torch.optim.AdamW, store_delta=True, **options)(groups, foreach=False, **betas(hp))


def adam_like(*names: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda hp: betas(hp) | {n: hp[n] for n in names}


def free(hp: dict[str, Any]) -> dict[str, Any]:
    return betas(hp) | {"d0": hp["d0"], "use_bias_correction": hp["use_bias_correction"], "decouple": True}


def three_betas(hp: dict[str, Any]) -> dict[str, Any]:
    more = {"weight_decouple": True, "alpha": hp["alpha"], "t_alpha_beta3": hp.get("warmup")}
    return betas(hp) | {"betas": (hp["b1"], hp["b2"], hp["b3"])} | more


@dataclass(frozen=True)
class Check:
    """A package's rule; `changes` replace hyperparameters on both sides, and the note says why."""

    package: str
    rule: str
    make: Make
    before: Before | None = None
    note: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)


CHECKS: dict[str, Check] = {}


def check(
    name: str, package: str, path: str, arguments: Any, before: Any = None, note: Any = None, **changes: Any
) -> None:
    """Add a check: `arguments` turn hyperparameters into the class's, or make the optimizer of a path "its ..."."""
    make = arguments if path.startswith("its ") else rule(path, arguments)
    CHECKS[name] = Check(package, path.removeprefix("its "), make, before, note, changes)


check("lion", "lion-pytorch", "lion_pytorch.Lion", lambda hp: {"betas": (hp["b1"], hp["b2"])})
check("ademamix", "pytorch_optimizer", "pytorch_optimizer.AdEMAMix", three_betas)
check("ademamix_warmup", "pytorch_optimizer", "pytorch_optimizer.AdEMAMix", three_betas)
check("cautious_adamw", "timm", "timm.optim.AdamWLegacy", lambda hp: betas(hp) | {"caution": True})
check(
    "mars_adamw",
    "pytorch_optimizer",
    "pytorch_optimizer.MARS",
    lambda hp: betas(hp) | {"gamma": hp["gamma"], "optimize_1d": True, "weight_decouple": True},
    note="both with eps 1e-30: theirs meets the uncorrected root, the authors' the corrected one; with 1e-8: 8.3e-6",
    eps=1e-30,
)
check("adamp", "adamp", "adamp.AdamP", adam_like("delta", "wd_ratio"))
check(
    "sgdp",
    "timm",
    "timm.optim.SGDP",
    lambda hp: {"lr": 1.0} | {k: hp[k] for k in ("momentum", "delta", "wd_ratio", "eps")},
    note="adamp 0.3.0 projects its momentum buffer in place, so it keeps the projection: 0.024",
)
check("diffgrad", "torch-optimizer", "torch_optimizer.DiffGrad", betas)
check(
    "lars",
    "timm",
    "timm.optim.Lars",
    lambda hp: {"lr": 1.0, "momentum": hp["momentum"], "trust_coeff": hp["trust_coefficient"], "eps": hp["eps"]},
)
for adopt_form in ("adopt", "adopt_unclipped"):
    check(
        adopt_form,
        "timm",
        "timm.optim.Adopt",
        lambda hp: betas(hp) | {"clip_exp": hp["clip"], "decoupled": True, "foreach": False},
    )
check(
    "nadam",
    "torch",
    "torch.optim.NAdam",
    lambda hp: betas(hp) | {"momentum_decay": hp["psi"], "decoupled_weight_decay": True},
)
check(
    "rmsprop",
    "torch",
    "torch.optim.RMSprop",
    lambda hp: {"lr": 1.0, "alpha": hp["decay"], "eps": hp["eps"], "momentum": hp["momentum"]},
)
check(
    "adagrad",
    "torch",
    "torch.optim.Adagrad",
    lambda hp: {"lr": 1.0, "initial_accumulator_value": hp["initial_accumulator"], "eps": hp["eps"]},
)
check(
    "sophia_g",
    "pytorch_optimizer",
    "pytorch_optimizer.SophiaH",
    lambda hp: betas(hp) | {"p": 1.0, "weight_decouple": True},
    estimates,
)
SAM_NOTE = "the norm in float64; in their float32: 1.5e-9"
check("sam_sgd", "pytorch_optimizer", "its SAM", sam_of_package, second_gradient, SAM_NOTE)

for form in ("prodigy", "prodigy_uncorrected"):
    check(form, "prodigyopt", "prodigyopt.Prodigy", free)
for form in ("dadapt_adam", "dadapt_adam_uncorrected"):
    check(form, "dadaptation", "dadaptation.DAdaptAdam", free)
check("dog", "dog-optimizer", "dog.DoG", lambda hp: {"reps_rel": hp["reps_rel"], "eps": hp["eps"]})
check("ldog", "dog-optimizer", "dog.LDoG", lambda hp: {"reps_rel": hp["reps_rel"], "eps": hp["eps"]})
check("momo", "momo-opt", "momo.Momo", lambda hp: {"lr": 1.0, "beta": hp["beta"], "lb": hp["lb"]}, losses)
check("momo_adam", "momo-opt", "momo.MomoAdam", lambda hp: betas(hp) | {"lb": hp["lb"]}, losses)
check("mechanic_adamw_package", "mechanic-pytorch", "its mechanize(AdamW, store_delta=True)", mechanic_of_package)
check("cocob", "parameterfree", "parameterfree.COCOB", lambda hp: {"alpha": hp["alpha"], "eps": hp["eps"]})
SOAP_NOTE = "QR in float64, not in their float32"
check("soap", "pytorch_optimizer", "its SOAP", soap_of_package, None, SOAP_NOTE)
check("soap_two_sided", "pytorch_optimizer", "its SOAP", soap_of_package, first_bases, SOAP_NOTE)
KRON_NOTE = "given probes; factors solved in float64; the damping not in place: theirs is in the step, too"
check("kron", "kron-torch", "its Kron", kron_of_package, None, KRON_NOTE)


def main(names: list[str]) -> None:
    found: dict[str, Any] = json.loads(CROSS_CHECKS.read_text()) if CROSS_CHECKS.exists() else {}
    for name in names or CHECKS:
        c = CHECKS[name]
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = trajectory(name, c.make, c.before, c.changes)
        difference = float(f"{largest_difference(run(CASES[name], **c.changes), theirs):.2g}")
        found[name] = {"package": c.package, "version": version(c.package), "rule": c.rule} | (
            {"largest_difference": difference} | ({"note": c.note} if c.note else {})
        )
        print(f"{name:28} {c.package:20} {difference:.2g}")
    CROSS_CHECKS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
