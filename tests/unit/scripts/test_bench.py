"""The benchmark's record and table, and what compiled programs are read for, without running anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def test_the_journal_finds_what_was_measured_alike_and_nothing_else(tmp_path):
    from bench.journal import Journal

    path = tmp_path / "deep" / "bench.jsonl"
    journal = Journal(path, {"device": "A", "small": False})
    journal.add("a", "lm", "123", {"x": 1}, 2.0)
    journal.add("a", "lm", "123", {"x": 2}, 2.0)
    again = Journal(path, {"device": "A", "small": False})
    assert again.find("a", "lm", "123")["values"] == {"x": 2}, "the newest"
    assert again.find("b", "lm", "123") is None
    assert again.find("a", "lm", "456") is None, "other sources"
    assert Journal(path, {"device": "B", "small": False}).find("a", "lm", "123") is None
    assert Journal(path, {"device": "A", "small": True}).find("a", "lm", "123") is None


def test_what_was_recorded_is_shown_where_there_is_no_card(tmp_path):
    from bench.journal import Journal

    command = [sys.executable, str(ROOT / "scripts" / "bench_gpu.py"), "--table", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert f"nothing is recorded in {tmp_path / 'bench.jsonl'}" in done.stderr
    for device in ("an older card", "NVIDIA H200"):
        Journal(tmp_path / "bench.jsonl", {"small": False, "device": device, "jax": "1"}).add("a", "x", "1", {}, 1.0)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("\ndevice NVIDIA H200, jax 1\n")


def test_the_table_shows_every_row_with_its_goal(tmp_path, capsys):
    from bench.journal import Journal
    from bench.table import show

    from harness.program import discovery

    journal = Journal(tmp_path / "bench.jsonl", {"device": "made up", "small": True})
    sources = discovery.find("workloads", "lm_books").source_hash
    rows = {
        "a": {
            "step_ms": 40.0, "step_ms_4_a_call": 39.0, "unit": "tokens", "units_per_s": 1.68e6,
            "model_tflop_per_step": 12.4, "model_tflop_per_s": 318.0, "ceiling_tflop_per_s": 780.0,
            "share_of_ceiling": 0.41, "choices": {"attention": "xla: no GPU"},
        },
        "b": {
            "bare_ms": 40.0, "harness_ms": 40.4, "ratio": 0.99, "same_ratio": 1.0, "measured": 0.03, "evaluated": 0.06,
        },
        "c": {"harness_ms": 40.0, "torch_ms": 44.0, "times_as_fast": 1.1, "torch": "2.13"},
        "d": {"step_over_adamw": {"muon": 1.05, "broken": None}},
        "e": {"cold_s": 60.0, "tuned_s": 30.0, "cached_s": 2.0},
        "g": {"what": "160 steps", "seconds": [6.4, 6.5], "spread": 0.0109},
    }  # fmt: skip
    for row, values in rows.items():
        journal.add(row, "lm_books", sources, values, 1.0)
    show(journal, ["lm_books", "resnet18_cifar10"])
    table = capsys.readouterr().out
    for text in (
        "| 41.0% | 50% |",
        "| f | lm_books | evaluation over training; with the full splits | 3.0%; 6.0% |",
        "| 1.10 |",
        "muon 1.05, broken -",
    ):
        assert text in table
    assert "| 60.0, 30.0, 2.0 |" in table
    assert "| 1.09% of 2 |" in table
    assert table.count("| resnet18_cifar10 | not measured |") == 6
    assert "say nothing about speed" in table


def test_the_table_reads_what_the_loop_s_bench_returns():
    import bench_loop
    from bench.table import lines

    from harness.program import discovery

    row = bench_loop.bench(discovery.find("workloads", "quadratic"), rounds=3)
    names = [name for name, _, _ in lines("b", "lm_books", row)]
    assert names[-1] == "evaluation over training; with the full splits"
    assert row["pairs"] >= 3
    assert 0 < row["measured"] <= row["evaluated"]


HLO = """HloModule jit_call

%gemm_fusion_computation (parameter_0: bf16[65536,512], parameter_1: f32[512,2048]) -> bf16[65536,2048] {
  %parameter_0 = bf16[65536,512]{1,0} parameter(0), metadata={scheduling_name="parameter_0"}
  %parameter_1 = f32[512,2048]{1,0} parameter(1)
  %low.1 = bf16[512,2048]{1,0} convert(%parameter_1)
  ROOT %dot.0 = bf16[65536,2048]{1,0} dot(%parameter_0, %low.1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

ENTRY %main (images: bf16[512,32,32,64], kernel: f32[64,3,3,64], query: bf16[2,512,4,128]) -> f32[512,512] {
  %images = bf16[512,32,32,64]{3,2,1,0} parameter(0)
  %kernel = f32[64,3,3,64]{3,2,1,0} parameter(1)
  %query = bf16[2,512,4,128]{3,2,1,0} parameter(2)
  %few = f32[512,10]{1,0} constant({...})
  %conv = (bf16[512,32,32,64]{3,2,1,0}, u8[0]{0}) custom-call(%images, %kernel), custom_call_target="__cudnn$convForward"
  %fmha = (bf16[2,512,4,128]{3,2,1,0}, u8[0]{0}) custom-call(%query, %query, %query), custom_call_target="__cudnn$fmhaSoftmax"
  %back = (bf16[2,512,4,128]{3,2,1,0}, u8[0]{0}) custom-call(%query, %query), custom_call_target="__cudnn$fmhaSoftmaxBackward"
  ROOT %small = f32[512,512]{1,0} dot(%few, %few), lhs_contracting_dims={1}, rhs_contracting_dims={1}
}
"""  # noqa: E501


def test_compiled_programs_are_read_for_precision_and_attention():
    import compile_gpu

    assert compile_gpu.products(HLO) == {"bf16": 1, "f32": 1}, "the small one does not count, nor does attention"
    assert compile_gpu.attention_calls(HLO) == (1, 1)


def test_compiling_for_a_card_says_what_it_needs():
    command = [sys.executable, str(ROOT / "scripts" / "compile_gpu.py"), "lm_books"]
    if importlib.util.find_spec("jax_cuda13_plugin"):
        pytest.skip("jax's CUDA wheels are here; without them the script says what to install")
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 2
    assert "jax's CUDA wheels are needed, in the checkout: pip install -e '.[gpu]'" in done.stderr


def test_without_a_card_the_scripts_refuse_and_say_why():
    for words in ("bench_gpu.py", "card.py --minutes 1", "set_targets.py lm_books --device gpu"):
        script, *rest = words.split()
        command = [sys.executable, str(ROOT / "scripts" / script), *rest]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
        assert done.returncode == 2, done.stdout
        assert "a GPU was asked for, but" in done.stderr
