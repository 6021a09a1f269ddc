"""Trials and searches while people watch: progress on the terminal, curves in TensorBoard."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.campaign.launch import gpus, local
from harness.campaign.plan import PlannedTrial
from harness.campaign.searches import PlannedSearch
from harness.record import run_folder
from harness.record.result import UNFINISHED
from harness.record.run_folder import Trial
from harness.record.search_record import SearchRun
from harness.report import progress, run_summary
from harness.report.campaign_ladder import Ladder
from harness.search import two_passes


def run_trial(trial: PlannedTrial, slot: gpus.Slot, *, tensorboard: bool, ladder: Ladder) -> Trial:
    """Run a planned trial to its end and return it; see `harness.campaign.launch.local.run_trial`."""
    with contextlib.ExitStack() as stack:
        history = [] if trial.again else run_folder.read_events(trial.path)
        ended: list[Trial] = []
        ladder.begin(trial)
        stack.callback(_told, ladder, trial, ended)
        view = stack.enter_context(
            progress.shown(trial.spec, history, alone=slot.alone, above=functools.partial(getattr, ladder, "text"))
        )
        sinks = [view.add]

        def on_start() -> None:
            if tensorboard:
                sinks.append(stack.enter_context(_event_view(trial.path, view.note)))

        def on_event(event: dict[str, Any]) -> None:
            for sink in sinks:
                sink(event)

        found = local.run_trial(
            trial,
            on_event,
            on_start=on_start,
            note=view.note,
            environment=slot.environment,
            presses=slot.presses,
            worker=slot.worker,
        )
        ended += [found] if found.status not in UNFINISHED else []
        return found


def _told(ladder: Ladder, trial: PlannedTrial, ended: list[Trial]) -> None:
    first = ladder.end(trial, finished=bool(ended))
    if len(ladder.trials) > 1:
        print(ladder.text, flush=True)
    if len(first) > 1:
        run_summary.print_first_study([one.path for one in first])


def show_run(search: PlannedSearch, run: SearchRun) -> None:
    """Print a line on a run of a search that has ended, for now or for good."""
    asked = search.asked
    value = "diverged" if run.status == "diverged" else f"{asked.metric} {run.values[-1]:.4f}"
    hit = two_passes.reached(run, asked.target, asked.mode) is not None
    number = asked.points.index(run.hyperparameters)
    text = f"{asked.workload} / {asked.submission} point {number}, tuning seed {run.study}: step {run.steps[-1]}"
    print(f"{text}, {value}{' (target met)' if hit else ''}", flush=True)


@contextlib.contextmanager
def _event_view(folder: Path, note: Callable[[str], None]) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what writes an event for TensorBoard. It is a view, so that what goes wrong with it (a full disk, say) is
    told once and ends nothing else.
    """
    from harness.record.tensorboard import EventView

    view: EventView | None = None

    def tried(action: Callable[[], object]) -> None:
        nonlocal view
        try:
            action()
        except Exception as error:  # noqa: BLE001 - its writer is a thread, which hands on whatever it met
            view = None
            note(f"TensorBoard's curves of {folder} end here: {error}; the log holds all, and the trial goes on")

    def open_view() -> None:
        nonlocal view
        view = EventView(folder)

    def add(event: dict[str, Any]) -> None:
        if view is not None:
            tried(functools.partial(view.add, event))

    _hide_writers()
    tried(open_view)
    try:
        yield add
    finally:
        if view is not None:
            tried(view.close)


@functools.cache
def _hide_writers() -> None:
    """Keep TensorBoard's own thread from printing a traceback of what it hands on, from now on."""
    shown = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not type(args.thread).__module__.startswith("tensorboard."):
            shown(args)

    threading.excepthook = hook
