"""What is set before jax is imported, and the untimed compilation before a trial on a GPU."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from harness.machine import children, flags
from harness.record import run_folder
from harness.trial import priming, worker

OLD = metadata.version("jaxlib").startswith("0.10.")


def xla_flags(*args, **fields) -> list[str]:
    return flags.environment(*args, **fields)["XLA_FLAGS"].split()


def test_a_trial_reads_the_autotune_cache_and_priming_writes_it():
    cache = f"--xla_gpu_per_fusion_autotune_cache_dir={flags.autotune_cache()}"
    mode = "--xla_gpu_experimental_autotune_cache_mode=AUTOTUNE_CACHE_MODE_"
    assert xla_flags("gpu", deterministic=False, given={}) == [cache, f"{mode}READ"]
    assert xla_flags("gpu", deterministic=False, autotune="update", given={}) == [cache, f"{mode}UPDATE"]
    assert xla_flags("cpu", deterministic=True, given={}) == ([flags.EIGEN_CONVOLUTIONS] if OLD else [])
    # A trial's variables are those that the process which primes it is handed down.
    handed = flags.environment("gpu", deterministic=False, given={})
    assert xla_flags("gpu", deterministic=False, autotune="update", given=handed) == [cache, f"{mode}UPDATE"]


def test_deterministic_is_told_to_xla_on_a_gpu_and_the_users_flags_stay():
    given = {"XLA_FLAGS": "--xla_dump_to=/tmp/x"}
    assert "--xla_gpu_deterministic_ops=true" in xla_flags("gpu", deterministic=True, given=given)
    assert "--xla_gpu_deterministic_ops=true" not in xla_flags("gpu", deterministic=False, given=given)
    assert xla_flags("gpu", deterministic=True, given=given)[0] == "--xla_dump_to=/tmp/x"
    assert flags.environment("gpu", deterministic=False, given={})["JAX_PLATFORMS"] == "cuda"


@pytest.mark.skipif(not OLD, reason="jax 0.11 takes no such flag from us")
def test_on_a_cpu_eigen_takes_the_convolutions_and_ynnpack_the_products():
    handed = flags.environment("cpu", deterministic=False, given={"XLA_FLAGS": "--xla_dump_to=/tmp/x"})
    assert flags.environment("cpu", deterministic=False, given=handed) == handed
    assert xla_flags("cpu", deterministic=False, given=handed) == ["--xla_dump_to=/tmp/x", flags.EIGEN_CONVOLUTIONS]
    assert flags.EIGEN_CONVOLUTIONS not in xla_flags("gpu", deterministic=False, given=handed)
    code = """
import jax, jax.numpy as jnp
def fused(f, *args):
    return jax.jit(f).lower(*args).compile().as_text().count("__ynn_fusion")
def convolved(x, k):
    return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")).sum()
x, k, a = jnp.ones((32, 8, 8, 32)), jnp.ones((3, 3, 32, 32)), jnp.ones((256, 256))
print(fused(jax.grad(convolved, argnums=1), x, k), fused(jnp.matmul, a, a))
"""
    counts = []
    for variables in ({"XLA_FLAGS": ""}, flags.environment("cpu", deterministic=False, given={})):
        told = os.environ | {"JAX_PLATFORMS": "cpu"} | variables
        done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True)
        counts.append([int(count) for count in done.stdout.split()])
    (convolution, product), (convolution_here, product_here) = counts
    assert convolution_here < convolution, "else the flag does nothing on this jaxlib: take it out"
    assert product_here == product


@pytest.mark.parametrize("autotune", ["read", "update"])
def test_this_jaxlib_knows_every_flag(autotune):
    """An unknown flag would end the process; XLA reads those of a GPU on a CPU as well."""
    variables = flags.environment("gpu", deterministic=True, autotune=autotune) | {"JAX_PLATFORMS": "cpu"}
    code = "import jax; jax.numpy.zeros(1).block_until_ready()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_priming_compiles_a_trial_once_and_leaves_its_folder_alone(make_trial, monkeypatch):
    path = make_trial("quadratic", "adamw")
    spec, options = run_folder.read_spec(path)
    before = sorted(path.iterdir())
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(priming, "subprocess", SimpleNamespace(run=run, DEVNULL=subprocess.DEVNULL))
    assert not priming.prime(spec, path), "on a CPU nothing is chosen by timing"
    object.__setattr__(spec, "device", "gpu")
    assert priming.prime(spec, path)
    assert not priming.prime(spec, path)
    assert commands == [children.command("harness.trial.priming", str(path))]
    other, _ = run_folder.read_spec(make_trial("quadratic", "adamw", hp={"b1": 0.5}))
    assert priming.key(dataclasses.replace(other, device="gpu")) != priming.key(spec), "another program"
    other, _ = run_folder.read_spec(make_trial("quadratic", "adamw", hp={"learning_rate": 0.006}))
    assert priming.key(dataclasses.replace(other, device="gpu")) == priming.key(spec), "a point of the same program"
    object.__setattr__(spec, "device", "cpu")
    priming.compile_all(spec, options)
    assert sorted(path.iterdir()) == before


def test_out_of_memory_tells_what_was_wanted_what_is_there_and_what_to_lower(monkeypatch):
    from harness.machine import backend

    monkeypatch.setattr(backend, "device_memory", lambda: (80 * 2**30, 70 * 2**30))
    told = worker.out_of_memory("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 21474836480 bytes.")
    assert told.startswith("wanted 21474836480 bytes (20.0 GiB), of 85899345920 bytes (80.0 GiB) 75161927680 bytes")
    assert "lower what the submission keeps" in told
    assert "wanted more than there is" in worker.out_of_memory("RESOURCE_EXHAUSTED")


def test_what_the_shell_tells_jax_does_not_reach_a_trial(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in [name for name in os.environ if name.startswith("JAX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x")
    handed = children.environment()
    assert "JAX_ENABLE_X64" not in handed
    assert handed["XLA_FLAGS"] == "--xla_dump_to=/tmp/x", "recorded, and no resume under others"
    assert flags.apply("cpu", deterministic=True) == {"JAX_ENABLE_X64": "1"}
    assert "JAX_ENABLE_X64" not in os.environ
    assert os.environ["JAX_PLATFORMS"] == "cpu"


def test_the_working_folder_is_not_imported_from(tmp_path):
    for name in ("queue.py", "optax.py", "harness.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the working folder')\n")
    words = children.command("harness.trial.worker", "--help")
    done = subprocess.run(words, cwd=tmp_path, env=children.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
