"""What end-to-end tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

BARE = """if True:
    import sys
    from importlib.abc import MetaPathFinder

    class Missing(MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("hydra", "omegaconf", "antlr4", "rich", "tensorboard", "sklearn", "pynvml"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Missing())
"""


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Return a folder which, on PYTHONPATH, leaves every Python that is started with little beside jax."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(BARE)
    return folder
