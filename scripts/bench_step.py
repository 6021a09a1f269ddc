"""How much faster a change made AdamW's training step: the working tree's against another commit's, in turn.

    python scripts/bench_step.py --against REV                        the six workloads for a CPU
    python scripts/bench_step.py lm_grammar --against 7eb72f0 --turns 21
    python scripts/bench_step.py resnet_digits --against HEAD --null  and what two equal programs measure

REV is checked out into a temporary folder. A process of each tree compiles its step as a trial of that tree does: its
own workload, submission, harness and flags of XLA, so a flag that a commit sets for a CPU counts as part of it. One
process then loads both and runs them in turn, about 0.4 s each, the other first in every second turn. A step takes
and augments its batch; the order of the examples is drawn off the clock, as in a trial. Each side has the data of its
own tree.

`ratio` is old over new, above 1 where the working tree is faster: the median of the turns (lowest to highest).
`fastest` is the ratio of the fastest turns. `losses` is the largest relative difference of the losses of the first 5
steps. With `--null` the working tree's program is loaded a second time and runs in the same turns: its ratio is the
noise.
"""

from __future__ import annotations

import argparse
import math
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.data import store
from harness.errors import ConfigError, HarnessError
from harness.machine import flags, hardware
from harness.machine.allocator import keep_memory
from harness.program import discovery
from harness.search.restamp import checkout

ROOT = Path(__file__).resolve().parent.parent
WORKLOADS = ("lm_grammar", "resnet_digits", "mae_digits", "lm_shakespeare", "resnet8_cifar10", "mae_tiny_cifar10")
TURN_S = 0.4  # seconds of steps in a turn
CHECKED = 5  # first steps whose losses are compared
HEAD = ("workload", "against", "old ms", "new ms", "ratio", "fastest", "losses")


def main() -> int:
    """Compile, time and show a row for each workload."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", default=WORKLOADS, help="names (default: the six for a CPU)")
    parser.add_argument("--against", required=True, metavar="REV", help="commit, tag or branch of the old step")
    parser.add_argument("--turns", type=int, default=7, help="of each side (default: %(default)s)")
    parser.add_argument("--submission", default="adamw", help="whose step (default: %(default)s)")
    parser.add_argument("--null", action="store_true", help="also time the new step against itself")
    args = parser.parse_args()
    if args.turns < 1:
        raise ConfigError(f"--turns {args.turns}: a ratio takes 1 at least")
    source = within(discovery.find("submissions", args.submission))
    places = [within(discovery.find("workloads", name)) for name in args.workloads]
    given = {"HARNESS_DATA": str(store.root())} | dict(os.environ)
    with checkout(ROOT, args.against) as (before, commit), tempfile.TemporaryDirectory() as scratch:
        given["HARNESS_CACHE"] = scratch  # an older harness may read programs of this one as damaged
        for part in (source, *places):
            if not (before / part).is_dir():
                raise ConfigError(f"{part} is not in {args.against}; name another commit with --against")
        flags.apply("cpu", deterministic=False)
        print(title(hardware.machine(), hardware.packages()["jax"], args.turns), end="\n\n")
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
        for place in places:
            sides = {name: compiled(tree, place, source, given) for name, tree in (("new", ROOT), ("old", before))}
            times, losses = measure(sides | ({"again": sides["new"]} if args.null else {}), args.turns)
            print(row(place.name, commit[:7], times["old"], times["new"], losses["old"], losses["new"]), flush=True)
            if args.null:
                null = times["again"], times["new"], losses["again"], losses["new"]
                print(row(place.name, "itself", *null), flush=True)
    return 0


def within(folder: discovery.Folder) -> Path:
    """Return the path of a folder below the working tree. Raises ConfigError for one that lies elsewhere."""
    if not folder.path.is_relative_to(ROOT):
        raise ConfigError(f"{folder.path} is not in {ROOT}; only what git knows has an older commit")
    return folder.path.relative_to(ROOT)


def compiled(tree: Path, place: Path, source: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the step of a tree, by a process of it (scripts/bench/compiled_step.py)."""
    with tempfile.NamedTemporaryFile() as out:
        child = [sys.executable, "-P", str(ROOT / "scripts/bench/compiled_step.py")]
        words = [str(tree / place), str(tree / source), out.name]
        variables = {**environment, "PYTHONPATH": str(tree)}
        done = subprocess.run([*child, *words], cwd=tree, env=variables, capture_output=True, text=True, check=False)
        if done.returncode:
            raise HarnessError(f"{place.name}: the step of {tree} was not made: {done.stderr.strip()[-2000:]}")
        made: dict[str, Any] = pickle.load(out)
    return made


