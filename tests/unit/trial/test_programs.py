"""The compiled programs: contract errors before anything runs, real shapes alone, donation, and the harness's own
counting.
"""

from __future__ import annotations

import dataclasses

import in_process
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.api import Algorithm, TrainState
from harness.errors import SubmissionError
from harness.optim.optax_adapter import from_optax
from harness.program import discovery
from harness.program.draws import Keys, draw_examples, take_batch
from harness.program.trace import init_function, step_function
from harness.trial.programs import MAX_CHUNK_STEPS, Inputs, all_finite

QUADRATIC = discovery.load_workload(discovery.find("workloads", "quadratic"))
OWN = in_process.workload_program(QUADRATIC)
SPLITS = QUADRATIC.splits()
TRAIN, SLICE = jax.device_put((dict(SPLITS.train), dict(SPLITS.validation_slice)))
KEYS = Keys(*(jax.random.key(k) for k in range(4)))
INPUTS = Inputs(KEYS)
SOURCE = in_process.SOURCE.path
BASE = from_optax(optax.adam(0.05))


def compile_(algorithm: Algorithm, workload=QUADRATIC, platform: str = "cpu"):
    return in_process.compiled(workload, OWN, algorithm, platform=platform)


def draw_batch(workload, key, seen, size, train):
    return take_batch(workload.batch, train, *draw_examples(key, seen, size, workload.info.num_train_examples))


def with_step(step, **fields) -> Algorithm:
    return dataclasses.replace(BASE, step=step, **fields)


def after(change):
    """Return Adam's step with `change(new state, metrics)` in the place of what it returns."""

    def step(loss, state, batch, key):
        return change(*BASE.step(loss, state, batch, key))

    return with_step(step)


@pytest.fixture(scope="module")
def programs():
    return compile_(dataclasses.replace(BASE, batch_sizes=(8,)))


# ---- the contract ----


def widened(new, metrics):
    kernel = new.params["linear"]["kernel"]
    params = {"linear": {"kernel": jnp.concatenate([kernel, kernel]), "bias": new.params["linear"]["bias"]}}
    return new._replace(params=params), metrics


BAD_STEPS = {
    "shape": (widened, "step() changed the shape of params['linear']['kernel'] from (16, 4) to (32, 4)"),
    "dtype": (
        lambda new, m: (new._replace(params=jax.tree.map(lambda p: p.astype(jnp.bfloat16), new.params)), m),
        "step() changed the dtype of params['linear']['bias'] from float32 to bfloat16; return float32",
    ),
    "dtype of a count": (
        lambda new, m: (new._replace(opt_state=jax.tree.map(lambda x: x.astype(jnp.float32), new.opt_state)), m),
        ".count from int32 to float32",
    ),
    "leaf more": (
        lambda new, m: (new._replace(params=new.params | {"more": jnp.zeros(1)}), m),
        "changed the tree of params; only on one side: params['more']",
    ),
    "leaf less": (
        lambda new, m: (new._replace(opt_state=()), m),
        "changed the tree of opt_state; only on one side: opt_state[0]",
    ),
    "model state out of nothing": (
        lambda new, m: (new._replace(model_state={"mean": jnp.zeros(4)}), m),
        "changed the tree of model_state; only on one side: model_state['mean']",
    ),
    "list for tuple": (
        lambda new, m: (new._replace(opt_state=list(new.opt_state)), m),
        "changed the tree of opt_state; return the structure it was given",
    ),
    "no state": (
        lambda new, m: (new.params, m),
        "must return (state, metrics), a TrainState and a dict; it returned (dict, dict)",
    ),
    "state alone": (lambda new, m: new, "it returned (TrainState)"),
    "no metrics": (lambda new, m: (new, None), "flat dict of float32 scalars with a 'loss' in it; got NoneType"),
    "no loss": (lambda new, m: (new, {"value": m["loss"]}), "with a 'loss' in it; got ['value']"),
    "nested metrics": (lambda new, m: (new, m | {"more": dict(m)}), "'more' is dict"),
    "vector metric": (lambda new, m: (new, m | {"more": jnp.zeros(2)}), "'more' is float32[2]"),
    "int metric": (lambda new, m: (new, m | {"n": jnp.int32(1)}), "'n' is int32[]"),
    "half loss": (lambda new, m: (new, {"loss": m["loss"].astype(jnp.bfloat16)}), "'loss' is bfloat16[]"),
}


