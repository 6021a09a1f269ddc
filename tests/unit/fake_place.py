"""A working folder for tests of the command line: a workload, submissions, and a script in the worker's place."""

from __future__ import annotations

from pathlib import Path

WORKLOAD = """
from harness.api import LossKind
from harness.program.workload import Target, WorkloadInfo
INFO = WorkloadInfo(
    name="task", description="fake", metric="loss", mode="min", target=Target(0.5, 1, 300, 0.1), batch_size=8,
    step_hint=400, num_train_examples=64, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY,
)
"""
SUBMISSION = "name: {}\ndescription: fake\nauthors: [a]\nlicence: MIT\ntuning: self\ndefaults: {{}}\n"
WORKER = """
import os, sys
from pathlib import Path
from harness.record import run_folder
from harness.record.result import Result, Status
path = Path(sys.argv[1])
spec, _ = run_folder.read_spec(path)
if spec.submission == "crash":
    sys.exit("it broke")
if spec.submission == "killed":
    os.kill(os.getpid(), 9)
with run_folder.hold(path) as folder:
    folder.append("phase", phase="train")
    status = Status.DIVERGED if spec.submission == "diverge" else Status.TARGET_REACHED
    folder.write_result(Result(status, "as told", spec.id))
"""


def add(root: Path, name: str, text: str = SUBMISSION) -> None:
    (root / "submissions" / name).mkdir(parents=True)
    (root / "submissions" / name / "submission.py").write_text("")
    (root / "submissions" / name / "submission.yaml").write_text(text.format(name))


def fill(root: Path) -> None:
    """Write the workload `task`, a suite of it, the submissions `good` and `diverge`, and `worker.py`."""
    (root / "workloads" / "task").mkdir(parents=True)
    (root / "workloads" / "task" / "workload.py").write_text(WORKLOAD)
    for name in ("good", "diverge"):
        add(root, name)
    (root / "configs" / "suite").mkdir(parents=True)
    (root / "configs" / "suite" / "mine.yaml").write_text("name: mine\nworkloads: [task]\n")
    (root / "worker.py").write_text(WORKER)
