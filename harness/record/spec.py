"""The frozen values a run is described by: Rules, RunSpec (what the user asked for) and TrialSpec (one trial's
identity).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.machine.flags import Device, Sharding
from harness.record import plain_data

Clock = Literal["wall", "cpu", "calibrated", "energy", "steps"]
"""What a trial is ranked by; training steps only where logs of AlgoPerf are scored."""
Mode = Literal["min", "max"]
Stop = Literal["target", "horizon"]
Points = Literal["defaults", "search"]
Counts = Literal["fastest", "fresh_seeds", "mean"]
Value = float | int | str | bool

CLOCKS: tuple[Clock, ...] = ("wall", "cpu", "calibrated", "energy")
"""What a trial is measured by."""


@dataclass(frozen=True)
class SelfTuning:
    """What a ruleset has for submissions that say `tuning: self`: one trial a study, of their defaults.

    Attributes:
      rules: the ruleset's name in their records; they are scored apart from the others.
      budget_factor: in place of the ruleset's own.
    """

    rules: str
    budget_factor: float


@dataclass(frozen=True)
class Rules:
    """A ruleset, as in configs/rules/*.yaml.

    Attributes:
      name: its name, part of every record.
      studies: independent repetitions, each with its own seeds.
      trials: hyperparameter points per study; with `fresh_seeds`, of the one search on tuning seeds.
      points: the submission's "defaults", or points of its "search" space (or of its own list, in its order).
      counts: which trial counts. "fastest": of each study the one that reached the target first. "fresh_seeds": none;
        they choose a point for each workload, and fresh studies of it count. "mean": the mean of the final metric over
        all studies is tested against the target.
      self_tuning: see `SelfTuning`; None: submissions that tune themselves run their defaults by the same rules.
      stop: a trial ends at the target, or runs the whole horizon (the step hint, or `steps`).
      steps: the declared length of a trial where the mean counts; None: the submission's own, in step hints.
      stop_hopeless: end a trial once it is slower than another of its study that has reached the target.
      clock: the ranking clock; "auto" is wall on a GPU and calibrated on a shared CPU.
      budget_factor: multiplies the workload's budget.
      score_compile: whether compile time beyond the cap is scored; the compile cache is off then.
      compile_cap_cpu_s, compile_cap_gpu_s: the caps.
      free_batch_size: whether `Algorithm.batch_sizes` may differ from the workload's.
    """

    name: str
    studies: int = 1
    trials: int = 1
    points: Points = "defaults"
    counts: Counts = "fastest"
    self_tuning: SelfTuning | None = None
    stop: Stop = "target"
    steps: int | None = None
    stop_hopeless: bool = True
    clock: Literal["auto", "wall", "cpu", "calibrated", "energy"] = "auto"
    budget_factor: float = 1.0
    score_compile: bool = False
    compile_cap_cpu_s: float = 60.0
    compile_cap_gpu_s: float = 300.0
    free_batch_size: bool = True


@dataclass(frozen=True)
class Suite:
    """A named set of workloads, as in configs/suite/*.yaml."""

    name: str
    workloads: tuple[str, ...]


@dataclass(frozen=True)
class DeviceConfig:
    """Where to run, as in configs/device/*.yaml.

    Attributes:
      platform: "auto" is a GPU where jax's CUDA plugin is installed and one is visible.
      devices: over how many of them each trial is spread.
      sharding: of the state of a trial over several: whole on each, or in parts (`harness.trial.mesh`).
      deterministic: the same bits each time; a CPU always is.
      cpus, memory_gb, gres, constraint: what a job on a cluster asks for: cores, memory in GiB, cards as Slurm calls
        them ("gpu:h100:1"; of several each takes a trial at a time), features of the node. None: whatever is usual
        there. No other launcher reads them.
    """

    platform: Literal["auto", "cpu", "gpu"]
    deterministic: bool = True
    devices: int = 1
    sharding: Sharding = "replicated"
    cpus: int | None = None
    memory_gb: float | None = None
    gres: str | None = None
    constraint: str | None = None


@dataclass(frozen=True)
class LauncherConfig:
    """Who starts the processes of trials, as in configs/launcher/*.yaml.

    Attributes:
      name: the file's.
      engine: "local" runs them under the command that is typed; "background" in a process that outlives it; "slurm" as
        jobs of a cluster. What follows is for Slurm alone.
      partition, account, qos: None: Slurm's defaults.
      hours: time limit of a job. It saves `save_s` seconds before that, and is put in the queue again.
      max_jobs: how many jobs of a command run at a time; None: as many as the cluster lets.
      sbatch: further words for sbatch, as in launcher.sbatch="--exclude=n7 --exclusive".
    """

    name: str
    engine: Literal["local", "background", "slurm"]
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    hours: float = 1.0
    save_s: int = 120
    max_jobs: int | None = None
    sbatch: str | None = None


@dataclass(frozen=True)
class RunSpec:
    """What `harness run` was asked for, composed by Hydra and checked key by key.

    Attributes:
      suite: the workloads, unless `workload` names others.
      workload: one name, several separated by commas, or null.
      variant: held-out variants of each workload (`harness.scoring.variants.KNOWN`), one name, several separated by
        commas or `all`, or null. Variants have no target: they run the whole horizon and are not scored. The workload
        itself runs beside them, and AdamW, so that they can be compared.
      rules, device, launcher: the chosen groups.
      seed: the root of the random streams of every study that is scored, common to all submissions. 0 is public; a
        published board draws one, its nonce. Points and searches do not depend on it.
      out: folder for run folders.
      hp: hyperparameter values that replace the submission's defaults.
      max_steps: end every trial at this step (smoke tests; such runs are never ranked); null for no limit.
      checkpoint_s: seconds between checkpoints.
      hang_s: a trial without a sign of life for so many seconds is killed (`hung`).
      retry: run crashed, out-of-memory and hung trials again.
      tensorboard: write TensorBoard events beside each log.
      profile: once the trials have ended, trace 20 steps of each submission on each workload into its run folder, off
        the clock.
      max_hours: end the campaign after so many hours as Ctrl-C does: what runs is saved, and the same command goes on;
        null for no limit.
    """

    suite: Suite
    rules: Rules
    device: DeviceConfig
    workload: str | None = None
    variant: str | None = None
    seed: int = 0
    out: str = "runs"
    hp: dict[str, Value] = field(default_factory=dict)
    max_steps: int | None = None
    checkpoint_s: float = 30.0
    hang_s: float = 600.0
    retry: bool = False
    tensorboard: bool = True
    profile: bool = False
    max_hours: float | None = None
    launcher: LauncherConfig = LauncherConfig("local", "local")

    @property
    def hash(self) -> str:
        """Short hash of all that was asked for."""
        return short_hash(plain_data.to_plain(self))


@dataclass(frozen=True)
class TrialSpec:
    """The identity of one trial: two trials with equal specs are the same experiment, and a run folder holds one spec.

    Attributes:
      schema: version of this record.
      workload, workload_version: name, and version of its target.
      workload_program, program: ids of the workload's own program and of the submission's (`harness.program.manifest`);
        None in records that are older than programs.
      workload_hash, submission_hash: of the sources that the programs came of. Beside programs they are no part of the
        identity: sources that differ in a comment are the same experiment.
      metric, mode, target: what is to be reached.
      step_hint, batch_size: the workload's.
      budget_steps: budget in baseline steps, the rules' factor included.
      reference_step_s: the unit of calibrated seconds.
      submission: name.
      hyperparameters: the point.
      rules: name of the ruleset; stop, clock and the rest are spelled out, so that a record stands alone.
      study, trial, seed, tuning: what the random streams are drawn from.
      device, deterministic: where it runs.
      max_steps: see RunSpec.
      variant: a single one (`harness.scoring.variants.KNOWN`, `UNCHANGED` and `SMALL`), or None.
      counts: which trial of the ruleset counts, see `Rules`.
      steps: the declared length where the mean counts; None elsewhere.
      studies, trials: how many of each there are to be (trials per study), so that a missing one is missed. They are no
        part of the identity; None in records that are older than these fields.
      devices, sharding: see `DeviceConfig`. Of one device they are no part of the identity.
      by_hand: whether hp.NAME moved the point off the defaults, or off what a search is to vary: an experiment, which
        stands behind the runs that are none. It is no part of the identity.
    """

    schema: int
    workload: str
    workload_version: int
    workload_hash: str
    metric: str
    mode: Mode
    target: float | None
    step_hint: int
    batch_size: int
    budget_steps: int
    reference_step_s: float
    submission: str
    submission_hash: str
    hyperparameters: dict[str, Value]
    rules: str
    stop: Stop
    clock: Clock
    score_compile: bool
    compile_cap_s: float
    free_batch_size: bool
    study: int
    trial: int
    seed: int
    tuning: bool
    device: Device
    deterministic: bool
    max_steps: int | None = None
    variant: str | None = None
    counts: Counts = "fastest"
    steps: int | None = None
    studies: int | None = None
    trials: int | None = None
    by_hand: bool = False
    workload_program: str | None = None
    program: str | None = None
    devices: int = 1
    sharding: Sharding = "replicated"

    @property
    def id(self) -> str:
        """Stable short hash of all that makes the experiment."""
        aside = EXPECTED if self.program is None else EXPECTED + SOURCES
        plain = {name: value for name, value in plain_data.to_plain(self).items() if name not in aside}
        if self.program is None and self.clock == "calibrated":
            plain["clock"] = "steps"  # its name in records that are older than programs
        return short_hash({k: v for k, v in plain.items() if k not in _LATER or v != _LATER[k]})

    @property
    def horizon(self) -> int:
        """The length in steps that a submission plans for: the declared one, or else the step hint."""
        return self.steps or self.step_hint

    @property
    def task(self) -> str:
        """The workload, or the variant of it: what trials share that can be compared."""
        return self.workload if self.variant is None else f"{self.workload}+{self.variant}"

    @property
    def number(self) -> str:
        """Study and trial for people."""
        return f"tuning {self.trial}" if self.tuning else f"{self.study}/{self.trial}"

    @property
    def folder(self) -> str:
        """Path of the run folder below the output folder."""
        study = f"{'tuning' if self.tuning else 'study'}{self.study}-trial{self.trial}"
        return f"{self.task}/{self.submission}/{study}-{self.id}"


@dataclass(frozen=True)
class Options:
    """How a trial is run, none of which changes a score: paths of the two folders, the intervals of RunSpec, and the
    ranking time at which it is hopeless, because another trial of its study reached the target in that time.
    """

    workload_path: str
    submission_path: str
    checkpoint_s: float = 30.0
    hang_s: float = 600.0
    hopeless_s: float | None = None


SCHEMA = 1
EXPECTED = ("studies", "trials", "by_hand")
SOURCES = ("workload_hash", "submission_hash")
_LATER = {
    "counts": "fastest",
    "steps": None,
    "workload_program": None,
    "program": None,
    "devices": 1,
    "sharding": "replicated",
}  # newer than the first records, whose ids stand


def short_hash(value: Any) -> str:
    """Return 10 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]