@pytest.mark.parametrize("name", BAD_STEPS)
def test_step_that_breaks_the_contract(name):
    change, says = BAD_STEPS[name]
    with pytest.raises(SubmissionError) as caught:
        compile_(after(change))
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{SOURCE}/submission.py: ")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"recalibration_batches": 2}, "recalibration_batches is set but eval_variables is None"),
        ({"recalibration_batches": 21, "eval_variables": lambda *_: None}, "must be in 0..20, got 21"),
        ({"recalibration_batches": -1}, "must be in 0..20, got -1"),
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"batch_sizes": (32, 0)}, "batch_sizes must be positive, got (32, 0)"),
    ],
)
def test_fields_out_of_range(fields, says):
    with pytest.raises(SubmissionError, match=r"^/somewhere/submissions/mine/submission\.py: Algorithm\.") as caught:
        compile_(dataclasses.replace(BASE, **fields))
    assert says in str(caught.value)


def test_a_key_in_the_state_is_refused():
    algorithm = dataclasses.replace(BASE, init=lambda params, key: {"adam": BASE.init(params, key), "key": key})
    with pytest.raises(SubmissionError, match=r"init\(\) put a random key into opt_state\['key'\]; state holds arrays"):
        compile_(algorithm)


@pytest.mark.parametrize("function", ["init", "step", "eval_variables"])
def test_what_the_submission_raises_names_the_function(function):
    def broken(*args):
        raise ZeroDivisionError("oh")

    with pytest.raises(SubmissionError, match=rf"submissions/mine.*ZeroDivisionError in {function}: oh"):
        compile_(dataclasses.replace(BASE, **{function: broken}))


def by_value_and_grad(loss, state, batches, key):
    batch = jax.tree.map(lambda x: x[0], batches)
    return loss.value_and_grad(state.params, state.model_state, batch, key)[1], state.model_state


def by_jax_grad(loss, state, batches, key):
    batch = jax.tree.map(lambda x: x[0], batches)
    return jax.grad(lambda p: loss.value(p, {}, batch, key)[0])(state.params), state.model_state


def by_vjp_of_per_example(loss, state, batches, key):
    batch = jax.tree.map(lambda x: x[0], batches)
    losses, back = jax.vjp(lambda p: loss.per_example(p, {}, batch, key), state.params)
    return back(jnp.ones_like(losses))[0], state.model_state


def hidden(wrap):
    def eval_variables(loss, state, batches, key):
        batch = jax.tree.map(lambda x: x[0], batches)
        return jax.grad(wrap(lambda p: loss.value(p, {}, batch, key)[0]))(state.params), state.model_state

    return eval_variables


def in_a_scan(function):
    return lambda p: jax.lax.scan(lambda c, _: (c + function(p), None), 0.0, length=2)[0]


WAYS = [by_value_and_grad, by_jax_grad, by_vjp_of_per_example, *map(hidden, (jax.jit, jax.checkpoint, in_a_scan))]


@pytest.mark.parametrize("function", WAYS)
def test_eval_variables_takes_no_gradient_by_any_way(function):
    with pytest.raises(SubmissionError, match=r"submissions/mine.*(takes no gradient|takes a gradient)"):
        compile_(dataclasses.replace(BASE, eval_variables=function, recalibration_batches=1))


def test_eval_variables_keeps_the_tree():
    def halved(loss, state, batches, key):
        return jax.tree.map(lambda p: p.astype(jnp.float16), state.params), state.model_state

    with pytest.raises(SubmissionError, match=r"eval_variables\(\) changed the dtype of params\['linear'\]\['bias'\]"):
        compile_(dataclasses.replace(BASE, eval_variables=halved))
    with pytest.raises(SubmissionError, match=r"eval_variables\(\) changed the tree of model_state"):
        compile_(dataclasses.replace(BASE, eval_variables=lambda loss, s, b, k: (s.params, {"x": jnp.zeros(1)})))


