#!/usr/bin/env python3
"""A Slurm of its own on this one machine, for tests: munged, slurmctld and two slurmd (`slurmd -N`), all in one folder.

    apt-get install -y --no-install-recommends slurm-wlm munge      once, as root
    eval "$(python scripts/slurm_cluster.py start /tmp/cluster)"    prints `export SLURM_CONF=...` once it takes jobs
    sinfo; harness run adamw suite=demo device=cpu launcher=slurm
    python scripts/slurm_cluster.py stop /tmp/cluster               ends its processes; its folder stays

It needs root, because slurmd starts jobs in the name of others, and touches no Slurm that the machine may have: keys,
sockets, ports, state and logs are its own. Two nodes of one core, n1 and n2, each with two GPUs that are /dev/null;
partition `low` holds both and is the default, `high` too, and takes nodes from `low`, whose jobs are requeued. What is
requeued waits for some seconds, where other clusters let it wait for two minutes. Accounting is off, as it is wherever
nobody has set up a database.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

NODES = ("n1", "n2")
INSTALL = "apt-get install -y --no-install-recommends slurm-wlm munge"
CONF = """\
ClusterName=harness
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=8
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=20
ReturnToService=2
SlurmdTimeout={slurmd_timeout_s}
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=3000 Gres=gpu:h100:2
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=3000 Gres=gpu:h100:2
PartitionName=low Nodes=n1,n2 Default=YES PriorityTier=1 MaxTime=60
PartitionName=high Nodes=n1,n2 PriorityTier=10 PreemptMode=OFF MaxTime=60
"""
GPUS = """\
NodeName=n1,n2 Name=gpu Type=h100 File={folder}/gpu0
NodeName=n1,n2 Name=gpu Type=h100 File={folder}/gpu1
"""


def lacking() -> str | None:
    """Return why there can be no cluster here, and how to mend it; None where there can."""
    if os.geteuid() != 0:
        return "a Slurm for tests needs root"
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if _found(name) is None]
    return f"{', '.join(missing)} not installed: {INSTALL}" if missing else None


def start(folder: Path, *, slurmd_timeout_s: int = 30, wait_s: float = 60.0) -> Path:
    """Start a cluster in `folder` and return its slurm.conf, for SLURM_CONF. Raises RuntimeError where it does not come
    up; what it has started ends then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    (folder / "state").mkdir(exist_ok=True)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    with ExitStack() as held:  # all at once, so that they are three
        taken = [held.enter_context(socket.socket()) for _ in range(3)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in taken]
    conf = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    conf.write_text(CONF.format(host=host, folder=folder, ports=ports, slurmd_timeout_s=slurmd_timeout_s))
    (folder / "gres.conf").write_text(GPUS.format(folder=folder))
    for number in range(2):
        link = folder / f"gpu{number}"
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")  # Slurm wants a device, and a number in its name
    munge = [f"--{name}={folder}/munge.{end}" for name, end in _MUNGE.items()]
    try:
        _run("munged", "--force", *munge)
        _run("slurmctld", "-c", "-f", str(conf))
        for node in NODES:
            start_node(folder, node)
        _await_nodes(conf, wait_s)
    except BaseException:
        stop(folder)
        raise
    return conf


def _await_nodes(conf: Path, wait_s: float) -> None:
    deadline = time.monotonic() + wait_s
    while (states := _states(conf)) != ["idle"] * len(NODES):
        if time.monotonic() > deadline:
            raise RuntimeError(f"the nodes did not come up: {states}; look at the logs in {conf.parent}")
        time.sleep(0.2)


def start_node(folder: Path, node: str) -> None:
    """Start the slurmd of a node."""
    (folder / f"spool.{node}").mkdir(exist_ok=True)
    _run("slurmd", "-N", node, "-f", str(folder.resolve() / "slurm.conf"))


def lose_node(folder: Path, node: str) -> None:
    """Kill the slurmd of a node with all that runs there, at once, as when its power fails."""
    folder = folder.resolve()
    named = {f"SLURM_CONF={folder}/slurm.conf".encode(), f"SLURMD_NODENAME={node}".encode()}
    daemon = folder / f"slurmd.{node}.pid"
    lost = {int(daemon.read_text())}
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if named <= set((entry / "environ").read_bytes().split(b"\0")):
                lost |= {parents[int(entry.name)], int(entry.name)}  # slurmstepd, by which Slurm would hear of the end
    lost -= {1, os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in lost} - lost:
        lost |= more
    for signal_ in (signal.SIGSTOP, signal.SIGKILL):
        for pid in lost:
            with suppress(ProcessLookupError):
                os.kill(pid, signal_)
    deadline = time.monotonic() + 10
    while not all(map(_gone, lost)) and time.monotonic() < deadline:
        time.sleep(0.05)
    daemon.unlink()


def stop(folder: Path) -> None:
    """End the jobs and the processes of the cluster in `folder`."""
    conf = folder.resolve() / "slurm.conf"
    environment = os.environ | {"SLURM_CONF": str(conf)}
    with suppress(subprocess.SubprocessError, OSError):
        for partition in ("low", "high"):
            for words in (["--full", "--signal=KILL"], []):
                command = ["scancel", *words, f"--partition={partition}"]
                subprocess.run(command, env=environment, timeout=20, capture_output=True, check=False)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and _output("squeue", "-h", conf=conf).strip():
            time.sleep(0.2)
    for name in (*(f"slurmd.{node}" for node in NODES), "slurmctld", "munge"):
        with suppress(OSError, ValueError):
            _end(int((folder / f"{name}.pid").read_text()))


_MUNGE = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def _found(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _run(name: str, *words: str) -> None:
    done = subprocess.run([_found(name) or name, *words], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"{shlex.join([name, *words])} ended with {done.returncode}: {done.stderr.strip()}")


def _output(*words: str, conf: Path) -> str:
    environment = os.environ | {"SLURM_CONF": str(conf)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=False).stdout


def _states(conf: Path) -> list[str]:
    return _output("sinfo", "-h", "-N", "-p", "low", "-o", "%t", conf=conf).split()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _end(pid: int, patience_s: float = 10.0) -> None:
    """End a daemon, and wait until it is gone."""
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if _gone(pid):
            return
        time.sleep(0.05)
    _kill(pid)


def _gone(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """Start or stop the cluster in the folder named; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop"])
    parser.add_argument("folder", type=Path, help="where its files go")
    args = parser.parse_args(argv)
    if args.action == "stop":
        stop(args.folder)
        return 0
    if why := lacking():
        print(f"error: {why}", file=sys.stderr)
        return 2
    print(f"export SLURM_CONF={shlex.quote(str(start(args.folder)))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
