"""Byte-pair encoding of bytes (Sennrich et al. 2016, arXiv:1508.07909; on bytes as in Radford et al. 2019).

Tokens 0 to 255 are the bytes; token 256 + i is the pair of tokens in row i of the merges. A text is first cut into
`PIECES`, over whose borders nothing is merged. Everything is defined on bytes, and the result is the same everywhere.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping

import numpy as np

_LETTERS = rb"(?:[A-Za-z]|(?!\xe2[\x80\x81])[\x80-\xff])+"  # U+2000 to U+207F are dashes, quotes and the like
PIECES = re.compile(
    rb" ?" + _LETTERS + rb"(?:(?:'|\xe2\x80\x99)" + _LETTERS + rb")*"  # a word, with the space before it: don't
    rb"| ?[0-9]{1,3}"
    rb"| ?(?:\xe2[\x80\x81][\x80-\xbf]|[^\sA-Za-z0-9\x80-\xff])+"  # signs
    rb"|\s*[\r\n]+"  # ends of lines
    rb"|\s+(?!\S)|\s+"  # spaces, but for the last, which goes with the word after it
    rb"|[\x00-\xff]",  # bytes that are no UTF-8
)

Pair = tuple[int, int]


def train(counts: Mapping[bytes, int], merges: int) -> np.ndarray:
    """Return the merges uint16[merges, 2] for the pieces of a text and how often each occurs.

    Again and again the pair of neighbours that occurs most often becomes a token; of pairs that occur equally often the
    one with the smallest numbers, the left before the right. Occurrences are counted at every place, overlapping ones
    too (three in `aaaa`). Fewer rows are returned where no pairs are left.
    """
    words = [list(piece) for piece in counts]
    weights = list(counts.values())
    occurrences: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # the words a pair is in, or was
    for n, word in enumerate(words):
        for pair in itertools.pairwise(word):
            occurrences[pair] += weights[n]
            holders[pair].add(n)
    queue = [(-count, pair) for pair, count in occurrences.items()]
    heapq.heapify(queue)
    chosen: list[Pair] = []
    while queue and len(chosen) < merges:
        count, best = heapq.heappop(queue)
        if -count != occurrences[best] or not count:
            continue  # changed since it was queued, and queued again then
        token = 256 + len(chosen)
        chosen.append(best)
        changes: Counter[Pair] = Counter()
        for n in holders.pop(best):
            merged = _merge(words[n], best, token)
            for pair in itertools.pairwise(words[n]):
                changes[pair] -= weights[n]
            for pair in itertools.pairwise(merged):
                changes[pair] += weights[n]
                holders[pair].add(n)
            words[n] = merged
        for pair, change in changes.items():
            if change:
                occurrences[pair] += change
                heapq.heappush(queue, (-occurrences[pair], pair))
    return np.array(chosen, np.uint16).reshape(-1, 2)


def encoder(merges: np.ndarray) -> Callable[[bytes], np.ndarray]:
    """Return the function from a text to its tokens, uint16[n]. It remembers the pieces it has met."""
    token_of = {(int(left), int(right)): 256 + i for i, (left, right) in enumerate(merges)}

    @functools.cache
    def encode_piece(piece: bytes) -> bytes:
        tokens = list(piece)
        while pairs := [pair for pair in itertools.pairwise(tokens) if pair in token_of]:
            first = min(pairs, key=token_of.__getitem__)
            tokens = _merge(tokens, first, token_of[first])
        return np.array(tokens, "<u2").tobytes()

    return lambda text: np.frombuffer(b"".join(map(encode_piece, PIECES.findall(text))), "<u2")


def spellings(merges: np.ndarray) -> list[bytes]:
    """Return the bytes that each token stands for."""
    spelled = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    return spelled


def decode(tokens: np.ndarray, merges: np.ndarray) -> bytes:
    """Return the text that tokens stand for."""
    spelled = spellings(merges)
    return b"".join(spelled[token] for token in tokens)


def _merge(tokens: list[int], pair: Pair, token: int) -> list[int]:
    """Return the tokens with each occurrence of the pair, from the left, replaced by one token."""
    merged, i = [], 0
    while i < len(tokens):
        if i + 1 < len(tokens) and tokens[i] == pair[0] and tokens[i + 1] == pair[1]:
            merged.append(token)
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged
