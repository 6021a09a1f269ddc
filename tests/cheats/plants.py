"""The cheats by name, and the folder that holds them all: `cheat` is a hyperparameter that names one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CHEATS = {f"{path.parent.name}/{path.stem}": path for path in sorted(HERE.glob("*/[!_]*.py"))}
"""Name, as `data/frames`, to its file."""

DENIED = r"PermissionError in (build|step): .*Permission denied"
BARRED = r"PermissionError in build: .*Operation not permitted"
NOTHING = r"PermissionError in build: \[Errno 1\] (through|found): \[\]"
NO_DIGITS = r"the digits come with scikit-learn, which is not installed"
CONSTANTS = r"holds \d+ bytes of constants; .* at most 8192 are allowed"
PREVENTED = {
    "data/cache_folder": DENIED,
    "data/checkpoints": DENIED,
    "data/frames": NO_DIGITS,
    "data/inherited_files": NOTHING,
    "data/link_as_module": r"No module named '_found_\w+\.loot'|Permission denied",
    "data/link_beside": DENIED,
    "data/loss_object": NO_DIGITS,
    "data/module_tree": r"DataError in build: .*Permission denied",
    "data/shared_memory": NOTHING,
    "data/store": DENIED,
    "network/abstract_socket": NOTHING,
    "network/io_uring": BARRED,
    "network/name_service": r"PermissionError in build: \[Errno 1\] no answer",
    "clock/at_import": CONSTANTS,
    "clock/when_traced": CONSTANTS,
    "patch/after_its_answer": r"step_32 is no exported function",
    "patch/calls_python": r"step_32 calls xla_ffi_python_cpu_callback, which is no operation of jax",
    "patch/draws_without_a_key": r"step_32 calls stablehlo\.rng, which is no operation",
    "patch/names_of_the_state": r"two arrays of the state have one name",
    "patch/products_by_other_names": r"step_32 calls mhlo\.dot_general, stablehlo\.dot, which is no operation",
    "patch/smaller_than_what_is_written": r"step_32 calls lapack_sgeqrf_ffi with other shapes, which is no operation",
    "patch/waits_for_the_host": r"step_32 calls stablehlo\.infeed, which is no operation",
    "evaluation/a_thousand_batches": r"recalibration_batches is 1000, .* expected are 0 to 20",
    "evaluation/counter_that_overflows": r"eval_variables takes products in a loop of unknown length, operations",
    "evaluation/gradient_in_a_composite": r"eval_variables takes [\d.e+]+ operations; .* may take no gradient",
    "knowledge/constants_of_another_dialect": CONSTANTS,
    "knowledge/file_beside": DENIED,
    "knowledge/in_a_hyperparameter": CONSTANTS,
    "knowledge/places_of_slices": r"the program takes \d+ bytes packed; the workload's own step takes \d+, and 3 times",
}
"""Name to what the error says; the submission has no program."""
HARMLESS = ("patch/compiled_beside", "patch/environment")
"""Their program is the honest one's, to the last bit of its id."""
FLAGGED = {
    "patch/less_work_in_a_branch": r"a step of 8 examples takes 0\.5\d? of the products .*, at most 1\.\d+: it has",
    "patch/less_work_beside_a_loop": r"a step of 8 examples takes 0\.5\d? of the products .*, at most 1\.\d+: it has",
}
"""Name to what every record, and every table that holds it, says of the program."""
CHARGED = {
    "clock/late": lambda step: 21.0 if step >= 100 else 1.0,
    "clock/warm_up_alone": lambda step: 21.0 if step < 2 else 1.0,
    "clock/as_long_as_it_likes": lambda step: 1.0 if step < 50 else 1.0 + step % 40,
}
"""Name to what its step takes by its number, in steps of the yardstick."""
MEASURED = ("evaluation/nan_for_everything", "evaluation/reports_what_it_likes")
"""They meet no target, whatever they return."""
THROUGH = (
    "clock/as_it_compiles", "knowledge/made_again", "knowledge/recognised", "knowledge/seed_zero",
    "knowledge/skips_examples", "patch/less_work_and_padding",
)  # fmt: skip
"""They have a program without a flag: what the harness does not stop."""
ON = {
    "data/frames": "mae_digits",
    "data/loss_object": "mae_digits",
    "evaluation/counter_that_overflows": "shrunk_gpt",
    "evaluation/gradient_in_a_composite": "shrunk_gpt",
    "evaluation/logits_without_bounds": "shrunk_gpt",
    "patch/less_work_and_padding": "shrunk_gpt",
    "patch/less_work_beside_a_loop": "shrunk_gpt",
    "patch/less_work_in_a_branch": "shrunk_gpt",
}
"""The workload, where it is not the smallest toy."""

ANSWERS = {
    **dict.fromkeys([*PREVENTED, *HARMLESS, *MEASURED, "evaluation/logits_without_bounds"], "prevented"),
    **dict.fromkeys(FLAGGED, "detected"),
    **dict.fromkeys([*CHARGED, "clock/in_init"], "charged"),
    **dict.fromkeys(THROUGH, "not stopped"),
}
"""Name to what comes of it, as the table in `harness/SECURITY.md` says."""

DRIVER = '''
"""Exports the cheat that the hyperparameter names, with all that the one before it patched as it was."""

import importlib

from jax import export

from harness.program import exporting, loss, trace

OWNERS = (exporting, loss, trace, loss.WorkloadLoss, export.Exported)
BEFORE = [(owner, name, value) for owner in OWNERS for name, value in vars(owner).items() if not name.startswith("__")]


def build(task, hp):
    for owner, name, value in BEFORE:
        if vars(owner).get(name) is not value:
            setattr(owner, name, value)
    return importlib.import_module("." + hp["cheat"].replace("/", "_"), __package__).build(task, hp)
'''
META = """name: together
description: planted
authors: [a]
licence: MIT
tuning: self
defaults: {cheat: honest, place: "", weights: ""}
"""
THINKS = """
import threading
import optax
from harness.api import Algorithm, Control
from harness.optim.optax_adapter import from_optax

def think():
    while True:
        pass

def build(task, hp):
    base = from_optax(optax.sgd(0.1))

    def control(progress):
        threading.Thread(target=think, daemon=True).start()
        return Control()

    return Algorithm(init=base.init, step=base.step, control=control)
"""
"""Leaves a thread that counts."""
HONEST = "import optax\n\n\ndef build(task, hp):\n    return optax.sgd(0.1)\n"


def point(cheat: str, place: Path) -> dict[str, Any]:
    """Return the hyperparameters by which the driver exports a cheat."""
    weights = np.random.default_rng(0).normal(size=10_000).astype("float32").tobytes()
    told = str(place) if cheat.startswith("data/") else ""
    return {
        "cheat": cheat,
        "place": told,
        "weights": base64.b64encode(weights).decode() if cheat == "knowledge/in_a_hyperparameter" else "",
    }
