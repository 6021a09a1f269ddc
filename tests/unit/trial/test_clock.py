"""The ledger clock: disjoint spans that sum to the elapsed time, and scored time by hand on all four clocks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.record.readings import SPANS, Reading, Scored
from harness.trial.clock import Ledger, scored


class FakeTime:
    """A machine whose clocks stand still until told: processor time at half, energy at ten times the wall's pace."""

    def __init__(self, start: float = 1000.0, *, energy: bool = True):
        self.wall, self.energy = start, energy

    def ledger(self, elapsed_s: float = 0.0) -> Ledger:
        energy = (lambda: 10 * self.wall) if self.energy else (lambda: None)
        return Ledger(elapsed_s, now=lambda: self.wall, cpu_now=lambda: self.wall / 2, energy_now=energy)

    def run(self, seconds: float) -> None:
        self.wall += seconds


def walls(ledger: Ledger) -> dict[str, float]:
    return {name: reading.wall_s for name, reading in ledger.totals().items() if reading.wall_s}


def test_a_nested_span_takes_its_time_out_of_the_outer_one():
    time = FakeTime()
    ledger = time.ledger()
    time.run(1)  # setup
    with ledger.span("train"):
        time.run(2)
        with ledger.span("checkpoint"):
            time.run(4)
            with ledger.span("eval"):
                time.run(8)
            time.run(16)
        time.run(32)
    ledger.start("other")
    time.run(64)
    assert walls(ledger) == {"setup": 1, "train": 2 + 32, "checkpoint": 4 + 16, "eval": 8, "other": 64}
    assert ledger.total().wall_s == 127
    assert ledger.totals()["train"] == Reading(34, 17, 340)
    assert ledger.totals()["warmup"] == Reading(0, 0, 0)


def test_the_running_span_is_booked_when_asked():
    time = FakeTime()
    ledger = time.ledger()
    with ledger.span("train"):
        time.run(3)
        assert (ledger.current, walls(ledger)) == ("train", {"train": 3})
        time.run(2)
    assert (ledger.current, walls(ledger)) == ("setup", {"train": 5})


def test_an_exception_ends_its_span():
    time = FakeTime()
    ledger = time.ledger()
    with pytest.raises(KeyError), ledger.span("control"):
        time.run(1)
        raise KeyError
    time.run(2)
    assert walls(ledger) == {"control": 1, "setup": 2}


def test_time_before_the_ledger_is_setup():
    """Starting the interpreter: elapsed as the parent saw it, and all processor time this process has used."""
    time = FakeTime(start=8.0)
    ledger = time.ledger(elapsed_s=3.0)
    assert ledger.totals()["setup"] == Reading(3.0, 4.0, 0.0)
    time.run(2)
    assert ledger.totals()["setup"] == Reading(5.0, 5.0, 20.0)


def test_restore_charges_the_restart_to_other_and_no_down_time():
    first = FakeTime()
    ledger = first.ledger()
    first.run(1)
    with ledger.span("train"):
        first.run(10)
    saved = ledger.totals()

    first.run(5)  # worked on, then killed: lost with the checkpoint before it
    second = FakeTime(start=1_000_000.0)  # a day later; another process, another zero of the clock
    ledger = second.ledger(elapsed_s=0.5)
    second.run(3)
    with ledger.span("compile"):
        second.run(4)
    ledger.restore(saved)
    assert walls(ledger) == {"setup": 1, "train": 10, "other": 0.5 + 3 + 4}
    with ledger.span("train"):
        second.run(2)
    second.run(6)  # back in the span that ran at the restore
    assert walls(ledger) == {"setup": 1 + 6, "train": 12, "other": 7.5}
    assert ledger.total().wall_s == pytest.approx(11 + 7.5 + 2 + 6)


def test_a_machine_without_an_energy_counter():
    time = FakeTime(energy=False)
    ledger = time.ledger(elapsed_s=1.0)
    with ledger.span("train"):
        time.run(2)
    assert all(reading.energy_j is None for reading in ledger.totals().values())
    assert (ledger.zero.energy_j, ledger.total().wall_s) == (None, 3)


def test_readings():
    assert Reading(3, 2, 1) + Reading(10, 20, 30) == Reading(13, 22, 31)
    assert Reading(3, 2, 1) - Reading(10, 20, 30) == Reading(-7, -18, -29)
    for r in (Reading(1, 1, None) + Reading(1, 1, 1), Reading(1, 1, 1) - Reading(1, 1, None)):
        assert r.energy_j is None, "a part that is not known makes the sum unknown, never smaller"


