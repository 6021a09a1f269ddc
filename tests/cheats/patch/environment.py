"""Sets what steers XLA, jax, malloc and the harness: in the environment, and in jax's own options.

It would gain faster arithmetic than others have, a cache of its own, or a harness that looks elsewhere.
"""

import os

import jax
import optax

SET = {
    "XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_cpu_use_thunk_runtime=false",
    "JAX_DISABLE_JIT": "1",
    "OMP_NUM_THREADS": "64",
    "GLIBC_TUNABLES": "glibc.malloc.check=3",
    "HARNESS_CACHE": "/tmp/mine",
    "HARNESS_PATH": "/tmp/mine",
    "PYTHONPATH": "/tmp/mine",
}


def build(task, hp):
    os.environ.update(SET)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", "/tmp/mine")
    jax.config.update("jax_compilation_cache_dir", before)
    return optax.sgd(0.1)
