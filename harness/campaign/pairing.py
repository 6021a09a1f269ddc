"""One submission on one workload under a ruleset, and the identity of each of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.campaign.hyperparameters import Points
from harness.errors import ConfigError
from harness.machine.flags import Device
from harness.program import discovery, processes, submission
from harness.program.workload import WorkloadInfo
from harness.record.spec import SCHEMA, Clock, Options, Rules, RunSpec, TrialSpec, Value

_LEAST_STEPS = 25  # of a declared length, so that every measurement has a step of its own


@dataclass(frozen=True)
class Pairing:
    """One submission on one workload: what their trials have in common."""

    run: RunSpec
    rules: Rules
    device: Device
    place: discovery.Folder
    info: WorkloadInfo
    folder: discovery.Folder
    about: submission.SubmissionInfo
    points: Points
    found: processes.Found | None = None  # its programs, once they are looked up

    @cached_property
    def wanted(self) -> processes.Wanted:
        """The programs of its trials: at every point there may be."""
        points = {_as_key(point): point for study in self.points.studies for point in study}
        return processes.Wanted(
            self.place,
            self.folder,
            tuple(points.values()),
            self.budget_steps,
            self.declared_steps,
            self.info.variant,
            self.device,
            processes.ends_of(self.about),
        )

    @property
    def budget_steps(self) -> int:
        """The budget in baseline steps, the rules' factor included."""
        return round(self.info.budget_steps * self.rules.budget_factor)

    def spec(self, point: dict[str, Value], study: int, trial: int) -> TrialSpec:
        """Return the identity of one trial."""
        rules, info = self.rules, self.info
        steps = self.declared_steps
        automatic: Clock = "wall" if self.device == "gpu" else "calibrated"
        return TrialSpec(
            schema=SCHEMA,
            workload=self.place.name,
            workload_version=info.target.version,
            workload_hash=self._hashes[0],
            metric=info.metric,
            mode=info.mode,
            target=info.target.value,
            step_hint=info.step_hint,
            batch_size=info.batch_size,
            budget_steps=self.budget_steps,
            reference_step_s=info.target.reference_step_s,
            submission=self.folder.name,
            submission_hash=self._hashes[1],
            hyperparameters=point,
            rules=rules.name,
            stop=rules.stop if info.variant is None else "horizon",
            clock=automatic if rules.clock == "auto" else rules.clock,
            score_compile=rules.score_compile,
            compile_cap_s=rules.compile_cap_gpu_s if self.device == "gpu" else rules.compile_cap_cpu_s,
            free_batch_size=rules.free_batch_size,
            study=study,
            trial=trial,
            seed=self.run.seed,
            tuning=False,
            device=self.device,
            deterministic=self.run.device.deterministic or self.device == "cpu",  # a CPU always is
            max_steps=self.run.max_steps,
            variant=info.variant,
            counts=rules.counts,
            steps=steps,
            studies=rules.studies,
            by_hand=any(self.about.defaults[name] != value for name, value in self.points.fixed.items()),
            trials=1 if rules.counts == "fresh_seeds" else self.points.trials,
            workload_program=self.found.workload if self.found else None,
            program=self._program(point),
            devices=self.run.device.devices,
            sharding=self.run.device.sharding if self.run.device.devices > 1 else "replicated",
        )

    def _program(self, point: dict[str, Value]) -> str | None:
        if self.found is None:
            return None
        return dict(zip(map(_as_key, self.wanted.points), self.found.programs, strict=True))[_as_key(point)]

    @cached_property
    def _hashes(self) -> tuple[str, str]:
        return self.place.source_hash, self.folder.source_hash

    @cached_property
    def declared_steps(self) -> int | None:
        """The declared length, which whole dispatches make up."""
        if self.rules.counts != "mean":
            return None
        dispatch = self.info.dispatch_steps.get(self.device, 1)
        least = -(-_LEAST_STEPS // dispatch) * dispatch
        steps = self.rules.steps
        if steps is None:
            return max(least, round(self.about.speedrun_length * self.info.step_hint / dispatch) * dispatch)
        if steps < least or steps % dispatch:
            raise ConfigError(
                f"steps={steps}: expected at least {least}, as many as there are measurements, and a multiple of "
                f"{dispatch}: so many steps of {self.place.name} are taken at a time on a {self.device}"
            )
        return steps


def _as_key(point: Mapping[str, Value]) -> str:
    return repr(sorted(point.items()))


def wanted_of(spec: TrialSpec, options: Options) -> processes.Wanted:
    """Return the programs that a trial needs, by its identity and the folders that it names."""
    workload, source = Path(options.workload_path), Path(options.submission_path)
    folder = discovery.Folder("submissions", source.name, source)
    return processes.Wanted(
        discovery.Folder("workloads", workload.name, workload), folder, (spec.hyperparameters,), spec.budget_steps,
        spec.steps, spec.variant, spec.device, processes.ends_of(submission.read_info(folder)),
    )  # fmt: skip
