"""What a program may hold and take, as the facts about its functions tell, and what is flagged of it."""

from __future__ import annotations

import lzma
import math
import re
from collections.abc import Iterable, Mapping

from harness.errors import SubmissionError
from harness.program import calls, operations
from harness.program.manifest import MAX_CONSTANT_BYTES, Contract, Facts, Leaf, Manifest

ALLOWED_CALLS = re.compile(
    rf"{calls.TARGETS.pattern}|"
    r"Sharding|SPMDFullToShardShape|SPMDShardToFullShape|annotate_device_placement|cu_threefry2x32(_ffi)?"
    r"|cu_lu_pivots_to_permutation|(ducc|cu)_fft\w*|TopK|ApproxTopK|__cudnn\$fmha\w*"
    r"|mhlo\.(topk|erf|tan|asinh?|acosh?|atanh|sinh|cosh)"  # of others XLA makes any operation, uncounted
)
"""Operations of jax itself that become a custom call: linear algebra, Fourier transforms, random bits, attention."""
CUDNN = ".cudnn"  # ends the name of a function whose attention is cuDNN's
PACKED, PACKED_BYTES = 3, 16 * 2**10  # times the workload's own step, packed, and more: so much may all functions take
FEWER = 0.98  # of one gradient's operations: a step that takes fewer is flagged
FORWARD = 1.05  # times the operations of running the loss forward that `eval_variables` may take on its batches
PER_VALUE = 100  # operations for each value of the state that it may take besides


def check(facts: Mapping[str, Facts], contract: Contract, workload: Manifest) -> None:
    """Raise SubmissionError where the functions of a program, by one way of attention, break a limit."""
    _check_constants(facts, workload)
    _check_calls(facts)
    for name in ("eval_variables", f"eval_variables{CUDNN}"):
        if name in facts:
            _check_evaluation(facts[name], contract, workload)


def check_structure(texts: Iterable[str], own: str) -> None:
    """Refuse a program whose structure holds data: where slices begin, say, or which operation comes next. `own` is the
    text of the workload's own step.
    """
    held, step = _packed(texts), _packed([own])
    if held > PACKED * step + PACKED_BYTES:
        raise SubmissionError(
            f"the program takes {held} bytes packed; the workload's own step takes {step}, and {PACKED} times that and "
            f"{PACKED_BYTES} are allowed: what repeats packs well, and what does not is data; use jax.lax.scan "
            "where operations repeat, and compute what you need"
        )


def _packed(texts: Iterable[str]) -> int:
    return len(lzma.compress("".join(map(operations.normalised, texts)).encode(), preset=1))


def flags(facts: Mapping[str, Facts], workload: Manifest) -> Iterable[str]:
    """Yield what a reader of a score has to know: a step that computes less than one gradient, say."""
    size = batch_size(workload.contract)
    for name, found in sorted(facts.items()):
        own = workload.functions.get(f"yardstick_step{CUDNN if name.endswith(CUDNN) else ''}")
        if own is None or not name.startswith("step_"):
            continue
        examples = int(name.removesuffix(CUDNN).removeprefix("step_"))
        gradient = own.products * examples / size  # AdamW adds none to those of the gradient
        if found.least < FEWER * gradient:
            most = f", at most {found.products / gradient:.2f}: it has branches, or loops of unknown length"
            yield (
                f"a step of {examples} examples takes {found.least / gradient:.2f} of the products of one gradient "
                f"on them{most if found.products > found.least else ''}"
            )


def of_averages(facts: Mapping[str, Facts], contract: Contract) -> Iterable[str]:
    """Yield what a reader of a score has to know of an average that the state keeps and nothing evaluates."""
    state = " ".join(leaf.name for leaf in contract.opt_state)
    if ".weight_sum" in state and ".z" in state and "eval_variables" not in facts:
        yield (
            "it keeps schedule-free's average and is evaluated at y, where it takes gradients; return "
            "harness.optim.evaluation.evaluated_at(transform, optax.contrib.schedule_free_eval_params)"
        )


def batch_size(contract: Contract) -> int:
    """Return the examples of a batch."""
    return contract.batch[0].shape[0]


def _check_constants(facts: Mapping[str, Facts], workload: Manifest) -> None:
    """Constants are no place for data: not in one function, and not a part of them in each."""
    own = workload.functions["yardstick_step"].constant_bytes
    above = sum(max(0, fact.constant_bytes - own) for fact in facts.values())
    if above > MAX_CONSTANT_BYTES:
        most = max(facts, key=lambda name: facts[name].constant_bytes)
        raise SubmissionError(
            f"{most} holds {facts[most].constant_bytes} bytes of constants; the workload's own step holds {own}, and "
            f"all functions together {above} more, of which at most {MAX_CONSTANT_BYTES} are allowed: compute what you "
            "need, or keep it in the optimizer's state"
        )


def _check_calls(facts: Mapping[str, Facts]) -> None:
    for name, fact in facts.items():
        if odd := [call for call in fact.custom_calls if not ALLOWED_CALLS.fullmatch(call)]:
            raise SubmissionError(
                f"{name} calls {', '.join(odd)}, which is no operation of jax that a program may hold; compute it in "
                "jax itself"
            )


def _check_evaluation(function: Facts, contract: Contract, workload: Manifest) -> None:
    """Refuse an `eval_variables` that takes more than running the loss forward over its batches does, as a gradient."""
    state = _size((*contract.params, *contract.opt_state, *contract.model_state))
    forward = workload.functions["loss"].products * contract.recalibration_batches
    allowed = FORWARD * forward + PER_VALUE * state
    if function.products > allowed or not function.exact:
        took = f"{function.products:.3g}" if function.exact else "products in a loop of unknown length,"
        raise SubmissionError(
            f"eval_variables takes {took} operations; running the loss forward over its "
            f"{contract.recalibration_batches} batches takes {allowed:.3g} at most: it may take no gradient"
        )


def _size(leaves: Iterable[Leaf]) -> int:
    return sum(math.prod(leaf.shape) for leaf in leaves)