def test_recalibration_batches_are_stacked_training_batches():
    seen = {}

    def eval_variables(loss, state, batches, key):
        seen.update(jax.tree.map(jnp.shape, batches))
        losses = jnp.stack(
            [loss.value(state.params, {}, jax.tree.map(lambda x, i=i: x[i], batches), key)[0] for i in (0, 1)]
        )
        return jax.tree.map(lambda p: p + losses.sum(), state.params), state.model_state

    made = compile_(dataclasses.replace(BASE, eval_variables=eval_variables, recalibration_batches=2))
    state = made.init(INPUTS)
    first, later, again = (
        made.eval_variables(state._replace(step=jnp.int32(n)), INPUTS, TRAIN)[0][0] for n in (1, 2, 1)
    )
    assert seen == {"x": (2, 32, 16), "y": (2, 32, 4), "index": (2, 32)}
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later), "fresh batches at each step"


# ---- running ----


def test_a_compiled_step_refuses_other_shapes_and_dtypes(programs):
    other = {name: array[:100] for name, array in TRAIN.items()}
    with pytest.raises(TypeError, match="Argument types differ from the types for which this computation was compiled"):
        programs.steps[32](programs.init(INPUTS), INPUTS, other)
    state = programs.init(INPUTS)
    half = state._replace(params=jax.tree.map(lambda p: p.astype(jnp.bfloat16), state.params))
    with pytest.raises(TypeError, match="Argument types differ from the types for which this computation was compiled"):
        programs.steps[32](half, INPUTS, TRAIN)
    with pytest.raises(TypeError, match="Argument types differ from the types for which this computation was compiled"):
        programs.evaluate(state.params, state.model_state, TRAIN)


def test_the_state_is_donated_and_nothing_else(programs):
    state = programs.init(INPUTS)
    new, _ = programs.steps[32](state, INPUTS, TRAIN)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state.params))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((new, TRAIN, tuple(KEYS))))
    programs.finite(new.params)
    programs.evaluate(new.params, new.model_state, SLICE)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(new))


def test_what_was_compiled(programs):
    assert sorted(programs.steps) == [8, 32]
    assert set(programs.compile_s) == {"init", "step_8", "step_32", "evaluate", "finite"}
    assert all(seconds > 0 for seconds in programs.compile_s.values())
    assert (programs.dispatch_steps, programs.eval_variables) == (1, None)
    state, metrics = programs.steps[8](programs.init(INPUTS), INPUTS, TRAIN)
    assert (int(state.step), int(state.examples), metrics["loss"].shape) == (1, 8, (1,))
    state, _ = programs.steps[32](state, INPUTS, TRAIN)
    assert (int(state.step), int(state.examples)) == (2, 40)


def test_finite():
    params = [jnp.ones(3), jnp.ones((2, 2))]
    assert bool(all_finite(params))
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        assert not bool(all_finite([params[0], params[1].at[1, 0].set(bad)]))


def test_the_harness_counts_whatever_the_submission_says():
    def lying(new, metrics):
        return new._replace(step=jnp.float32(99.0), examples=None), metrics

    made = compile_(dataclasses.replace(after(lying), batch_sizes=(8,)))
    state = made.init(INPUTS)
    for _ in range(2):
        state, _ = made.steps[8](state, INPUTS, TRAIN)
    assert (int(state.step), int(state.examples)) == (2, 16)
    assert state.step.dtype == state.examples.dtype == jnp.int32


def test_numbers_of_python_become_arrays():
    """A weakly typed state would be another program after the first step."""
    algorithm = Algorithm(
        init=lambda params, key: {"rate": 0.5, "count": 3},
        step=lambda loss, state, batch, key: (state._replace(opt_state={"rate": 0.25, "count": 4}), {"loss": 1.0}),
    )
    made = compile_(algorithm)
    state, metrics = made.steps[32](made.init(INPUTS), INPUTS, TRAIN)
    assert [(leaf.dtype, float(leaf)) for leaf in state.opt_state] == [("int32", 4.0), ("float32", 0.25)]
    assert metrics["loss"].dtype == jnp.float32
    made.steps[32](state, INPUTS, TRAIN)