def measure(sides: Mapping[str, Any], turns: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return by side the seconds per step of each turn, and the losses of the first steps."""
    running = {name: Running(made) for name, made in sides.items()}
    losses = {name: each.losses(CHECKED) for name, each in running.items()}
    calls = {name: max(2, math.ceil(TURN_S / each.run(2))) for name, each in running.items()}
    times: dict[str, list[float]] = {name: [] for name in running}
    for number in range(turns):
        for name in reversed(running) if number % 2 else running:
            running[name].run(1)  # finds the caches as another side left them
            times[name].append(running[name].run(calls[name]) / calls[name] / running[name].dispatch)
    return times, losses


class Running:
    """A compiled step, loaded into this process, and the state that it trains."""

    def __init__(self, made: Mapping[str, Any]):
        import jax
        from jax.experimental.serialize_executable import deserialize_and_load

        def loaded(executable: bytes, takes: int, returns: int) -> Any:
            trees = (jax.tree.structure(each) for each in (((0,) * takes, {}), [0] * returns))
            return deserialize_and_load(executable, *trees)

        self.dispatch: int = made["dispatch"]
        self._calls, self._loss = made["calls"], made["loss"]
        self._step, self._drawing = loaded(*made["step"]), loaded(*made["drawing"])
        self._state, self._values, self._train = jax.device_put([made[name] for name in ("state", "values", "train")])
        self._keys = [jax.random.wrap_key_data(key) for key in made["keys"]]

    def losses(self, count: int) -> list[float]:
        """Train, and return the losses of the first `count` steps."""
        found: list[float] = []
        while len(found) < count:
            found += self._train_once(self._order()).tolist()
        return found[:count]

    def run(self, calls: int) -> float:
        """Make so many calls and return their seconds, drawing left out."""
        import jax

        seconds = 0.0
        for first in range(0, calls, self._calls):
            order = jax.block_until_ready(self._order())
            start = time.perf_counter()
            for _ in range(min(self._calls, calls - first)):
                loss = self._train_once(order)
            jax.block_until_ready((self._state, loss))
            seconds += time.perf_counter() - start
        return seconds

    def _order(self) -> Any:
        step, examples = self._state[-2:]
        return self._drawing(examples, step, *self._keys)

    def _train_once(self, order: Any) -> Any:
        out = self._step(*self._state, *self._values, *self._train, *order)
        self._state = out[: len(self._state)]
        return out[self._loss]


def title(machine: Mapping[str, Any], jax: str, turns: int) -> str:
    """Return the line above the table."""
    return (
        f"{machine['cpu']}, {machine['cores']} cores, Python {machine['python']}, jax {jax}, {time.strftime('%F')}; "
        f"{turns} turns of each"
    )


def row(
    workload: str, against: str, old: Sequence[float], new: Sequence[float], old_losses: Sequence[float],
    new_losses: Sequence[float],
) -> str:  # fmt: skip
    """Return a line of the table, from the seconds per step of each turn and the first losses of both sides."""
    ratios = [before / after for before, after in zip(old, new, strict=True)]
    apart = max(abs(a - b) / abs(b) if a != b else 0.0 for a, b in zip(old_losses, new_losses, strict=True))
    cells = [workload, against, *(f"{1e3 * statistics.median(each):.2f}" for each in (old, new))]
    cells += [f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", f"{min(old) / min(new):.2f}"]
    return f"| {' | '.join([*cells, f'{apart:.0e}' if apart else 'same'])} |"


if __name__ == "__main__":
    keep_memory()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # else the checked out tree stays
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
