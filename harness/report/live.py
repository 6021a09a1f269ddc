"""A trial run while people watch: its progress on the terminal, its curves in TensorBoard."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.campaign.launch import gpus, local
from harness.campaign.plan import PlannedTrial
from harness.record import run_folder
from harness.record.run_folder import Trial
from harness.report import progress


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


@contextlib.contextmanager
def _event_view(folder: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    from harness.record.tensorboard import EventView

    view = EventView(folder)
    try:
        yield view.add
    finally:
        view.close()
