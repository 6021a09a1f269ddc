"""Step Law: its numbers, what it is asked about, and the warning outside of its range."""

from __future__ import annotations

import pytest

from harness.program import discovery
from harness.program.manifest import Contract, Leaf
from harness.search import step_law
from harness.search.step_law import Size

LM = discovery.workload_info(discovery.find("workloads", "lm_grammar"))


def contract(batch: tuple[Leaf, ...]) -> Contract:
    params = (
        Leaf("params['head']['kernel']", (8, 32), "float32"),
        Leaf("params['tokens']['embedding']", (32, 8), "float32"),
    )
    return Contract("workload", "cpu", params, (), (), batch)


def test_its_numbers() -> None:
    """One billion parameters, 100 billion tokens: logarithms by hand."""
    size = Size(10**9, 2 * 10**6, 50_000)
    assert size.tokens == 10**11
    assert step_law.learning_rate(size) == pytest.approx(1.79 * 10 ** (-0.713 * 9 + 0.307 * 11))
    assert step_law.batch_tokens(size) == pytest.approx(0.58 * 10 ** (0.571 * 11))
    assert step_law.outside(size) == []


def test_a_warning_outside_of_its_range() -> None:
    small = step_law.outside(Size(50_000, 2048, 600))
    assert small[0] == "5e+04 parameters, not 6e+07 to 1e+09" and "1.2e+06 tokens" in small[1]
    batch = step_law.outside(Size(10**9, 2**14, 10**6))
    assert len(batch) == 1 and "a batch of 16384 tokens, where the law's own has" in batch[0]


def test_what_it_is_asked_about() -> None:
    """The tables that are looked up are no part of N."""
    inputs = Leaf("batch['inputs']", (32, 64), "int32")
    assert step_law.size_of(LM, contract((inputs,))) == Size(256, 2048, LM.step_hint)
    assert step_law.size_of(LM, contract((Leaf("batch['image']", (32, 8, 8, 1), "float32"),))) is None