def test_key_and_batch_of_a_step():
    """The key is fold_in(stream, step), the batch that of the examples seen, `index` among it."""

    def step(loss, state, batch, key):
        metrics = {"loss": jax.random.uniform(key), "index": batch["index"][0].astype(jnp.float32)}
        assert set(batch) == {"x", "y", "index"}
        assert batch["index"].dtype == jnp.int32
        return state, metrics

    made = compile_(with_step(step))
    state = made.init(INPUTS)
    for number in range(3):
        state, metrics = made.steps[32](state, INPUTS, TRAIN)
        assert metrics["loss"][0] == jax.random.uniform(jax.random.fold_in(KEYS.algorithm, number))
        drawn = draw_batch(QUADRATIC, KEYS.data, jnp.int32(32 * number), 32, TRAIN)
        assert metrics["index"][0] == drawn["index"][0]


def test_candidates_draw_so_many_more():
    def step(loss, state, batch, key):
        assert batch["x"].shape[0] in (4 * 8, 4 * 32)
        return state, {"loss": batch["index"].sum().astype(jnp.float32)}

    made = compile_(with_step(step, candidates=4, batch_sizes=(8,)))
    state = made.init(INPUTS)
    for number in range(2):  # the stream goes on behind all candidates, used or not
        state, metrics = made.steps[8](state, INPUTS, TRAIN)
        drawn = draw_batch(QUADRATIC, KEYS.data, jnp.int32(32 * number), 32, TRAIN)
        assert int(metrics["loss"][0]) == int(drawn["index"].sum())
    assert int(state.examples) == 16


def test_five_steps_in_one_dispatch_are_five_steps():
    """To 1e-6 relative, not bit for bit: inside a scan XLA may fuse and contract otherwise."""
    several = dataclasses.replace(QUADRATIC, info=dataclasses.replace(QUADRATIC.info, dispatch_steps={"cpu": 5}))
    noisy = after(lambda new, m: (new, m | {"step": new.step.astype(jnp.float32)}))
    one, five = compile_(noisy), compile_(noisy, several)
    assert (one.dispatch_steps, five.dispatch_steps) == (1, 5)
    assert compile_(noisy, several, platform="gpu").dispatch_steps == 1, "by platform"
    single, whole = one.init(INPUTS), five.init(INPUTS)
    losses = []
    for _ in range(2 * 5):
        single, metrics = one.steps[32](single, INPUTS, TRAIN)
        losses.append(float(metrics["loss"][0]))
    series = []
    for _ in range(2):
        whole, metrics = five.steps[32](whole, INPUTS, TRAIN)
        assert metrics["loss"].shape == (5,)
        series += metrics["loss"].tolist()
    np.testing.assert_allclose(series, losses, rtol=1e-6)
    assert (int(whole.step), int(whole.examples)) == (int(single.step), int(single.examples)) == (10, 320)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(single), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_a_step_is_the_same_whether_its_examples_are_drawn_within_or_before(programs):
    step = jax.jit(step_function(QUADRATIC, BASE, 8))
    within, before = jax.jit(init_function(QUADRATIC, BASE))(KEYS), programs.init(INPUTS)
    for _ in range(3):
        within, expected = step(within, KEYS, TRAIN)
        before, metrics = programs.steps[8](before, INPUTS, TRAIN)
        assert metrics["loss"].shape == (1,)
        np.testing.assert_allclose(metrics["loss"][0], expected["loss"], rtol=1e-6)
    # From the same example on, at another batch size.
    before, after_switch = programs.steps[32](before, INPUTS, TRAIN)
    assert int(before.examples) == 3 * 8 + 32
    batch = draw_batch(QUADRATIC, KEYS.data, jnp.int32(24), 32, TRAIN)
    expected = QUADRATIC.loss(within.params, {}, batch, KEYS.data, True)[0].mean()
    np.testing.assert_allclose(after_switch["loss"][0], expected, rtol=1e-5)


