"""Token shards in the published .bin layout, and what is said of those that are none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness.data import shards
from harness.errors import DataError


def write(path: Path, tokens, *, magic: int = 20240520, version: int = 1, count: int | None = None) -> Path:
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(tokens) if count is None else count
    path.write_bytes(header.tobytes() + np.asarray(tokens, "<u2").tobytes())
    return path


def test_a_shard_is_its_tokens_mapped(tmp_path):
    tokens = shards.map_shard(write(tmp_path / "a.bin", [5, 50_256, 0]))
    assert tokens.tolist() == [5, 50_256, 0]
    assert isinstance(tokens, np.memmap)
    assert not tokens.flags.writeable


BROKEN = {
    "magic": (lambda p: write(p, [1, 2], magic=20240801), "its first number is 20240801, that of a token shard is"),
    "version": (lambda p: write(p, [1, 2], version=7), "version 7, expected 1"),
    "truncated": (lambda p: write(p, [1, 2], count=3), "1028 bytes, but its header says 3 tokens, which make 1030"),
    "longer": (lambda p: write(p, [1, 2], count=1), "1028 bytes, but its header says 1 tokens, which make 1026"),
    "no header": (lambda p: p.write_bytes(b"abc"), "3 bytes, expected a header of 1024"),
    "missing": (lambda p: None, "cannot be read (No such file"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_whole_shard_is_refused_by_name(tmp_path, kind):
    make, said = BROKEN[kind]
    make(tmp_path / "b.bin")
    with pytest.raises(DataError, match=f"b.bin.*{re.escape(said)}.*put a whole copy"):
        shards.map_shard(tmp_path / "b.bin")


def test_windows_over_shards_are_those_of_each_shard(tmp_path):
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 100, size) for size in (21, 3, 16, 17)]  # 5, 0, 3 and 4 windows of 5 tokens
    windows = shards.Windows([write(tmp_path / f"{n}.bin", part) for n, part in enumerate(parts)], 5, 100)
    expected = [part[i : i + 5] for part in parts for i in range(0, len(part) - 4, 4)]
    assert (windows.shape, windows.dtype, len(windows)) == ((12, 5), np.uint16, 12)
    rows = rng.permutation(12)
    assert np.array_equal(windows[rows], np.stack(expected)[rows])
    assert windows[np.array([3, 3])].tolist() == [expected[3].tolist()] * 2
    for beyond in (-1, 12):
        with pytest.raises(IndexError, match="there are 12"):
            windows[np.array([0, beyond])]


def test_a_token_out_of_the_vocabulary_is_refused_with_its_place(tmp_path):
    tokens = np.arange(40)
    tokens[33] = 101
    windows = shards.Windows([write(tmp_path / "a.bin", range(9)), write(tmp_path / "b.bin", tokens)], 5, 100)
    assert len(windows[np.array([0, 2])]) == 2
    with pytest.raises(DataError, match=r"b\.bin: token 33 is 101, expected less than 100"):
        windows[np.array([0, 10])]
