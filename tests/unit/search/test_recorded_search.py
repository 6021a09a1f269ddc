"""A search runs what its record lacks, and the runs of another program are none of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import SubmissionError
from harness.program import discovery, processes
from harness.program.processes import Found
from harness.search import targets
from harness.search.recorded_search import Search
from harness.trial.sweep_messages import Answer

POINTS = [(("adamw", {"learning_rate": lr, "weight_decay": 0.0, "horizon": 1.0}), 0) for lr in (0.1, 0.2)]


class Pool:
    """Runs nothing; answers each request at once, and keeps what was asked for."""

    def __init__(self):
        self.asked = []

    def run(self, requests, on_answer):
        for request in requests:
            self.asked.append((request.program, request.hyperparameters["learning_rate"]))
            on_answer(request, Answer("running", (request.until,), (0.5,), 1.0))


@pytest.fixture
def program(monkeypatch):
    """Return a function that says which programs the submission's sources make from now on."""

    def say(name, own="own"):
        ids = lambda wanted, *_: [Found(own, tuple(name for _ in each.points)) for each in wanted]  # noqa: E731
        monkeypatch.setattr(processes, "program_ids", ids)

    return say


@pytest.fixture
def search(tmp_path):
    """Return a function that opens a search on one record, as a new process does."""

    def open_():
        folder = discovery.find("workloads", "quadratic")
        info = discovery.workload_info(folder)
        made = Search(folder, info, tmp_path / "record.jsonl", ("learning_rate",), 1, lambda run: None)
        made.load()
        return made

    return open_


def ask(search, until=10):
    pool = Pool()
    runs = search.run_all(pool, POINTS, tuning=True, until=until)
    assert [run.point for run in runs] == [point for point, _ in POINTS]
    return pool.asked


def test_what_is_recorded_of_the_same_program_is_not_run_again(search, program):
    program("one")
    assert ask(search()) == [("one", 0.1), ("one", 0.2)]
    assert ask(search()) == []
    assert ask(search(), until=20) == [("one", 0.1), ("one", 0.2)], "it had not come so far"


@pytest.mark.parametrize("other", [("two", "own"), ("one", "another")])
def test_what_is_recorded_of_another_program_is(search, program, other):
    program("one")
    ask(search())
    program(*other)
    assert search().runs == []
    assert ask(search()) == [(other[0], 0.1), (other[0], 0.2)]
    assert {run.program for run in search().runs} == {other[0]}, "and takes its place"


def test_runs_that_are_older_than_programs_are_not_taken(search, program):
    program("one")
    made = search()
    ask(made)
    made.runs = [replace(run, program=None, workload_program=None) for run in made.runs]
    made.save()
    assert targets.read_record(made.record)[0]
    assert search().runs == []


def test_a_submission_without_a_program_ends_the_search(search, monkeypatch):
    monkeypatch.setattr(processes, "program_ids", lambda wanted, *_: [SubmissionError("no build") for _ in wanted])
    with pytest.raises(SubmissionError, match="no build"):
        ask(search())
