"""The benchmark against PyTorch: models of the same size, names that fit, its table and what it says without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.program import discovery

ROOT = Path(__file__).resolve().parents[3]
WORKLOADS = ("lm_grammar", "resnet_digits", "mae_digits", "lm_shakespeare", "resnet8_cifar10", "mae_tiny_cifar10")
GPU = ("lm_books", "resnet18_cifar10", "mae_small_cifar10")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "bench"))


def record(name: str, **more: Any) -> dict[str, Any]:
    return {
        "workload": name, "sources": "1", "utc": "2026-01-02T00:00:00Z", "machine": {"cpu": "made up", "cores": 2},
        "versions": {"jax": "1", "torch": "2"}, "threads": 2, "parameters": 1234, "gflop_per_step": 2.0,
        "losses_differ_by": 2e-6, "ceiling_gflop_per_s": {"jax": 150.0, "torch": 200.0},
        "ms": {"harness": [10.0, 20.0, 30.0], "eager": [20.0, 20.0, 30.0], "compiled": [5.0] * 3},
    } | more  # fmt: skip


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench_torch.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)


@pytest.mark.parametrize("name", [*WORKLOADS, *GPU])
def test_torch_s_model_has_the_harness_s_parameters_by_name_and_shape(name):
    pytest.importorskip("torch", reason="torch is not here: scripts/requirements-torch.txt")
    import jax
    import torch
    from bench import against_torch
    from torch_models import FAMILIES

    workload = discovery.load_workload(discovery.find("workloads", name))
    spec = against_torch.model_of(discovery.find("workloads", name))
    with torch.device("meta"):
        theirs = FAMILIES[type(spec).__name__](spec)
    params = jax.eval_shape(workload.init, jax.random.key(0))[0]
    own = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        torch_name, array = against_torch.carried(
            jax.tree_util.keystr(path), np.broadcast_to(np.float32(0), leaf.shape)
        )
        own[torch_name] = array.shape
    assert own == {torch_name: tuple(p.shape) for torch_name, p in theirs.named_parameters()}
    assert sum(p.numel() for p in theirs.parameters()) == against_torch.parameters(workload)


def test_parameters_are_carried_over_by_name_and_axes():
    from bench.against_torch import carried

    name, array = carried("params['blocks'][0]['attention']['qkv']['kernel']", np.arange(12.0).reshape(2, 3, 2))
    assert name == "blocks.0.attention.qkv.weight"
    assert array.tolist() == [[0, 6], [1, 7], [2, 8], [3, 9], [4, 10], [5, 11]], "queries, keys, values of each input"
    name, array = carried("params['stem']['kernel']", np.zeros((3, 3, 1, 16)))
    assert (name, array.shape) == ("stem.weight", (16, 1, 3, 3))
    assert carried("params['norm']['scale']", np.ones(4))[0] == "norm.weight"
    assert carried("params['head']['bias']", np.ones(4))[0] == "head.bias"


def test_the_table_shows_the_newest_record_of_each_workload(tmp_path):
    path = tmp_path / "torch.jsonl"
    elsewhere = record("mae_digits", machine={"cpu": "another", "cores": 64})
    older = record("lm_grammar", parameters=1)
    records = (elsewhere, older, record("resnet_digits"), record("lm_grammar", utc="2026-01-03T00:00:00Z"))
    path.write_text("".join(f"{json.dumps(each)}\n" for each in records))
    done = run("--table", "--out", str(path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("made up, 2 cores, 2 threads; jax 1, torch 2;\n2026-01-02 to 2026-01-03.")
    rows = [line for line in done.stdout.splitlines() if "digits" in line or "grammar" in line]
    assert [row.split(" | ")[0] for row in rows] == ["| lm_grammar", "| resnet_digits"]
    assert rows[0] == (
        "| lm_grammar | 1,234 | 2 | 200 | 20.00 ms, 100, 50% | 20.00 ms, 100, 50% | 5.00 ms, 400, 200% "
        "| 1.00 (1.00 to 2.00) | 0.25 (0.17 to 0.50) | 2e-06 |"
    )


def test_the_table_goes_between_the_markers_of_the_page():
    import bench_torch

    assert bench_torch.BEGIN in bench_torch.PAGE.read_text()
    page = f"before\n{bench_torch.BEGIN}\nold\n{bench_torch.END}\nafter\n"
    assert bench_torch.on_page(page, "new") == page.replace("old", "new")


def test_without_a_record_or_torch_it_says_what_to_do(tmp_path):
    done = run("--table", "--out", str(tmp_path / "none.jsonl"))
    assert done.returncode == 2
    assert "nothing is recorded in" in done.stderr
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    for python in (bare, tmp_path / "missing"):
        done = run("lm_grammar", "--torch-python", str(python), "--out", str(tmp_path / "none.jsonl"))
        assert done.returncode == 2, done.stdout
        assert f"error: {python} has no torch" in done.stderr
        assert "torch-env/bin/pip install -r scripts/requirements-torch.txt" in done.stderr
