"""The campaigns that are disturbed: short ones, whose programs are compiled before the first fault."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
ALGORITHMS = ROOT / "tests" / "algorithms"
DATA_FILE = "toy_file.npz"

ON_FILE = f'''

def data():
    """Return the data, which lie in a file of the data folder."""
    import os
    from dataclasses import replace
    from pathlib import Path

    import numpy as np

    from harness.errors import DataError
    from harness.program.workload import Splits

    def load():
        place = Path(os.environ["HARNESS_DATA"]) / "{DATA_FILE}"
        try:
            with np.load(place) as held:
                arrays = {{name: held[name] for name in held.files}}
        except OSError as error:
            raise DataError(f"{{place}} cannot be read ({{error.strerror}}); put it back") from None
        splits = {{}}
        for name, array in arrays.items():
            split, _, key = name.partition("-")
            splits.setdefault(split, {{}})[key] = array
        return Splits(**splits)

    return replace(_drawn(), splits=load)
'''
"""Appended to the toy workload, whose own `data` is `_drawn` then."""


@dataclass(frozen=True)
class Form:
    """A campaign.

    Attributes:
      words: after `harness run`.
      toy: whether it trains a toy, else a workload of the suite `demo`.
      control: whether a submission of it has a `control`, and so a controller.
      data: whether its data lie in the data folder.
      search: whether a search chooses the point.
    """

    name: str
    words: tuple[str, ...]
    toy: bool = True
    control: bool = False
    data: bool = False
    search: bool = False


_ALWAYS = ("stop=horizon", "rules.budget_factor=1000", "device=cpu")
"""So that neither a target nor a budget in seconds ends a trial: a fault would move it."""

FORMS = (
    Form("control", (str(ALGORITHMS / "batch_ramp"), "workload=quadratic", "max_steps=400", *_ALWAYS), control=True),
    Form("two", ("adamw", str(ALGORITHMS / "ema"), "workload=quadratic", "max_steps=120", *_ALWAYS)),
    Form("file", ("adamw", "workload=toy_file", "max_steps=120", *_ALWAYS), data=True),
    Form(
        "tuned", ("searched", "workload=quadratic", "rules=tuned", "trials=3", "studies=1", *_ALWAYS[1:]), search=True
    ),
    Form("grammar", ("adamw", "workload=lm_grammar", "max_steps=48", *_ALWAYS), toy=False),
    Form("digits", ("nadamw", "workload=resnet_digits", "max_steps=64", *_ALWAYS), toy=False),
    Form("masked", ("adamw", "workload=mae_digits", "max_steps=64", *_ALWAYS), toy=False),
    Form("seeds", ("adamw", "workload=lm_grammar", "max_steps=24", "studies=2", *_ALWAYS), toy=False),
)


def write_toys(home: Path) -> None:
    """Write the workload `toy_file` below `home`, with the file that it reads, and the submission `searched`, which has
    a space and reaches the target at any point of it.
    """
    folder = home / "submissions" / "searched"
    shutil.copytree(ALGORITHMS / "polyak", folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "submission.yaml").read_text().replace("name: polyak", "name: searched")
    space = "space: {max_learning_rate: {values: [0.2, 0.3, 0.4]}}\n"
    (folder / "submission.yaml").write_text(text.replace("tuning: self", "tuning: external") + space)
    folder = home / "workloads" / "toy_file"
    shutil.copytree(ROOT / "workloads" / "quadratic", folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = (folder / "workload.py").read_text()
    text = text.replace('name="quadratic"', 'name="toy_file"').replace("def data()", "def _drawn()")
    (folder / "workload.py").write_text(text + ON_FILE)
    from harness.program import discovery

    splits = discovery.load_data(discovery.find("workloads", "quadratic"), None).load()
    arrays = {
        f"{split}-{name}": np.asarray(array)
        for split in ("train", "validation_slice", "validation", "test")
        for name, array in getattr(splits, split).items()
    }
    (home / "data").mkdir()
    np.savez(home / "data" / DATA_FILE, **arrays)
