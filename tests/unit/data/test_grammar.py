"""The grammar: its text is unambiguous, reproducible, and as unpredictable as computed."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from harness.data import grammar


def test_the_entropy_rate_of_record() -> None:
    """A floor of published losses: never to change."""
    assert grammar.entropy_rate() == pytest.approx(0.47576400268686714, rel=1e-12)


def test_grammar_is_ll1() -> None:
    """The next word tells the rule: so a string has one derivation, and its probability is that of the derivation."""
    rules = grammar.rules()
    follow: dict[str, set[str]] = {symbol: set() for symbol in rules}
    follow["S"] = {"end"}
    for _ in rules:  # as many rounds as the longest chain needs
        for head, alternatives in rules.items():
            for _weight, right in alternatives:
                after = set(follow[head])
                for symbol in reversed(right):
                    start = grammar.first(symbol)
                    if symbol in rules:
                        follow[symbol] |= after
                    after = (start - {""}) | after if "" in start else set(start)
    for head, alternatives in rules.items():
        # What may come first under each alternative; an empty one starts with whatever may follow the head.
        starts = [grammar.first(right[0]) if right else follow[head] for _, right in alternatives]
        assert not any("" in start for start in starts), head
        assert sum(map(len, starts)) == len(set().union(*starts)), f"{head}: two alternatives start alike"


def test_grammar_does_not_recurse() -> None:
    rules = grammar.rules()

    def depth(symbol: str, above: tuple[str, ...] = ()) -> int:
        assert symbol not in above
        below = [depth(s, (*above, symbol)) for _, right in rules.get(symbol, []) for s in right]
        return 1 + max(below, default=0)

    assert depth("S") < 15


def test_words_spell_as_tokens_do() -> None:
    """Words are a space and letters: so the text splits into words, and a sentence ends at its period, in one way."""
    terminals = {s for rights in grammar.rules().values() for _, right in rights for s in right} - set(grammar.rules())
    for terminal in terminals:
        assert terminal in (".", ",") or (terminal[0] == " " and terminal[1:].isalpha() and terminal.islower()), (
            terminal
        )


def test_entropy_of_a_part_by_hand() -> None:
    """ONE draws from three words with weights 1/2, 1/3, 1/4, that is 6, 4, 3 of 13: this, every, one."""
    p = [6 / 13, 4 / 13, 3 / 13]
    entropy, length = grammar._moments("ONE")
    assert entropy == pytest.approx(-sum(q * math.log(q) for q in p))
    assert length == pytest.approx((6 * len(" this") + 4 * len(" every") + 3 * len(" one")) / 13)


def test_log_prob_by_hand() -> None:
    """One sentence, its rules' shares multiplied out."""
    m, nouns, verbs = 2 / 10, sum(1 / (k + 2) for k in range(10)), sum(1 / (k + 2) for k in range(10))
    p = (
        (6 / 10) * (6 / 10)  # a plain clause that starts with `the`
        * (7 / 10) * m  # no adjective, a masculine noun
        * (1 / 2 / nouns) * (5 / 10)  # king, unmodified
        * (3 / 9) * (1 / 2 / verbs) * (5 / 10)  # intransitive: sleeps, with no tail
        * (4 / 5)  # and nothing more
    )  # fmt: skip
    assert grammar.log_prob(" the king sleeps.") == pytest.approx(math.log(p))


@pytest.mark.parametrize(
    "text",
    [
        " the king sleep.",  # number
        " the king that the dogs see sleep.",  # number across a clause
        " the queen sees himself.",  # gender
        " either the king sleeps.",  # pair
        " the king sleeps",  # no end
        "The king sleeps.",
        " the cat sleeps.",
    ],
)
def test_what_the_grammar_does_not_hold(text: str) -> None:
    with pytest.raises(ValueError):
        grammar.log_prob(text)


def test_agreement_across_a_clause() -> None:
    assert grammar.log_prob(" the king that the dogs see sleeps.") < 0
    assert grammar.log_prob(" the king that the dogs see praises himself.") < 0


def test_sampled_text_parses_back_to_its_derivation() -> None:
    tokens, log_p = grammar.sample(5000, np.random.default_rng(0))
    assert grammar.log_prob(grammar.decode(tokens)) == pytest.approx(log_p, rel=1e-10)


def test_log_loss_of_the_true_model_converges_to_the_rate() -> None:
    """Ratio estimator over sentences, with its standard error by the delta method."""
    tokens, _ = grammar.sample(20_000, np.random.default_rng(1))
    sentences = [s + "." for s in grammar.decode(tokens).split(".")[:-1]]
    assert len(sentences) == 20_000
    nats = np.array([-grammar.log_prob(s) for s in sentences])
    length = np.array([len(s) for s in sentences])
    rate = grammar.entropy_rate()
    error = (nats - rate * length).std() / length.mean() / math.sqrt(len(sentences))
    assert error < 0.005 * rate
    assert abs(nats.sum() / length.sum() - rate) < 4 * error
    entropy, mean = grammar._moments("S")
    assert abs(nats.mean() - entropy) < 4 * nats.std() / math.sqrt(len(sentences))
    assert abs(length.mean() - mean) < 4 * length.std() / math.sqrt(len(sentences))


def test_corpus_is_the_same_everywhere() -> None:
    """Recorded once; both lanes of Python, numpy and jax must draw the same text."""
    tokens = grammar.corpus(200_000, seed=7)
    assert tokens.dtype == np.uint8
    assert tokens.shape == (200_000,)
    assert (
        hashlib.sha256(tokens.tobytes()).hexdigest()
        == "f61007c782b0f1d06ebca99c00f4814b54ce65172018c16ee40c5b1c185d0f29"
    )
    assert not np.array_equal(tokens, grammar.corpus(200_000, seed=8))
    assert tokens.max() < len(grammar.ALPHABET)


def test_corpus_of_any_length_starts_alike() -> None:
    assert grammar.corpus(1, seed=7).shape == (1,)
    assert grammar.decode(grammar.corpus(5, seed=3))[0] == " "


def test_windows_lie_side_by_side_in_three_texts() -> None:
    """Their bytes are pinned by the data set's hash; see test_data_store.py."""
    windows = grammar.windows()
    assert {name: array.shape for name, array in windows.items()} == {
        "train": (38_400, 65),
        "validation": (1024, 65),
        "test": (1024, 65),
    }
    np.testing.assert_array_equal(windows["validation"].ravel(), grammar.corpus(1024 * 65, 12))
