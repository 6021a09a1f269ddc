"""The processes that are started by name read XLA's flags and malloc's settings before jax is there."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("name", ["worker", "priming", "conformance"])
def test_importing_a_process_imports_no_jax(name):
    code = f"""if True:
        import sys
        import harness.trial.{name}
        heavy = [name for name in ("jax", "flax", "optax", "orbax") if name in sys.modules]
        sys.exit(f"imported {{heavy}}" if heavy else 0)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
