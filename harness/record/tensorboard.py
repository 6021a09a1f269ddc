"""TensorBoard event files as a view of log.jsonl, written by tensorboard's own writer; TensorFlow is not needed.

One step is one point of `train/*`; each measurement one of `validation/*`; each chunk one of `clock/*` (seconds scored
so far, joules for energy) and `steps_per_second`. The full splits at the end are `final_validation/*` and
`final_test/*`. The tab "hparams" compares runs by submission, workload, seed and hyperparameters; `spec` under "text"
holds all that the trial is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.record import plain_data, run_folder
from harness.record.spec import TrialSpec

_QUEUE = 1000  # events that may wait for the disk
_FLUSH_S = 10.0


class EventView:
    """A fresh event file in `<folder>/tensorboard/`.

    An attempt that goes on from a checkpoint starts a session at the step after it; TensorBoard then drops what an
    earlier file holds from that step on, as the log's readers do.
    """

    def __init__(self, folder: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(folder / "tensorboard"), max_queue_size=_QUEUE, flush_secs=_FLUSH_S)
        self._opened = time.time()
        self._first_t: float | None = None
        if (folder / "spec.json").exists():
            self._describe(run_folder.read_spec(folder)[0])

    def add(self, event: Mapping[str, Any]) -> None:
        """Write what one event of the log holds for a plot; other events are passed over."""
        wall_time = self._wall_time(event)
        if event["event"] == "attempt":
            self._start_session(event["resume_step"] + 1, wall_time)
        for step, values in points(event):
            self._write(step, values, wall_time)
        if event["event"] != "chunk":  # what a resumed attempt keeps is on the disk before it is needed
            self._writer.flush()

    def _describe(self, spec: TrialSpec) -> None:
        """Write what the trial is, for the plugins of hyperparameters and of text."""
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.plugins.hparams import summary_v2
        from tensorboard.plugins.text import metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        told = {"submission": spec.submission, "workload": spec.task, "seed": spec.seed, "study": spec.study}
        start = summary_v2.hparams_pb(told | spec.hyperparameters, trial_id=spec.id, start_time_secs=self._opened)
        rows = [f"| {name} | {value} |" for name, value in plain_data.to_plain(spec).items()]
        text = "\n".join(["| | |", "|---|---|", *rows])
        value = summary_pb2.Summary.Value(
            tag="spec",
            metadata=metadata.create_summary_metadata(display_name=None, description=""),
            tensor=make_tensor_proto(text.encode()),
        )
        for summary in (start, summary_pb2.Summary(value=[value])):
            self._writer.add_event(event_pb2.Event(wall_time=self._opened, step=0, summary=summary))

    def close(self) -> None:
        """Write out what waits and close the file."""
        self._writer.close()

    def _wall_time(self, event: Mapping[str, Any]) -> float:
        """Seconds since 1970, so that TensorBoard's relative axis is the log's `t` also when a view is made later."""
        t: float | None = event.get("t")
        if t is None:
            return self._opened
        if self._first_t is None:
            self._first_t = t
        return self._opened + t - self._first_t

    def _start_session(self, step: int, wall_time: float) -> None:
        from tensorboard.compat.proto import event_pb2

        log = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._writer.add_event(event_pb2.Event(wall_time=wall_time, step=step, session_log=log))

    def _write(self, step: int, values: Mapping[str, float], wall_time: float) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2

        scalars = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._writer.add_event(
            event_pb2.Event(wall_time=wall_time, step=step, summary=summary_pb2.Summary(value=scalars))
        )


def rebuild(folder: Path) -> None:
    """Make the view of a run folder anew from its log; event files that are there are removed."""
    for old in (folder / "tensorboard").glob("events.out.tfevents.*"):
        old.unlink()
    view = EventView(folder)
    try:
        for event in run_folder.read_events(folder):
            view.add(event)
    finally:
        view.close()


def points(event: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield (step, value by tag) for each step that an event of the log tells of. The log's null is NaN."""
    kind = event["event"]
    if kind == "chunk":
        yield from _chunk_points(event)
    elif kind == "measurement":
        yield event["step"], _tagged("validation", event["metrics"])
    elif kind == "final":
        for split in ("validation", "test"):
            yield event["step"], _tagged(f"final_{split}", event["metrics"].get(split) or {})


def _chunk_points(event: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, float]]]:
    series = event["metrics"]
    steps = max((len(values) for values in series.values()), default=0)
    first = event["step"] - steps + 1
    for i in range(steps):
        yield first + i, _tagged("train", {name: values[i] for name, values in series.items()})
    measured = {clock: value for clock, value in event["scored"].items() if value is not None}
    last = _tagged("clock", measured)
    if event["seconds"]:
        last["steps_per_second"] = steps / event["seconds"]
    yield event["step"], last


def _tagged(group: str, values: Mapping[str, float | None]) -> dict[str, float]:
    return {f"{group}/{name}": math.nan if value is None else value for name, value in values.items()}
