"""A round: a campaign that is disturbed, put right by typing the same again, and judged."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faults import judges
from faults.desk import Desk, Home, told_to_remove
from faults.forms import Form, write_toys
from faults.kinds import KINDS, Kind
from faults.strikes import last

from harness.errors import HarnessError
from harness.program import discovery
from harness.record import run_folder

TRIES = 3
"""So often the same is typed again until the campaign is finished."""


@dataclass
class Outcome:
    """What came of a round.

    Attributes:
      faults: that struck: their kind, what they were, and what was wrong right after each.
      skipped: why the kind cannot be injected here.
      lost, differing, unbalanced, left: what the judges found of the finished campaign.
    """

    number: int
    kind: str
    form: str
    toy: bool
    faults: list[tuple[str, str, list[str]]] = field(default_factory=list)
    skipped: str = ""
    lost: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    unbalanced: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def odd(self) -> list[str]:
        """All that should not be."""
        wrong = [f"after {what}: {one}" for _, what, problems in self.faults for one in problems]
        return [*wrong, *self.lost, *self.differing, *self.unbalanced, *self.left]

    def plain(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)


def prepare(home: Home, forms: Sequence[Form], jobs: int) -> None:
    """Fill the store and the compile cache, and run every campaign undisturbed, so many at a time. Raises RuntimeError
    where one fails.
    """
    home.cache.mkdir(parents=True, exist_ok=True)
    if not (home.folder / "data").exists():
        write_toys(home.folder)

    def run(form: Form) -> None:
        shutil.rmtree(home.folder / f"undisturbed-{form.name}", ignore_errors=True)
        desk = Desk(home, form, home.folder / f"undisturbed-{form.name}")
        typed = desk.type(out=home.reference(form))
        if typed.end() != 0:
            raise RuntimeError(f"the undisturbed campaign '{form.name}' fails:\n{typed.said}")
        desk.close(keep=False)

    with ThreadPoolExecutor(jobs) as pool:
        for _ in pool.map(run, forms):
            pass


def drawn(number: int, seed: int, kinds: Sequence[Kind], forms: Sequence[Form]) -> tuple[Kind, Form, random.Random]:
    """Return the kind of fault of a round, its campaign, and what draws the rest. Every kind comes once in as many
    rounds as there are kinds, and toys in a third of those that can do with either.
    """
    deck = random.Random(f"{seed}/deck {number // len(kinds)}").sample(list(kinds), len(kinds))
    kind, draw = deck[number % len(kinds)], random.Random(f"{seed}/{number}")
    fitting = [form for form in forms if kind.fits(form)]
    toy = draw.random() < 0.3  # their rounds are shorter, and some kinds fit them alone
    return kind, draw.choice([form for form in fitting if form.toy == toy] or fitting), draw


def play(home: Home, number: int, seed: int, kinds: Sequence[Kind], forms: Sequence[Form]) -> Outcome:
    """Play a round; its folder stays where something is odd."""
    began = time.monotonic()
    kind, form, draw = drawn(number, seed, kinds, forms)
    outcome = Outcome(number, kind.name, form.name, form.toy, skipped=kind.lacks(home))
    if outcome.skipped:
        return outcome
    shutil.rmtree(home.folder / f"round-{number}", ignore_errors=True)
    desk = Desk(home, form, home.folder / f"round-{number}")
    light = [one for one in KINDS if one.light and one.fits(form)]
    try:
        strike(desk, [*draw.sample(light, draw.choice((0, 1, 1, 2, 3))), kind], draw, outcome)
        judge(desk, outcome)
    except (OSError, HarnessError, subprocess.SubprocessError) as error:
        outcome.lost.append(f"the soak itself met {type(error).__name__}: {error}")
    finally:
        desk.close(keep=bool(outcome.odd))
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def strike(desk: Desk, kinds: Sequence[Kind], draw: random.Random, outcome: Outcome) -> None:
    """Let faults strike one after another, then type the same until the campaign is finished."""
    then: tuple[str, ...] = ()
    for kind in kinds:
        struck = kind.strike(desk, draw)
        for _ in range(TRIES - 1):
            if struck is None and not outcome.faults:  # the campaign has ended before
                desk.clear()
                struck = kind.strike(desk, draw)
        if struck is not None:
            outcome.faults.append((kind.name, struck.what, list(struck.problems)))
            then = struck.then
    for _ in range(TRIES):
        typed = desk.type(*then)
        if typed.end() == 0:
            break
        for folder in told_to_remove(typed.said):
            if folder.is_relative_to(desk.folder):
                shutil.rmtree(folder, ignore_errors=True)
    else:
        outcome.lost.append(f"typed {TRIES} times more, it does not finish: {last(typed)}")
    for out in desk.outs[1:]:
        desk.type(out=out).end()


def judge(desk: Desk, outcome: Outcome) -> None:
    """Judge the finished campaign."""
    outcome.left += judges.strays() + judges.left_over(desk)
    outcome.lost += judges.lost(desk)
    if outcome.lost:
        return
    for out in desk.outs:
        outcome.differing += judges.other_searches(desk.home.reference(desk.form), out)
        for name, reference in desk.references().items():
            trial, options = run_folder.read_trial(out / name), run_folder.read_spec(out / name)[1]
            home = discovery.Folder("workloads", trial.spec.workload, Path(options.workload_path))
            outcome.differing += [f"{name}: {one}" for one in judges.differing(reference, trial)]
            info = discovery.workload_info(home, trial.spec.variant)
            outcome.unbalanced += [f"{name}: {one}" for one in judges.unbalanced(trial, info)]
