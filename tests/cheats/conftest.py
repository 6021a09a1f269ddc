"""All cheats in one submission's folder, so that one process exports them."""

from __future__ import annotations

import os
import py_compile
import shutil
import sys
import sysconfig
from importlib.util import cache_from_source
from pathlib import Path

import numpy as np
import pytest

from harness.program.discovery import Folder

sys.path.insert(0, str(Path(__file__).parent))

import plants


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of what no submission may read."""
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "data").mkdir()
    np.save(secrets / "data/images.npy", np.ones(8, "float32"))
    saved = secrets / "runs/one/checkpoints/100/state"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"trained")
    return secrets


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory, place: Path) -> Folder:
    """Return the folder of them all, with the files that some come with."""
    folder = tmp_path_factory.mktemp("cheats") / "together"
    folder.mkdir()
    (folder / "submission.yaml").write_text(plants.META)
    (folder / "submission.py").write_text(plants.DRIVER)
    (folder / "honest.py").write_text(plants.HONEST)
    for name, path in plants.CHEATS.items():
        shutil.copy(path, folder / f"{name.replace('/', '_')}.py")
    shutil.copy(plants.HERE / "patch/_rewriting.py", folder)
    (folder / "table.npy").symlink_to(place / "data/images.npy")
    (folder.parent / "loot.py").symlink_to(place / "data/images.npy")
    (folder / "weights.bin").write_bytes(np.random.default_rng(0).normal(size=10_000).astype("float32").tobytes())
    says, does = folder / "patch_compiled_beside.py", folder / "otherwise.py"
    does.write_text(plants.HONEST.replace("0.1", "0.3"))
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(does), cache_from_source(str(says)), invalidation_mode=unchecked)
    does.unlink()
    says.with_suffix(str(sysconfig.get_config_var("EXT_SUFFIX"))).write_bytes(b"no library")
    os.utime(says)
    return Folder("submissions", "together", folder)
