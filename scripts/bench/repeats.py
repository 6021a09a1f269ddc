"""Row (g): the same trial again and again, in processes of their own: how far its times are apart."""

from __future__ import annotations

import statistics
import tempfile
from typing import Any

from harness.campaign import plan
from harness.campaign.launch import local
from harness.machine.flags import Device
from harness.program import discovery
from harness.record.spec import DeviceConfig, Rules, RunSpec, Suite


def row(folder: discovery.Folder, variant: str | None, device: Device, *, repeats: int, steps: int) -> dict[str, Any]:
    """Return the scored wall seconds of `repeats` trials of AdamW to the target; of `steps` steps where none is set."""
    target = discovery.workload_info(folder, variant).target.value
    times: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as out:
            run = RunSpec(
                Suite("bench", (folder.name,)), Rules("bench", clock="wall"), DeviceConfig(device, deterministic=False),
                variant=variant, out=out, max_steps=None if target is not None else steps,
            )  # fmt: skip
            (trial,) = plan.make_plan(run, ["adamw"]).trials
            ended = local.run_trial(trial, note=lambda _: None)
        reached = ended.result.time_to_target if ended.result else None
        chunks = [event for event in ended.events if event["event"] == "chunk"]
        if not chunks or (target is not None and reached is None):
            raise RuntimeError(f"a trial of {folder.name} ended as {ended.status}: {ended.reason}")
        times.append(reached.wall if reached else chunks[-1]["scored"]["wall"])
    return {
        "what": "to the target" if target is not None else f"{steps} steps",
        "seconds": times,
        "spread": statistics.stdev(times) / statistics.mean(times),
    }