@pytest.mark.parametrize(("dispatch", "candidates"), [(1, 1), (5, 1), (3, 4)])
def test_the_order_of_a_chunk_is_that_of_its_steps_one_by_one(dispatch, candidates):
    workload = dataclasses.replace(
        QUADRATIC, info=dataclasses.replace(QUADRATIC.info, dispatch_steps={"cpu": dispatch})
    )
    algorithm = with_step(
        lambda loss, state, batch, key: (
            state,
            {"loss": batch["index"].sum(dtype=jnp.float32), "key": jax.random.uniform(key)},
        ),
        candidates=candidates,
    )
    programs = compile_(algorithm, workload)
    step = programs.steps[32]
    count = 32 * candidates
    state = programs.init(INPUTS)._replace(examples=jnp.int32(64), step=jnp.int32(7))  # not the first chunk
    order = step.order(state, INPUTS)
    calls = -(-MAX_CHUNK_STEPS // dispatch)
    assert order.draws.examples.shape == (calls, dispatch, count)
    sums, drawn = [], []
    for _ in range(calls):
        state, metrics = step(state, INPUTS, TRAIN, order)
        sums += metrics["loss"].tolist()
        drawn += metrics["key"].tolist()
    positions = [64 * candidates + count * number for number in range(len(sums))]
    expected = [draw_batch(workload, KEYS.data, jnp.int32(p), count, TRAIN)["index"].sum() for p in positions]
    assert sums == [float(one) for one in expected]
    step_keys = [jax.random.fold_in(KEYS.algorithm, number) for number in range(7, 7 + len(sums))]
    assert drawn == [float(jax.random.uniform(key)) for key in step_keys]


# ---- the batch ----

draw = jax.jit(lambda key, seen, size: draw_batch(QUADRATIC, key, seen, size, TRAIN), static_argnums=2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_batches_of_any_size_see_the_same_examples_in_the_same_order(seen, seed):
    key = jax.random.key(seed)
    whole = draw(key, jnp.int32(seen), 32)
    parts = [draw(key, jnp.int32(seen + 8 * i), 8) for i in range(4)]
    for name in ("index", "x", "y"):
        assert np.array_equal(whole[name], np.concatenate([p[name] for p in parts]))
    assert np.array_equal(whole["x"], SPLITS.train["x"][np.asarray(whole["index"])])
    again = draw(key, jnp.int32(seen), 32)
    assert all(np.array_equal(whole[name], again[name]) for name in whole), "a pure function"
    assert not np.array_equal(whole["index"], draw(jax.random.key(seed + 1), jnp.int32(seen), 32)["index"])


def test_augmentation_has_a_key_for_each_position():
    seen_keys = []

    def batch(train, index, key):
        seen_keys.append(jax.random.key_data(key).tolist())
        return {"x": train["x"][index]}

    workload = dataclasses.replace(QUADRATIC, batch=batch)
    for examples in (0, 32, 0):
        made = draw_batch(workload, KEYS.data, jnp.int32(examples), 32, TRAIN)
        assert set(made) == {"x", "index"}
    assert seen_keys[0] == seen_keys[2] != seen_keys[1]


def test_init_depends_on_its_streams_alone():
    algorithm = dataclasses.replace(
        BASE,
        init=lambda params, key: {"noise": jax.random.normal(key)},
        step=lambda loss, state, batch, key: (state, {"loss": jnp.float32(0.0)}),
    )
    init = compile_(algorithm).init

    def started(**keys):
        return init(Inputs(KEYS._replace(**keys)))

    first = started()
    assert isinstance(first, TrainState)
    assert (int(first.step), int(first.examples)) == (0, 0)
    other_data = started(data=jax.random.key(9), evaluation=jax.random.key(9))
    assert np.array_equal(first.params[1], other_data.params[1])
    assert first.opt_state[0] == other_data.opt_state[0]
    other = started(algorithm=jax.random.key(9))
    assert np.array_equal(first.params[1], other.params[1]), "common random numbers"
    assert first.opt_state[0] != other.opt_state[0]
    assert not np.array_equal(first.params[1], started(init=jax.random.key(9)).params[1])
