"""Trials and searches while people watch: progress on the terminal, curves in TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.campaign.launch import gpus, local
from harness.campaign.plan import PlannedTrial
from harness.campaign.searches import PlannedSearch
from harness.record import run_folder
from harness.record.run_folder import Trial
from harness.record.search_record import SearchRun
from harness.report import progress
from harness.search import two_passes


def run_trial(trial: PlannedTrial, slot: gpus.Slot, *, tensorboard: bool) -> Trial:
    """Run a planned trial to its end and return it; see `harness.campaign.launch.local.run_trial`."""
    with contextlib.ExitStack() as stack:
        history = [] if trial.again else run_folder.read_events(trial.path)
        view = stack.enter_context(progress.shown(trial.spec, history, alone=slot.alone))
        sinks = [view.add]

        def on_start() -> None:
            if tensorboard:
                sinks.append(stack.enter_context(_event_view(trial.path)))

        def on_event(event: dict[str, Any]) -> None:
            for sink in sinks:
                sink(event)

        return local.run_trial(
            trial,
            on_event,
            on_start=on_start,
            note=view.note,
            environment=slot.environment,
            presses=slot.presses,
            worker=slot.worker,
        )


def show_run(search: PlannedSearch, run: SearchRun) -> None:
    """Print a line on a run of a search that has ended, for now or for good."""
    asked = search.asked
    value = "diverged" if run.status == "diverged" else f"{asked.metric} {run.values[-1]:.4f}"
    hit = two_passes.reached(run, asked.target, asked.mode) is not None
    number = asked.points.index(run.hyperparameters)
    text = f"{asked.workload} / {asked.submission} point {number}, tuning seed {run.study}: step {run.steps[-1]}"
    print(f"{text}, {value}{' (target met)' if hit else ''}", flush=True)


@contextlib.contextmanager
def _event_view(folder: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    from harness.record.tensorboard import EventView

    view = EventView(folder)
    try:
        yield view.add
    finally:
        view.close()
