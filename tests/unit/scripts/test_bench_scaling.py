"""The bytes that a compiled program sends, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

HLO = """HloModule jit_call, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[16])) -> (s32[], f32[16]) {
  %gathered = f32[16]{0} all-gather(%part), channel_id=1, dimensions={0}
}

%condition (p: (s32[], f32[16])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (p0: f32[8,4], p1: bf16[2]) -> f32[8,4] {
  %reduced = (f32[8,4]{1,0}, bf16[2]{0}) all-reduce(%p0, %p1), channel_id=2, to_apply=%add
  %begun = (f32[2,4]{1,0}, f32[16,4]{1,0}) all-gather-start(%x), channel_id=3, dimensions={0}
  %done = f32[16,4]{1,0} all-gather-done(%begun)
  %scattered = f32[4]{0} reduce-scatter(%y), channel_id=4, to_apply=%add
  %loop = (s32[], f32[16]) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
}
"""


def test_bytes_sent(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "scripts"))
    from bench import collectives

    assert collectives.bytes_sent(HLO, 8) == {
        "all-reduce": pytest.approx(2 * 7 / 8 * (8 * 4 * 4 + 2 * 2)),
        "all-gather": pytest.approx(7 / 8 * (16 * 4 * 4 + 5 * 16 * 4)),
        "reduce-scatter": pytest.approx(7 * 4 * 4),
    }


WHOLE = """HloModule jit_call

%fused (p0: f32[4,8], p1: f32[8,16]) -> f32[4,16] {
  %p0 = f32[4,8]{1,0} parameter(0)
  %p1 = f32[8,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[4,16]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (a: f32[64,8], m: f32[3,8,8]) -> f32[3,8,8] {
  %a = f32[64,8]{1,0} parameter(0)
  %m = f32[3,8,8]{2,1,0} parameter(1)
  %dot.2 = f32[8,8]{1,0} dot(%a, %a), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  %qr.0 = (f32[3,8,8]{2,1,0}, f32[3,8]{1,0}) custom-call(%m), custom_call_target="lapack_sgeqrf_ffi"
  %other = f32[3,8,8]{2,1,0} custom-call(%m), custom_call_target="Sharding"
}
"""


def test_work_that_is_repeated(monkeypatch):
    """A product over the batch has the same result on each device, and takes a part of it."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3] / "scripts"))
    from bench import repeated

    parts = WHOLE.replace("f32[64,8]{1,0} parameter", "f32[8,8]{1,0} parameter")
    assert repeated.work(WHOLE) & repeated.work(parts) == {
        "dot of f32[4,8] and f32[8,16]": 1,
        "lapack_sgeqrf_ffi of f32[3,8,8]": 1,
    }
