"""A trace of some steps of a trial's program, in a process of its own (`harness.trial.profiling`)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.machine import children


def profile(path: Path) -> dict[str, Any]:
    """Trace the program of the run folder and return a `harness.trial.profiling.Profile` as JSON has it.

    Raises HarnessError where there is no trace.
    """
    command = children.command("harness.trial.profiling", str(path))
    environment = os.environ | {"PYTHONPATH": children.python_path()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise HarnessError(f"{path}: no trace: {said[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
