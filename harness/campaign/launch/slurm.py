"""Jobs of a Slurm cluster: a script for sbatch, an array element for each job, and what squeue says of them.

The job runs `python -m harness.campaign jobs.json --job N`, as a person would, so that locks, exact resume and records
are those of one machine. Nothing is pickled, and a job needs the shared folder and the same Python alone. submitit
would be the library for this, and was looked at (1.5): it sends a pickled function, which a job of other sources cannot
read; it lets SIGTERM pass, by which Slurm preempts and `scancel` ends jobs, so that nothing is saved then; it
tells how jobs stand by sacct alone, which needs an accounting database; and it gives a job up after so many time-outs,
whatever was done in them. What remained of it is the text of a script.

A job that is preempted, or whose node fails, is put in the queue again by Slurm (`--requeue`). Before its time is over
Slurm sends SIGUSR1 (`--signal`): the trial saves, and the job puts itself in the queue (`scontrol requeue`).
"""

from __future__ import annotations

import math
import os
import re
import shlex
import subprocess
from collections.abc import Collection
from pathlib import Path

from harness.campaign.launch.jobs import Batch, Seen
from harness.errors import ConfigError, HarnessError, MachineError
from harness.machine import children
from harness.record.spec import RunSpec

PATIENCE_S = 60.0
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)
SCRIPT = """\
#!/bin/bash
# Written by `harness run launcher=slurm`, which submits it as: sbatch {words} {file}
export PYTHONPATH={path}
exec {command} --job "$SLURM_ARRAY_TASK_ID"
"""


def check(run: RunSpec) -> None:
    """Raise ConfigError where a time limit leaves a job no time to work."""
    hours, save_s = run.launcher.hours, run.launcher.save_s
    if hours is not None and hours * 3600.0 < 2 * save_s + 60:
        raise ConfigError(
            f"launcher.hours={hours:g}: trials save {save_s} s before that, and Slurm may say so a minute early; give "
            f"at least {(2 * save_s + 60) / 3600:.2f} hours, or a lower launcher.save_s"
        )


def submit(folder: Path, batch: Batch, run: RunSpec) -> tuple[str, tuple[str, ...]]:
    """Submit the jobs of a batch; return the id of the array, and the words that sbatch was given.

    Raises ConfigError with Slurm's message where it takes no such job, MachineError where it does not answer.
    """
    words = asked(folder, batch, run)
    file = folder / "job.sh"
    command = shlex.join(children.command("harness.campaign", str(folder / "jobs.json")))
    path = shlex.quote(children.python_path())
    file.write_text(SCRIPT.format(words=shlex.join(words), file=file, path=path, command=command))
    done = _call("sbatch", "--parsable", *words, str(file))
    if done.returncode:
        raise refusal(done.stderr, words)
    return done.stdout.strip().split(";")[0], tuple(words)


def asked(folder: Path, batch: Batch, run: RunSpec) -> list[str]:
    """Return the words for sbatch: resources from the device, the rest from the launcher."""
    device, launcher = run.device, run.launcher
    at_a_time = f"%{launcher.max_jobs}" if launcher.max_jobs else ""
    values = {
        "cpus-per-task": device.cpus,
        "mem": None if device.memory_gb is None else f"{math.ceil(device.memory_gb * 1024)}M",
        "gres": device.gres,
        "constraint": device.constraint,
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "time": None if launcher.hours is None else math.ceil(launcher.hours * 60),
    }
    return [
        f"--job-name=harness-{folder.name}",
        f"--array=0-{len(batch.jobs) - 1}{at_a_time}",
        f"--chdir={Path.cwd()}",
        f"--output={str(folder).replace('%', '%%')}/%a.log",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:USR1@{launcher.save_s}",
        *(f"--{name}={value}" for name, value in values.items() if value is not None),
        *launcher.sbatch,
    ]


def refusal(said: str, words: Collection[str]) -> HarnessError:
    """Return the error of an sbatch that took no job: Slurm's message, what was asked for, how to mend it."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in said.splitlines() if line.strip()]
    message = "; ".join(dict.fromkeys(lines)) or "no reason given"
    if re.search("[Uu]nable to contact|[Cc]onnection refused|timed out|protocol authentication", message):
        return MachineError(f"Slurm does not answer: {message}; look with `sinfo`, then type the same again")
    mend = next((mend for sign, mend in _MENDS.items() if re.search(sign, message, re.IGNORECASE)), _MEND)
    told = shlex.join(word for word in words if not word.startswith(_OWN))
    return ConfigError(f"Slurm takes no such job: {message}; it was asked for: {told}; {mend}")


def seen(ids: Collection[str]) -> dict[tuple[str, int], Seen]:
    """Return how the jobs of these arrays stand, by id and number; one that ended a while ago is missing.

    Raises MachineError where Slurm does not answer.
    """
    if not ids:
        return {}
    done = _call("squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(ids)}", "--format=%F|%K|%T|%N|%r")
    if done.returncode and "Invalid job id" not in done.stderr:
        raise MachineError(f"Slurm does not answer: {done.stderr.strip()}; look with `sinfo`, then type the same again")
    found = {}
    for line in done.stdout.splitlines():
        id, number, state, host, reason = line.split("|", 4)
        if number.isdecimal():
            told = "" if reason in ("None", "") else reason
            found[id, int(number)] = Seen(state, state not in ENDED, host, told)
    return found


def requeue() -> str | None:
    """Put the job that this process is in the queue again; return why that failed, or None."""
    array, number = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # By SLURM_JOB_ID the whole array would be meant, where that of an element is the array's.
    job = f"{array}_{number}" if array else os.environ["SLURM_JOB_ID"]
    done = _call("scontrol", "requeue", job)
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else None


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise ConfigError(
            f"launcher=slurm: there is no {words[0]} on this machine; type it where jobs are submitted, or take "
            "launcher=background, which runs the same jobs here"
        ) from None
    except subprocess.TimeoutExpired:
        raise MachineError(
            f"Slurm does not answer: {words[0]} took more than {PATIENCE_S:g} s; look with `sinfo`, then type the same "
            "again"
        ) from None


_OWN = ("--job-name=", "--array=", "--chdir=", "--output=", "--open-mode=", "--requeue", "--signal=")
_MENDS = {
    "partition name|invalid partition|default partition": "`sinfo` lists partitions: launcher.partition=NAME",
    "array": "it takes fewer jobs at a time: name fewer submissions or workloads in one command",
    "account|qos": "name yours with launcher.account=NAME or launcher.qos=NAME",
    "time limit|timelimit": "lower launcher.hours=, or take another launcher.partition=",
    "feature": "`sinfo -o %f` lists features: device.constraint=NAME",
    "gres|generic resource": "`sinfo -o %G` lists cards: device.gres=NAME, or device.gres=null",
    "memory|cpu count|node configuration": "`sinfo -o '%c %m %G'` lists what nodes have: device.cpus=, "
    "device.memory_gb=, device.gres=",
    "unrecognized option|invalid option": "mend launcher.sbatch=, whose words go to sbatch as they are",
}
_MEND = "change device.cpus=, .memory_gb=, .gres=, .constraint=, or launcher.partition=, .account=, .qos=, .hours=, .sbatch="
