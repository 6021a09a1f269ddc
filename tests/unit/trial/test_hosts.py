"""What the processes of a trial tell each other, with one process that is taken for one of two."""

from __future__ import annotations

import pytest

from harness.errors import HarnessError, MachineError, SubmissionError
from harness.trial import hosts


@pytest.fixture
def one_of_two(monkeypatch):
    """Return a function that makes this process the first or the second of two, where the first says `said`; it
    returns the list of what this one had to say.
    """

    def make(process, said=None):
        had = []
        monkeypatch.setattr(hosts.jax, "process_count", lambda: 2)
        monkeypatch.setattr(hosts.jax, "process_index", lambda: process)
        monkeypatch.setattr(hosts, "agreed", lambda value: had.append(value) or (said if process else value))
        return had

    return make


def failing():
    raise SubmissionError("control gave no answer")


def test_the_first_process_alone_is_asked(one_of_two):
    assert hosts.by_first(lambda: "alone") == "alone"
    one_of_two(0)
    assert hosts.by_first(lambda: "first") == "first"
    one_of_two(1)
    assert hosts.by_first(failing) is None


def test_what_it_raises_ends_all_alike(one_of_two):
    had = one_of_two(0)
    with pytest.raises(SubmissionError, match=r"^control gave no answer$"):
        hosts.by_first(failing)
    assert had == ["SubmissionError"], "the others wait to hear of it"
    for said, raised in (("SubmissionError", SubmissionError), ("MachineError", MachineError), ("?", HarnessError)):
        one_of_two(1, said)
        with pytest.raises(raised, match=r"^the first process ended the trial, and its result says why$"):
            hosts.by_first(failing)
