"""Both ways of attention in one program: the second is taken where a step by it agrees, and only there."""

from __future__ import annotations

import dataclasses

import in_process
import jax
import optax
import pytest

from harness.optim.optax_adapter import from_optax
from harness.program import discovery
from harness.program.draws import Keys
from harness.program.store import Program
from harness.program.workload import Workload
from harness.trial.programs import Inputs, compile_programs
from harness.trial.ways import choose_way

QUADRATIC = discovery.load_workload(discovery.find("workloads", "quadratic"))
DATA = discovery.load_data(discovery.find("workloads", "quadratic"))
KEYS = Keys(*(jax.random.key(k) for k in range(4)))


def with_second(program: Program, other: Program) -> Program:
    """Return a program with the functions of another as its second way."""
    functions = program.functions | {f"{name}.cudnn": data for name, data in other.functions.items()}
    facts = program.manifest.functions | {f"{name}.cudnn": fact for name, fact in other.manifest.functions.items()}
    return Program(dataclasses.replace(program.manifest, functions=facts), functions)


def scaled(factor: float) -> Workload:
    """Return the workload with its losses scaled: what a kernel with a mistake in it would be."""

    def loss(*args, **options):
        losses, state = QUADRATIC.loss(*args, **options)
        return factor * losses, state

    return dataclasses.replace(QUADRATIC, loss=loss)


@pytest.fixture(scope="module")
def train():
    return jax.device_put(dict(DATA.load().train))


def chosen(own: Program, submission: Program, train) -> tuple[str, str]:
    return choose_way(own, submission, DATA, train, KEYS, platform="cpu")


def test_the_second_way_is_taken_where_a_step_by_it_agrees_and_only_there(train):
    own = in_process.workload_program(QUADRATIC)
    submission = in_process.submission_program(QUADRATIC, own, from_optax(optax.sgd(0.1)))
    both = with_second(submission, submission)
    near, far = (in_process.workload_program(scaled(factor)) for factor in (1.01, 1.2))
    assert chosen(own, submission, train) == ("xla", ""), "one way alone"
    assert chosen(with_second(own, near), both, train) == ("cudnn", "a step agrees with xla's")
    way, why = chosen(with_second(own, far), both, train)
    assert (way, why[:19]) == ("xla", "cudnn failed: its o"), "the gradient, in the yardstick's moments"
    way, why = chosen(with_second(own, own), submission, train)
    assert (way, why[:27]) == ("xla", "the submission has no other")


def test_each_way_has_its_own_functions(train):
    """The second steps by another learning rate here, so that it can be told which ran."""
    own = in_process.workload_program(QUADRATIC)
    slow, fast = (in_process.submission_program(QUADRATIC, own, from_optax(optax.sgd(lr))) for lr in (0.0, 0.5))
    program, part = with_second(slow, fast), jax.device_put(dict(DATA.load().validation_slice))
    moved = {}
    for way in ("xla", "cudnn"):
        made = compile_programs(DATA, with_second(own, own), program, train, part, platform="cpu", way=way)
        before = made.init(Inputs(KEYS))
        kernel = before.params[1].copy()
        after, _ = made.steps[32](before, Inputs(KEYS), train)
        moved[way] = bool((after.params[1] != kernel).any())
    assert moved == {"xla": False, "cudnn": True}
