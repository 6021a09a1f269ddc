"""Run folders as trials write them, for tests of what reads them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.record import run_folder
from harness.record.readings import Calibration, Reading, Scored
from harness.record.result import Measurement, Result, Status
from harness.record.spec import Options, TrialSpec
from harness.search.scale_ladder import Ladder

SPEC = TrialSpec(
    schema=1, workload="lm", workload_version=1, workload_hash="aaaa", metric="loss", mode="min", target=0.5,
    step_hint=600, batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="adamw", submission_hash="s1",
    hyperparameters={"lr": 0.1}, rules="quick", stop="target", clock="calibrated", score_compile=False,
    compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=4711, tuning=False, device="cpu",
    deterministic=True, workload_program="w", program="p",
)  # fmt: skip
MACHINE = {"cpu": "Some CPU", "cores": 2, "device": "cpu", "packages": {"jax": "0.10.2"}}
LOSSES = (2.0, 1.2, 0.8, 0.6, 0.45)


def write_run(root: Path, seconds: float, *, missed: bool = False, ratio: float = 1.0, **fields: Any) -> TrialSpec:
    """Write a run folder of five measurements that takes so many calibrated seconds to its end, where it meets the
    target unless it is to miss it. `ratio` is the step ratio of its process; wall is twice, cpu three times as long.
    """
    spec = replace(SPEC, **fields)
    path = run_folder.prepare(root, spec, Options("w", "s"))
    losses = [loss + 0.1 if missed else loss for loss in LOSSES]
    with run_folder.hold(path) as folder:
        folder.append("attempt", attempt=1, resume_step=0)
        for n, loss in enumerate(losses, 1):
            at = seconds * n / len(losses)
            met = loss <= 0.5
            one = Measurement(100 * n, 3200 * n, {"loss": loss}, Scored(2 * at, 3 * at, at, None), met)
            folder.append("measurement", t=at, **vars(one))
        status = Status.BUDGET_EXHAUSTED if missed else Status.TARGET_REACHED
        result = Result(
            status, "how it ended", spec.id, steps=500, time_to_target=None if missed else one.scored, best=losses[-1],
            last=losses[-1], test={"loss": 0.47}, ledger={"train": Reading(2 * seconds), "eval": Reading(3.0)},
            calibration=Calibration(0.01, 0.02, {32: ratio}, 0.0, 5, process=spec.id, steps={32: 500}),
            peak_bytes=2**20, fingerprint=MACHINE,
        )  # fmt: skip
        folder.write_result(result)
    return spec


def campaign(
    root: Path, paces: dict[str, float], *, studies: int = 6, workloads: tuple[str, ...] = ("lm", "mae")
) -> Path:
    """Write a campaign: each submission takes 10 seconds times its pace on the first workload, twice as long on the
    second, each study a little longer than the one before.
    """
    for name, pace in paces.items():
        for n, workload in enumerate(workloads, 1):
            for study in range(studies):
                seconds = 10.0 * pace * n * (1 + study / 50)
                write_run(root, seconds, submission=name, workload=workload, study=study, studies=studies, trials=1,
                          program=f"p-{name}", submission_hash=f"s-{name}")  # fmt: skip
    return root


def ladder(names: tuple[str, str, str], speed_ups: tuple[float, float] = (1.4, 0.9)) -> Ladder:
    """A ladder without chance on two widths: the baseline's loss falls by a power of the data, the others' alike."""
    steps = (150, 300, 600, 1200)
    curve = tuple(round(150 * 2 ** (half / 2)) for half in range(8))
    rows = [
        tuple((float(0.5 + 8.0 * (speed * step) ** -0.6),) * 3 for step in of)
        for speed, of in ((1.0, curve), *((speed, steps) for speed in speed_ups))
    ]
    finals = {name: (row, row) for name, row in zip(names, rows, strict=True)}
    return Ladder(
        "lm", "loss", "min", names, ("lm_w32", "lm_w64"), (32, 64), (1.0, 2.0, 4.0, 8.0), steps, curve, finals
    )
