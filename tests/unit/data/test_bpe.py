"""Byte-pair encoding: merges by hand, ties by rule, every text back as it was."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.data import bpe

TEXT = "the theatre there — “don’t,” said the thin man, 1929; that's  all\r\n\r\nthe end\n".encode() * 3  # noqa: RUF001


def merges_of(text: bytes, merges: int) -> list[tuple[int, ...]]:
    return [tuple(row) for row in bpe.train(Counter(bpe.PIECES.findall(text)), merges).tolist()]


TRAINED = np.array(merges_of(TEXT, 60), np.uint16)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("the cat", ["the", " cat"]),
        ("don't, don’t", ["don't", ",", " don’t"]),  # noqa: RUF001 - the typographic apostrophe is the point
        ("'tis 'so'", ["'", "tis", " '", "so", "'"]),
        ("horror—for “us”", ["horror", "—", "for", " “", "us", "”"]),
        ("naïve Ærø", ["naïve", " Ærø"]),
        ("in 1929 12345", ["in", " 192", "9", " 123", "45"]),
        ("a   b", ["a", "  ", " b"]),
        ("end.  \r\n\r\nNext", ["end", ".", "  \r\n\r\n", "Next"]),
        ("_say_ (so):", ["_", "say", "_", " (", "so", "):"]),
        ("a ", ["a", " "]),
    ],
)
def test_pieces(text: str, pieces: list[str]) -> None:
    assert bpe.PIECES.findall(text.encode()) == [piece.encode() for piece in pieces]


def test_merges_by_hand() -> None:
    """`ab` occurs 3 + 2 times, then `ab` and `c` 3 times, then `x` and `ab` twice."""
    trained = bpe.train({b"abc": 3, b"xab": 2}, 9)
    a, b, c, x = b"abcx"
    assert trained.tolist() == [[a, b], [256, c], [x, 256]]
    assert trained.dtype == np.uint16
    assert bpe.spellings(trained)[256:] == [b"ab", b"abc", b"xab"]
    assert bpe.encoder(trained)(b"abcxab").tolist() == [257, 258]
    assert bpe.encoder(trained)(b"xxab abx").tolist() == [x, 258, ord(" "), 256, x]


def test_ties_go_to_the_smaller_numbers() -> None:
    counts = {b"zb": 2, b"ac": 2, b"ab": 2, b"yy": 2}
    expected = [list(b"ab"), list(b"ac"), list(b"yy"), list(b"zb")]
    for _ in range(5):
        order = random.sample(list(counts.items()), 4)
        assert bpe.train(dict(order), 4).tolist() == expected


def test_overlapping_occurrences_count_and_merge_from_the_left() -> None:
    """`aaaa` holds `aa` three times, more often than `bb` occurs; merged it is two tokens."""
    trained = bpe.train({b"aaaa": 1, b"bb": 2}, 3)
    assert trained.tolist() == [list(b"aa"), list(b"bb"), [256, 256]]
    assert bpe.encoder(trained[:1])(b"aaaaa").tolist() == [256, 256, ord("a")]


def test_as_the_definition_says() -> None:
    """Against counting everything anew for each merge."""
    words = {piece: [*piece] for piece in Counter(bpe.PIECES.findall(TEXT))}
    counts = Counter(bpe.PIECES.findall(TEXT))
    expected = []
    for token in range(256, 296):
        pairs: Counter[tuple[int, int]] = Counter()
        for piece, word in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += counts[piece]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        expected.append(best)
        for piece, word in words.items():
            i = 0
            while i < len(word) - 1:
                if (word[i], word[i + 1]) == best:
                    words[piece][i : i + 2] = [token]
                i += 1
    assert merges_of(TEXT, 40) == expected
    encode = bpe.encoder(np.array(expected, np.uint16))
    for piece, word in words.items():
        assert encode(piece).tolist() == word, "a text is encoded as it was when the merges were learnt"


def test_nothing_is_merged_over_the_borders_of_pieces() -> None:
    trained = bpe.train(Counter(bpe.PIECES.findall(b"ab ab ab")), 9)
    assert [b" ab", b"ab"] == sorted(bpe.spellings(trained)[256:])


def test_no_more_merges_than_there_are_pairs() -> None:
    assert bpe.train({b"a": 7}, 5).shape == (0, 2)
    assert bpe.encoder(bpe.train({}, 5))(b"ab").tolist() == list(b"ab")


@settings(deadline=None)
@example(b"\xe2")
@example(b"\xe2\x80")
@example(b"a\xe2\x81 \xe2\x80\xe2\x80\x99s")
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(str.encode)))
def test_every_text_comes_back(text: bytes) -> None:
    tokens = bpe.encoder(TRAINED)(text)
    assert tokens.dtype == np.uint16
    assert bpe.decode(tokens, TRAINED) == text
