"""Jobs of a Slurm cluster: submitted as an array by submitit, an element for each job, and what squeue says of them.

submitit writes the script for sbatch and sees to it that a job finds what it is to call. The rest is not its own:

- Signals. submitit lets SIGTERM pass, by which Slurm ends jobs (preemption, `scancel`); here a trial saves then. So the
  script becomes the job's Python (`exec`, no srun), which sets handlers of its own (`harness.campaign.launch.job`).
- How jobs stand. submitit asks sacct alone, which needs an accounting database that many clusters lack.
- Time limits. submitit gives a job up after so many, whatever was done in them.

What it pickles is the name of a function, a path and a number; locks, exact resume and records are those of one
machine. A job that is preempted, or whose node fails, is put in the queue again by Slurm (`--requeue`). Before its time
is over Slurm sends `LATE`: the trial saves, and the job puts itself in the queue.
"""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.campaign.launch import job
from harness.campaign.launch.jobs import Batch, Seen
from harness.campaign.launch.requeue import LATE
from harness.errors import ConfigError, HarnessError, MachineError
from harness.machine import children
from harness.record.spec import RunSpec

PATIENCE_S = 60.0
ENDED = frozenset(
    "BOOT_FAIL CANCELLED COMPLETED DEADLINE FAILED NODE_FAIL OUT_OF_MEMORY PREEMPTED REVOKED TIMEOUT".split()
)


def check(run: RunSpec) -> None:
    """Raise ConfigError where jobs cannot be submitted from here, or their time limit leaves no time to work."""
    if shutil.which("sbatch") is None:
        raise ConfigError(_ABSENT.format("sbatch"))
    try:
        import submitit  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("launcher=slurm needs the package submitit: pip install 'training-harness[slurm]'") from None
    hours, save_s = run.launcher.hours, run.launcher.save_s
    if hours * 3600.0 < 2 * save_s + 60:
        raise ConfigError(
            f"launcher.hours={hours:g}: trials save {save_s} s before that, and Slurm may say so a minute early; give "
            f"at least {math.ceil((2 * save_s + 60) / 36) / 100:g} hours, or a lower launcher.save_s"
        )
    _further(run.launcher.sbatch)


def submit(folder: Path, batch: Batch, run: RunSpec) -> str:
    """Submit the jobs of a batch and return their id.

    Raises ConfigError with Slurm's message where it takes no such job, MachineError where it does not answer.
    """
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    asked = resources(run)
    count = len(batch.jobs)
    python = shlex.join(["exec", sys.executable, "-P"])
    executor = submitit.SlurmExecutor(folder / "submitit", python=python)
    executor.update_parameters(
        job_name=f"harness-{folder.name}",
        array_parallelism=run.launcher.max_jobs or count,
        setup=[f"export PYTHONPATH={shlex.quote(children.python_path())}"],
        stderr_to_stdout=True,
        use_srun=False,
        time=asked.pop("time"),
        additional_parameters={
            "signal": f"B:{LATE}@{run.launcher.save_s}",
            "requeue": True,
            "output": f"{str(folder).replace('%', '%%')}/{'%a' if count > 1 else '0'}.log",
            **asked,
        },
    )
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # what sbatch says is in the error as well
            made = executor.map_array(job.call, [str(folder / "jobs.json")] * count, range(count))
    except (FailedJobError, FailedSubmissionError) as error:
        raise refusal(str(error), asked) from None
    return str(made[0].job_id).partition("_")[0]


def resources(run: RunSpec) -> dict[str, Any]:
    """Return what a job asks for, by the names of sbatch's options: of the device, of the launcher, further words."""
    device, launcher = run.device, run.launcher
    asked = {
        "cpus-per-task": device.cpus,
        "mem": None if device.memory_gb is None else f"{math.ceil(device.memory_gb * 1024)}M",
        "gres": cards(device.gres, device.devices),
        "constraint": device.constraint,
        "partition": launcher.partition,
        "account": launcher.account,
        "qos": launcher.qos,
        "time": math.ceil(launcher.hours * 60),
    }
    return {name: value for name, value in asked.items() if value is not None} | _further(launcher.sbatch)


def cards(gres: str | None, devices: int) -> str | None:
    """Return a request for generic resources with at least as many GPUs as a trial is spread over."""
    if gres is None or devices == 1:
        return gres
    found = []
    for one in gres.split(","):
        name, *kind = one.split(":")
        if name == "gpu":
            count = int(kind.pop()) if kind and kind[-1].isdecimal() else 1
            one = ":".join([name, *kind, str(max(count, devices))])
        found.append(one)
    return ",".join(found)


