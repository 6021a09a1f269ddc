"""What a job of Slurm says and hears from within: the signal before its time is over, and that it wants to go on."""

from __future__ import annotations

import os
import subprocess

LATE = "USR2"
"""The signal that Slurm is asked to send before the time limit: the one that submitit knows."""
PATIENCE_S = 60.0


def requeue() -> str | None:
    """Put the job that this process is in the queue again; return why that failed, or None."""
    array, number = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # By SLURM_JOB_ID the whole array would be meant, where that of an element is the array's.
    job = f"{array}_{number}" if array else os.environ.get("SLURM_JOB_ID", "")
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None
