"""A seeded stochastic English-like grammar whose entropy rate is known exactly. numpy only.

Sentences are independent draws from a probabilistic context-free grammar without recursion. It is LL(1): the next word
always tells which rule was used, so every string has one derivation, and a sentence ends at its period. The probability
of a sentence is therefore the product of its rules' probabilities, and the entropy rate of the text is, as for any
renewal process,

    rate = H(sentence) / E[characters of a sentence]     nats per character,

both of which follow from the rules by linear recursion. A verb agrees in number with a subject that may stand a
relative clause away, a reflexive pronoun with the subject's gender; `either`, `if` and `both` are answered by `or`,
`then` and `and`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import numpy as np

ALPHABET = " ,.abcdefghijklmnopqrstuvwxyz"
"""Token t stands for the character ALPHABET[t]."""

WINDOW = 65
"""Characters of a window: 64 inputs, and for each the one that follows."""

_SPLITS = {"train": (38_400, 11), "validation": (1024, 12), "test": (1024, 13)}  # windows, and the seed of the text

Rules = dict[str, list[tuple[float, list[str]]]]
"""Nonterminal -> (weight, right-hand side) alternatives. A symbol that is not a key is text."""

_NOUNS = {  # by agreement class: masculine, feminine, neuter; the plurals are formed from all of them
    "m": "king boy uncle farmer monk baker sailor prince miller hunter",
    "f": "queen girl aunt widow nun witch sister duchess maid lady",
    "n": "dog river castle garden bird horse wolf lantern forest stone ship tower mirror clock bridge dragon "
    "candle storm",
}
_SHARES = {"m": 2, "f": 2, "n": 3, "p": 3}  # how often a noun is of each class; p is plural
_REFLEXIVES = {"m": " himself", "f": " herself", "n": " itself", "p": " themselves"}
_TRANSITIVE = "see follow hear praise carry fear admire guard find help remember touch paint call trust"
_INTRANSITIVE = "sleep wait sing fall laugh return vanish tremble shine wander"
_ADJECTIVES = "old small bright silent green proud hungry gentle broken young distant golden"
_ADVERBS = "slowly often again quietly today gladly alone never"
_PREPOSITIONS = "near behind under above beside with from"


@cache
def rules() -> Rules:
    """Return the grammar. Words carry the space before them."""
    table: Rules = {
        "S": [
            (6, ["CLAUSE", "."]),
            (2, [" if", "CLAUSE", ",", " then", "CLAUSE", "."]),
            (2, [" either", "CLAUSE", " or", "CLAUSE", "."]),
        ],
        "CLAUSE": [(6, [" the", "SUBJECT"]), (2, ["ONE", "SUBJECT_ONE"]), (2, ["MANY", "SUBJECT_p"])],
        "SUBJECT": [(3, ["ADJECTIVE", "SUBJECT_ANY"]), *_by_class("SUBJECT_", 7)],
        "SUBJECT_ANY": _by_class("SUBJECT_", 1),
        "SUBJECT_ONE": _by_class("SUBJECT_", 1, "mfn"),
        "OBJECT": [(5, [" the", "OBJECT_THE"]), (2, ["ONE", "NOUN_ONE"]), (2, ["MANY", "NOUN_p"])],
        "OBJECT_THE": [(3, ["ADJECTIVE", "NOUN_ANY"]), *_by_class("NOUN_", 7)],
        "NOUN_ANY": _by_class("NOUN_", 1),
        "NOUN_ONE": _by_class("NOUN_", 1, "mfn"),
        "NOUN_p": _words(_plural(noun) for group in "mfn" for noun in _NOUNS[group].split()),
        "RELATIVE_NOUN": [(1, ["NOUN_ONE", "TRANSITIVE_s"]), (1, ["NOUN_p", "TRANSITIVE_p"])],
        "TAIL": [(5, []), (2, ["ADVERB"]), (3, ["PREPOSITION", "OBJECT"])],
        "ONE": _words(["this", "every", "one"]),
        "MANY": _words(["some", "these", "many"]),
        "ADJECTIVE": _words(_ADJECTIVES.split()),
        "ADVERB": _words(_ADVERBS.split()),
        "PREPOSITION": _words(_PREPOSITIONS.split()),
        "TRANSITIVE_s": _words(_plural(verb) for verb in _TRANSITIVE.split()),
        "TRANSITIVE_p": _words(_TRANSITIVE.split()),
        "INTRANSITIVE_s": _words(_plural(verb) for verb in _INTRANSITIVE.split()),
        "INTRANSITIVE_p": _words(_INTRANSITIVE.split()),
    }
    for number in "sp":
        table[f"RELATIVE_{number}"] = [(3, [f"TRANSITIVE_{number}", "OBJECT"]), (2, [" the", "RELATIVE_NOUN"])]
    for group, reflexive in _REFLEXIVES.items():
        number = "p" if group == "p" else "s"
        table |= {
            f"SUBJECT_{group}": [(1, [f"NOUN_{group}", f"MODIFIER_{number}", f"PREDICATE_{group}", f"MORE_{group}"])],
            f"PREDICATE_{group}": [
                (3, [f"INTRANSITIVE_{number}", "TAIL"]),
                (6, [f"TRANSITIVE_{number}", f"PATIENT_{group}", "TAIL"]),
            ],
            f"PATIENT_{group}": [(6, ["OBJECT"]), (2, [reflexive]), (2, [" both", "OBJECT", " and", "OBJECT"])],
            f"MORE_{group}": [(4, []), (1, [" and", f"PREDICATE_{group}"])],
            f"MODIFIER_{number}": [(5, []), (2, ["PREPOSITION", "OBJECT"]), (3, [" that", f"RELATIVE_{number}"])],
        }
    return table | {f"NOUN_{group}": _words(nouns.split()) for group, nouns in _NOUNS.items()}


def entropy_rate() -> float:
    """Return the entropy of the text in nats per character: the smallest log-loss any model can reach."""
    entropy, length = _moments("S")
    return entropy / length


def log_prob(text: str) -> float:
    """Return the log-probability of a text of whole sentences, in nats. Raises `ValueError` for other text."""
    tokens = re.findall(r" [a-z]+|[.,]", text)
    if "".join(tokens) != text:
        raise ValueError(f"not a text of the grammar: {text[:80]!r}")
    total, stack = 0.0, list[str]()
    for token in tokens:
        stack = stack or ["S"]
        while (symbol := stack.pop()) in rules():
            p, expansion = _predict(symbol, token)
            total += float(np.log(p))
            stack += reversed(expansion)
        if symbol != token:
            raise ValueError(f"{token!r} where the grammar wants {symbol!r}")
    if stack:
        raise ValueError("the text ends within a sentence")
    return total


def sample(sentences: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """Draw sentences; return (tokens uint8[characters], log-probability of the derivations in nats).

    All occurrences of all nonterminals are expanded together, level by level, with one uniform draw each.
    """
    tables = _tables()
    symbols = np.full(sentences, tables["start"], np.int16)
    total = 0.0
    while (open_ := symbols < tables["nonterminals"]).any():
        heads = symbols[open_]
        # The alternatives of nonterminal s lie between s and s + 1 on one line of cumulative probabilities.
        chosen = np.searchsorted(tables["cumulative"], heads + rng.random(heads.size), side="right")
        total += float(tables["log_p"][chosen].sum())
        expanded = np.full((symbols.size, tables["expansion"].shape[1]), -1, np.int16)
        expanded[:, 0] = symbols
        expanded[open_] = tables["expansion"][chosen]
        symbols = expanded[expanded >= 0]
    spelled = tables["spelling"][symbols - tables["nonterminals"]]
    return spelled[spelled < len(ALPHABET)], total


def corpus(characters: int, seed: int) -> np.ndarray:
    """Return text, uint8[characters], the same for a seed everywhere. It may end within a sentence."""
    rng = np.random.Generator(np.random.PCG64(seed))
    block = 1 + int(1.01 * characters / _moments("S")[1])
    parts: list[np.ndarray] = []
    while sum(part.size for part in parts) < characters:
        parts.append(sample(block, rng)[0])
    return np.concatenate(parts)[:characters]


def windows() -> dict[str, np.ndarray]:
    """Return `train` uint8[38400, 65], `validation` and `test` uint8[1024, 65]: windows side by side in three texts."""
    return {split: corpus(count * WINDOW, seed).reshape(count, WINDOW) for split, (count, seed) in _SPLITS.items()}


def decode(tokens: np.ndarray) -> str:
    """Return the text of an array of tokens."""
    return "".join(ALPHABET[t] for t in tokens)


def _by_class(prefix: str, weight: float, classes: str = "mfnp") -> list[tuple[float, list[str]]]:
    total = sum(_SHARES[c] for c in classes)
    return [(weight * _SHARES[c] / total, [prefix + c]) for c in classes]


def _words(words: Iterable[str]) -> list[tuple[float, list[str]]]:  # frequent first, as in Zipf's law
    return [(1 / (rank + 2), [" " + word]) for rank, word in enumerate(words)]


def _plural(word: str) -> str:
    """Add the ending that makes a noun plural, or a verb third person singular."""
    if word.endswith("f"):
        return word[:-1] + "ves"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "sh", "ch")) else "s")


@cache
def first(symbol: str) -> frozenset[str]:
    """Return the words that an expansion of the symbol may start with; "" stands for the empty expansion."""
    if symbol not in rules():
        return frozenset([symbol])
    return frozenset().union(*(first(right[0]) if right else {""} for _, right in rules()[symbol]))


@cache
def _predict(symbol: str, token: str) -> tuple[float, list[str]]:
    """Return (probability, expansion) of the one alternative of `symbol` that the next word allows."""
    alternatives = rules()[symbol]
    total = sum(weight for weight, _ in alternatives)
    for weight, right in alternatives:
        if right and token in first(right[0]):
            return weight / total, right
    for weight, right in alternatives:
        if not right:
            return weight / total, right
    raise ValueError(f"{token!r} cannot start {symbol}")


@cache
def _moments(symbol: str) -> tuple[float, float]:
    """Return (entropy in nats, expected characters) of the text a symbol expands to."""
    if symbol not in rules():
        return 0.0, float(len(symbol))
    entropy = length = 0.0
    total = sum(weight for weight, _ in rules()[symbol])
    for weight, right in rules()[symbol]:
        p = weight / total
        parts = [_moments(part) for part in right]
        entropy += p * (sum(h for h, _ in parts) - float(np.log(p)))
        length += p * sum(n for _, n in parts)
    return entropy, length


@cache
def _tables() -> dict:
    """Return the grammar as arrays: symbols are numbers, nonterminals first."""
    grammar = rules()
    terminals = sorted(
        {s for alternatives in grammar.values() for _, right in alternatives for s in right} - set(grammar)
    )
    number = {symbol: i for i, symbol in enumerate([*grammar, *terminals])}
    widest = max(len(right) for alternatives in grammar.values() for _, right in alternatives)
    cumulative, log_p, expansion = [], [], []
    for symbol, alternatives in grammar.items():
        p = np.array([weight for weight, _ in alternatives]) / sum(weight for weight, _ in alternatives)
        cumulative += [*(number[symbol] + np.cumsum(p)[:-1]), number[symbol] + 1.0]
        log_p += list(np.log(p))
        expansion += [[number[s] for s in right] + [-1] * (widest - len(right)) for _, right in alternatives]
    longest = max(map(len, terminals))
    spelling = [[ALPHABET.index(c) for c in word] + [len(ALPHABET)] * (longest - len(word)) for word in terminals]
    return {
        "start": number["S"],
        "nonterminals": len(grammar),
        "cumulative": np.array(cumulative),
        "log_p": np.array(log_p),
        "expansion": np.array(expansion, np.int16),
        "spelling": np.array(spelling, np.uint8),
    }