def _further(text: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        words = shlex.split(text or "")
    except ValueError as error:
        raise ConfigError(f"launcher.sbatch: {error} in {text}") from None
    for word in words:
        match = re.fullmatch(r"--([a-z][a-z-]*)(?:=(.+))?", word)
        if match is None:
            raise ConfigError(f"launcher.sbatch: expected words as --exclude=n7 or --exclusive, got '{word}'")
        found[match[1]] = True if match[2] is None else match[2]
    return found


def refusal(said: str, asked: dict[str, Any]) -> HarnessError:
    """Return the error of an sbatch that took no job: Slurm's message, what was asked for, how to mend it."""
    message = _in_a_line(said) or "no reason given"
    if re.search(
        f"{_UNCONFIGURED}|unable to contact|connection refused|timed out|protocol authentication",
        message,
        re.IGNORECASE,
    ):
        return _silent(message)
    mend = next((mend for sign, mend in _MENDS.items() if re.search(sign, message, re.IGNORECASE)), _MEND)
    told = " ".join(f"--{name}" if value is True else f"--{name}={value}" for name, value in asked.items())
    return ConfigError(f"Slurm takes no such job: {message}; it was asked for: {told or 'nothing special'}; {mend}")


def seen(batches: Sequence[tuple[Path, Batch]]) -> dict[tuple[Path, int], Seen]:
    """Return how the jobs of batches stand, by folder and number; one that ended a while ago is missing.

    Raises MachineError where Slurm does not answer, ConfigError where its commands are not here.
    """
    folders = {batch.id: folder for folder, batch in batches if batch.id is not None}
    if not folders:
        return {}
    done = _call(
        "squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(folders)}", "--format=%F|%K|%T|%N|%r"
    )
    if done.returncode and "Invalid job id" not in done.stderr:
        raise _silent(_in_a_line(done.stderr))
    found = {}
    for line in done.stdout.splitlines():
        id, number, state, host, reason = line.split("|", 4)
        told = "" if reason in ("None", "") else reason
        if mend := next((mend for sign, mend in _NEVER.items() if re.search(sign, told)), None):
            told += f", with which it never starts: {mend}"
        key = folders[id], int(number) if number.isdecimal() else 0  # a single job is no array
        found[key] = Seen(state, state not in ENDED, host, told)
    return found


def _call(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except FileNotFoundError:
        raise ConfigError(_ABSENT.format(words[0])) from None
    except subprocess.TimeoutExpired:
        raise _silent(f"{words[0]} took more than {PATIENCE_S:g} s") from None


def _in_a_line(said: str) -> str:
    """Return what a command of Slurm says without its name, each line once."""
    lines = [re.sub(r"^\w+: (error: )?", "", line).strip() for line in said.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(lines))


def _silent(message: str) -> MachineError:
    if re.search(_UNCONFIGURED, message):
        return MachineError(f"no configuration of Slurm was found here: {_CONFIGURE} ({message})")
    return MachineError(f"Slurm does not answer: {message}; look with `sinfo`, then type the same again")


_UNCONFIGURED = "resolve_ctls_from_dns_srv|[Cc]ould not establish a configuration source"
_CONFIGURE = "set SLURM_CONF to the path of its slurm.conf, or type this where the cluster's jobs are submitted"
_ABSENT = (
    "launcher=slurm: there is no {} on this machine; type it where jobs are submitted, or take launcher=background, "
    "which runs the same jobs here"
)
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
_NEVER = {
    "PartitionTimeLimit|MaxWallDuration": "`scancel` it, then lower launcher.hours=, or take another "
    "launcher.partition=",
    "InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed": "`scancel` it, then name yours with "
    "launcher.account= or launcher.qos=",
    "BadConstraints|PartitionConfig|PartitionNodeLimit|PerJob|MaxMemPerLimit": "`scancel` it, then ask for less "
    "with device.cpus=, device.memory_gb=, device.gres=, device.constraint= or launcher.hours=",
    "Held|held": "`scontrol release` lets it go",
}
_MEND = "change device.cpus=, .memory_gb=, .gres=, .constraint=, or launcher.partition=, .account=, .qos=, .hours="
