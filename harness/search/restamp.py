"""Proof that a change of code left a workload as it was, so that its recorded runs stay those of its sources. No jax.

Sources before and after train the same trial to its horizon, and the first losses are those recorded when the workload
was made. Where the final state is the same, bit for bit, and so are every loss, every measurement of a step that both
measured and the metrics of the full splits, the records take the new hash of the sources, and say by which proof.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.errors import WorkloadError
from harness.machine.hardware import packages
from harness.program.discovery import Folder
from harness.record.files import write_text_atomic

RTOL = 1e-4  # of the first losses, which may have been recorded on another processor
_SUBMISSION = {
    "submission.py": """import optax


def build(task, hp):
    schedule = optax.cosine_decay_schedule(hp["learning_rate"], task.step_hint)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.98, weight_decay=0.02))
""",
    "submission.yaml": """name: restamp
description: AdamW in optax alone, the same whatever the harness
authors: [the harness]
licence: Apache-2.0
tuning: self
defaults: {learning_rate: 0.01}
""",
}


@dataclass(frozen=True)
class Restamp:
    """A line of a record: its runs are older than the sources that they are stamped with, and why that is right.

    Attributes:
      workload: its name.
      old_hash, new_hash: of its sources.
      commit: the commit of the old sources.
      steps, final_hash: of the trial that both trained.
      jax: version that both used.
    """

    workload: str
    old_hash: str
    new_hash: str
    commit: str
    steps: int
    final_hash: str
    jax: str


@dataclass(frozen=True)
class _Trained:
    """What a trial came to: hash of its final state, losses of all steps, and what was evaluated, by event and step."""

    final_hash: str
    losses: tuple[float, ...]
    evaluated: dict[tuple[str, int], str]


def prove(workload: Folder, root: Path, revision: str, golden: list[float]) -> Restamp:
    """Train before and after, and return the proof; `golden` are the first losses recorded for this workload.

    Takes twice the time of a trial. Raises WorkloadError naming what differs: the change was no refactor then.
    """
    now = _first_losses(workload)
    for step, (came, recorded) in enumerate(zip(now, golden, strict=True), 1):
        if abs(came - recorded) > RTOL * abs(recorded):
            raise WorkloadError(
                f"{workload.name}: the loss at step {step} is {came}, recorded was {recorded}; not stamped"
            )
    with checkout(root, revision) as (old, commit):
        before = Folder("workloads", workload.name, old / "workloads" / workload.name)
        if not before.path.is_dir():
            raise WorkloadError(f"{workload.name} is not in revision {revision}; name another with --against")
        was, old_hash = _train(workload.name, old), before.source_hash
    is_now = _train(workload.name, root)
    if was.losses != is_now.losses:
        pairs = enumerate(zip(was.losses, is_now.losses, strict=False), 1)
        where = next((f"step {n} from {a} to {b}" for n, (a, b) in pairs if a != b), "their number")
        raise WorkloadError(f"{workload.name}: against {revision} the training losses changed: {where}; not stamped")
    shared = was.evaluated.keys() & is_now.evaluated.keys()
    changed = [key for key in sorted(shared) if was.evaluated[key] != is_now.evaluated[key]]
    if changed or not {kind for kind, _ in shared} >= {"measurement", "final"}:
        what = "none is of a step that both measured"
        if changed:
            kind, step = changed[0]
            what = f"{kind} at step {step} from {was.evaluated[changed[0]]} to {is_now.evaluated[changed[0]]}"
        raise WorkloadError(f"{workload.name}: against {revision} the measurements changed: {what}; not stamped")
    if was.final_hash != is_now.final_hash:
        raise WorkloadError(
            f"{workload.name}: against {revision} the final state changed, from {was.final_hash} to "
            f"{is_now.final_hash}; not stamped"
        )
    return Restamp(
        workload.name, old_hash, workload.source_hash, commit, len(was.losses), was.final_hash, str(packages()["jax"])
    )


def stamp(records: list[Path], proof: Restamp) -> list[Path]:
    """Give the lines of these records that are of the old sources the new hash; return the records changed."""
    changed = []
    for record in records:
        lines = [json.loads(line) for line in record.read_text().splitlines()]
        if all(line.get("workload_hash") != proof.old_hash for line in lines):
            continue
        for line in lines:
            if line.get("workload_hash") == proof.old_hash:
                line["workload_hash"] = proof.new_hash
        lines.append({"restamp": vars(proof)})
        write_text_atomic(record, "".join(json.dumps(line) + "\n" for line in lines))
        changed.append(record)
    return changed


def _first_losses(workload: Folder) -> list[float]:
    command = [sys.executable, "-m", "harness.trial.golden", str(workload.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkloadError(f"{workload.name}: its first losses cannot be computed: {done.stderr.strip()[-2000:]}")
    losses: list[float] = json.loads(done.stdout.splitlines()[-1])
    return losses


def _train(workload: str, root: Path) -> _Trained:
    """Run a trial to the horizon by the harness of the sources at `root`."""
    with tempfile.TemporaryDirectory() as scratch:
        submission = Path(scratch) / "restamp"
        submission.mkdir()
        for name, text in _SUBMISSION.items():
            (submission / name).write_text(text)
        out = Path(scratch) / "runs"
        words = [f"workload={workload}", "device=cpu", "stop=horizon", "tensorboard=false", f"out={out}"]
        environment = os.environ | {"PYTHONPATH": str(root), "HARNESS_CACHE": f"{scratch}/cache"}
        environment.setdefault("HARNESS_DATA", str(_data()))
        command = [sys.executable, "-m", "harness.cli", "run", str(submission), *words]
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        results = list(out.rglob("result.json"))
        if done.returncode or not results:
            raise WorkloadError(
                f"{workload}: the trial of {root} failed: {(done.stderr or done.stdout).strip()[-2000:]}"
            )
        events = [json.loads(line) for line in (results[0].parent / "log.jsonl").read_text().splitlines()]
        losses = [loss for event in events if event["event"] == "chunk" for loss in event["metrics"]["loss"]]
        evaluated = {
            (event["event"], event["step"]): json.dumps(event["metrics"], sort_keys=True)
            for event in events
            if event["event"] in ("measurement", "final")
        }
        return _Trained(json.loads(results[0].read_text())["final_hash"], tuple(losses), evaluated)


def _data() -> Path:
    from harness.data import store

    return store.root()


@contextmanager
def checkout(root: Path, revision: str) -> Iterator[tuple[Path, str]]:
    """Check a revision out into a folder of its own; yield the folder and the commit.

    Raises WorkloadError for a revision that git does not know.
    """

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip().splitlines()[0]
            raise WorkloadError(f"git {' '.join(words)}: {why}; name a commit with --against")
        return done.stdout.strip()

    commit = git("rev-parse", f"{revision}^{{commit}}")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "before"
        git("worktree", "add", "--detach", str(place), commit)
        try:
            yield place, commit
        finally:
            git("worktree", "remove", "--force", str(place))