seconds = st.integers(0, 100)
programs = st.recursive(
    seconds, lambda inner: st.lists(st.tuples(st.sampled_from(SPANS), inner) | seconds, max_size=4), max_leaves=12
)


@settings(deadline=None)
@given(programs, seconds)
def test_spans_are_disjoint_and_sum_to_the_elapsed_time(program, elapsed):
    time = FakeTime(start=0.0)
    ledger = time.ledger(elapsed_s=elapsed)
    booked = dict.fromkeys(SPANS, 0) | {"setup": elapsed}

    def play(part, span):
        if isinstance(part, int):
            time.run(part)
            booked[span] += part
            return
        for item in part:
            if isinstance(item, tuple):
                with ledger.span(item[0]):
                    play(item[1], item[0])
            else:
                play(item, span)

    play(program, "setup")
    assert {name: reading.wall_s for name, reading in ledger.totals().items()} == booked
    assert ledger.total().wall_s == time.wall + elapsed


TOTALS = {
    "setup": Reading(100, 70, 1000),
    "control": Reading(2, 1, 20),
    "compile": Reading(90, 45, 900),
    "warmup": Reading(11, 11, 110),
    "init": Reading(1, 0.5, 10),
    "train": Reading(50, 40, 500),
    "eval_variables": Reading(6, 5, 60),  # of three calls
    "eval": Reading(13, 13, 130),
    "yardstick": Reading(23, 23, 230),
    "checkpoint": Reading(17, 17, 170),
    "other": Reading(19, 19, 190),
}
AT_HIT = Reading(2, 1.5, 20)  # of one call


def score(totals=TOTALS, eval_variables=AT_HIT, cap=None, yardstick_steps=2000.0) -> Scored:
    return scored(
        totals, eval_variables, yardstick_steps=yardstick_steps, baseline_step_s=0.01, reference_step_s=0.005,
        compile_cap_s=cap,
    )  # fmt: skip


def close(wall: float, cpu: float, calibrated: float, energy: float | None):
    return Scored(*(None if v is None else pytest.approx(v) for v in (wall, cpu, calibrated, energy)))


def test_scored_by_hand():
    # control + init + train + one eval_variables; 2000 steps of the yardstick and (2 + 1) / 0.01 more, at 0.005 each
    assert score() == close(2 + 1 + 50 + 2, 1 + 0.5 + 40 + 1.5, (2000 + 300) * 0.005, 20 + 10 + 500 + 20)


def test_without_a_yardstick_there_are_no_calibrated_seconds():
    assert score(yardstick_steps=None) == dataclasses.replace(close(55, 43, 0, 550), calibrated=None)


def test_compile_beyond_the_cap():
    # 30 of the 90 s are beyond: a third of its processor time and energy too
    assert score(cap=60.0) == close(55 + 30, 43 + 15, (2300 + 3000) * 0.005, 550 + 300)
    assert score(cap=0.0) == close(55 + 90, 43 + 45, (2300 + 9000) * 0.005, 550 + 900)
    assert score(cap=90.0) == score(cap=100.0) == score(cap=None)
    nothing = TOTALS | {"compile": Reading(0, 0, 0)}
    assert score(nothing, cap=60.0) == score()


def test_no_step_yet():
    totals = TOTALS | {"train": Reading(0, 0, 0)}
    assert score(totals, Reading(0, 0, 0), yardstick_steps=0.0) == close(3, 1.5, 300 * 0.005, 30)


@pytest.mark.parametrize("span", ["control", "init", "train", "compile"])
def test_energy_unknown_in_any_scored_part_is_unknown(span):
    totals = TOTALS | {span: dataclasses.replace(TOTALS[span], energy_j=None)}
    assert score(totals, cap=60.0) == close(85, 58, 26.5, None)
    assert score(eval_variables=Reading(2, 1.5, None)) == close(55, 43, 11.5, None)


@settings(deadline=None)
@given(st.data())
def test_what_is_done_for_the_record_is_not_scored(data):
    numbers = st.floats(0, 1e6)
    free = ("setup", "warmup", "eval", "yardstick", "checkpoint", "other", "eval_variables", "compile")
    other = {name: data.draw(st.builds(Reading, numbers, numbers, st.none() | numbers)) for name in free}
    assert score(TOTALS | other) == score()


def test_every_scored_part_counts():
    for span, calibrated in (("control", 12), ("init", 12), ("train", 11.5)):  # train comes as steps of the yardstick
        more = score(TOTALS | {span: TOTALS[span] + Reading(1, 1, 1)})
        assert (more.wall, more.cpu, more.calibrated, more.energy) == (56, 44, pytest.approx(calibrated), 551)
