"""What all tests share: JAX on the CPU with strict broadcasting, caches of their own, and one way to run a trial."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"

from harness.data import get, shards, store
from harness.data.specs import DataSet
from harness.errors import DataError, HarnessError
from harness.machine import load
from harness.program import discovery, processes, submission
from harness.record import run_folder, spec

ROOT = Path(__file__).resolve().parent.parent
MIRROR = ROOT.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the user's cache out of the tests, and theirs out of the user's. Data sets that are prepared may be read."""
    os.environ.setdefault("HARNESS_DATA", str(store.root()))
    os.environ["HARNESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else runs on this machine changes nothing that a command prints here."""
    monkeypatch.setattr(load, "others", lambda: 0.0)


@pytest.fixture(autouse=True, scope="session")
def no_core_files() -> None:
    """Some processes are made to crash."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@pytest.fixture(scope="session")
def draw() -> Callable[..., None]:
    """Return `draw_images`."""
    return draw_images


@pytest.fixture(scope="session")
def with_data(own_cache: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Iterable[str]], None]:
    """Return a function that sees to it that data sets can be loaded, or skips the test.

    They are taken from where this user has them prepared, else prepared once from a mirror beside the repository.
    """
    prepared, root = store.root(), tmp_path_factory.mktemp("data")

    def need(names: Iterable[str]) -> None:
        for name in names:
            if store.find(name).embedded or (root / name).exists():
                continue
            os.environ["HARNESS_DATA"] = str(root)
            if store.find(name).shards:
                make_shards(store.find(name), root / name)
                continue
            if store.find(name).images:
                draw_images(root / name)
                get.get(name, None, lambda *_: None, lambda _: None)
                continue
            if (prepared / name / "meta.json").exists():
                (root / name).symlink_to(prepared / name)
            elif MIRROR.is_dir():
                try:
                    get.get(name, str(MIRROR), lambda *_: None, lambda _: None)
                except DataError as error:
                    pytest.fail(f"{name} cannot be prepared from {MIRROR}: {error}")
            else:
                pytest.skip(f"needs the data set {name}: neither prepared in {prepared} nor in {MIRROR}")

    return need


def make_shards(dataset: DataSet, folder: Path) -> None:
    """Make shards as large as those published, which hold random tokens at their beginning and nothing behind it, so
    that they take little of the disk.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    for file in dataset.files[: dataset.shards + 1]:
        header = np.zeros(256, "<i4")
        header[:3] = shards.MAGIC, shards.VERSION, 100_000_000
        tokens = rng.integers(0, dataset.vocabulary, 200_000)
        with (folder / file.name).open("wb") as out:
            out.write(header.tobytes() + tokens.astype("<u2").tobytes())
            out.truncate(file.bytes)
    (folder / "meta.json").write_text(json.dumps({"schema": 1, "shards": {}}))


def draw_images(folder: Path, classes: int = 4, train: int = 10, val: int = 8) -> None:
    """Draw a folder of classes of JPEG files, of several shapes, a colour for each class."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            place = folder / split / f"n{label:08d}"
            place.mkdir(parents=True)
            for n in range(count):
                coarse = rng.uniform(0, 120, (5, 6, 3)) + 130 * np.eye(4, 3)[label % 4]
                image = Image.fromarray(coarse.clip(0, 255).astype(np.uint8))
                image.resize((70 + 9 * (n % 4), 64)).save(place / f"{split}_{label}_{n:02d}.JPEG", quality=90)


AMPLE = 100_000
"""Baseline steps of a toy's budget: what a loaded machine does between two of its microsecond steps takes dozens."""


@pytest.fixture(scope="session")
def trial_below(own_cache: None) -> Callable[..., Path]:
    """Return a function that prepares a run folder, its programs in the store: (output folder, workload, submission,
    **fields of TrialSpec) -> path. It raises what is wrong with the submission.
    """

    def make(root: Path, workload: str, name: str | Path, *, hp: dict[str, Any] | None = None, **fields: Any) -> Path:
        w, s = discovery.find("workloads", workload), discovery.find("submissions", str(name))
        info, target, about = discovery.workload_info(w), discovery.workload_info(w).target, submission.read_info(s)
        checkpoint_s = fields.pop("checkpoint_s", 1000.0)
        base: dict[str, Any] = {
            "schema": spec.SCHEMA, "workload": w.name, "workload_version": target.version,
            "workload_hash": w.source_hash, "metric": info.metric, "mode": info.mode, "target": target.value,
            "step_hint": info.step_hint, "batch_size": info.batch_size,
            "budget_steps": (target.budget_steps or 2 * info.step_hint) if info.scored else AMPLE,
            "reference_step_s": target.reference_step_s, "submission": s.name, "submission_hash": s.source_hash,
            "hyperparameters": submission.choose_point(s, about, hp or {}),
            "rules": "quick", "stop": "target", "clock": "calibrated", "score_compile": False, "compile_cap_s": 60.0,
            "free_batch_size": True, "study": 0, "trial": 0, "seed": 0, "tuning": False, "device": "cpu",
            "deterministic": True,
        }  # fmt: skip
        planned = spec.TrialSpec(**(base | fields))
        wanted = processes.Wanted(
            w, s, (planned.hyperparameters,), planned.budget_steps, planned.steps, planned.variant, planned.device,
            processes.ends_of(about),
        )  # fmt: skip
        (found,) = processes.program_ids([wanted])
        if isinstance(found, HarnessError):
            raise found
        planned = replace(planned, workload_program=found.workload, program=found.programs[0])
        return run_folder.prepare(root, planned, spec.Options(str(w.path), str(s.path), checkpoint_s=checkpoint_s))

    return make


@pytest.fixture
def make_trial(trial_below: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a function that does the same below a folder of the test's own, or below `out`."""

    def make(workload: str, name: str | Path, *, out: Path | None = None, **fields: Any) -> Path:
        return trial_below(out or tmp_path / "runs", workload, name, **fields)

    return make


class Worker(subprocess.Popen[bytes]):
    """A worker in a real subprocess, on prepared folders; what it prints is in the first one's `worker.log`."""

    def __init__(self, *paths: Path):
        self._log = paths[0] / "worker.log"
        with self._log.open("ab") as log:
            super().__init__([sys.executable, "-m", "harness.trial.worker", *map(str, paths)], stdout=log, stderr=log)

    def wait_for(self, condition: Callable[[], Any], timeout: float = 300) -> Any:
        """Wait until a condition holds while the process runs; return what it gave."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            assert self.poll() is None, self._log.read_text()[-3000:]
            assert time.monotonic() < deadline, self._log.read_text()[-3000:]
            time.sleep(0.005)
        return found


@pytest.fixture
def start_worker() -> Iterator[Callable[..., Worker]]:
    """Return a function that starts a worker on prepared folders: (*paths) -> Worker. None outlives the test."""
    started: list[Worker] = []

    def start(*paths: Path) -> Worker:
        started.append(Worker(*paths))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


@pytest.fixture(scope="session")
def run_worker() -> Callable[..., Any]:
    """Return a function that runs a worker on prepared folders to its end; it returns the trial, or those of several
    folders.
    """

    def run(*paths: Path, timeout: float = 300) -> Any:
        command = [sys.executable, "-m", "harness.trial.worker", *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        trials = [run_folder.read_trial(path) for path in paths]
        return trials[0] if len(trials) == 1 else trials

    return run
