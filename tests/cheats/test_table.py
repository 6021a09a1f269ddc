"""The table of cheats in `harness/SECURITY.md`: each cheat has a row, and each row a test that is there."""

from __future__ import annotations

import re

import pytest
from plants import ANSWERS, CHEATS, HERE

TESTS = HERE.parent
SECURITY = TESTS.parent / "harness/SECURITY.md"
HEAD = "| attack | answer | test |"
FAMILIES = {"data": 5, "clock": 5, "patch": 5, "evaluation": 5, "knowledge": 5, "network": 3}


def rows() -> list[tuple[str, str, list[str]]]:
    """Return attack, answer and tests of each row of the table."""
    lines = SECURITY.read_text().splitlines()
    start = lines.index(HEAD) + 2
    found = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        attack, answer, tests = (cell.strip() for cell in line.strip("|").split(" | "))
        found.append((attack, answer, re.findall(r"`([^`]+)`", tests)))
    return found


def test_every_cheat_has_one_row_with_its_answer():
    named = [(test, answer) for _, answer, tests in rows() for test in tests if test in CHEATS]
    assert sorted(test for test, _ in named) == sorted(CHEATS)
    assert {test: re.split("[:,;]", answer)[0] for test, answer in named} == ANSWERS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_every_row_has_a_test_that_is_there(row):
    _, answer, tests = row
    assert re.match(r"(prevented|detected|charged|not stopped)\b", answer)
    assert tests
    for test in tests:
        if test not in CHEATS:
            file, _, name = test.partition("::")
            assert re.search(rf"\b{re.escape(name)}\b", (TESTS / file).read_text()), test


def test_families():
    for family, least in FAMILIES.items():
        assert sum(name.startswith(f"{family}/") for name in CHEATS) >= least
    assert len(CHEATS) >= 40
