"""A plan in a file: trials that one machine plans and another one runs, which needs neither Hydra nor a configuration.

    harness plan adamw suite=gpu device=h200 stop=horizon -o plan.json      here
    python -m harness.campaign plan.json --out runs                         there, with the same sources

Folders are looked for by name on the machine that runs them (`harness.program.discovery`), and must be exported there
as the programs that were planned.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.campaign.counting import counted
from harness.campaign.launch import plan_runs
from harness.campaign.pairing import wanted_of
from harness.campaign.plan import PlannedTrial, make_ready
from harness.errors import ConfigError, HarnessError
from harness.program import discovery, processes
from harness.record import plain_data, run_folder
from harness.record.files import write_atomic
from harness.record.result import FAILED, Status
from harness.record.spec import Options, TrialSpec

SCHEMA = 1


def write(path: Path, trials: Iterable[PlannedTrial]) -> int:
    """Write the trials to `path`; return how many. Raises ConfigError where it cannot be written."""
    plain = [{"spec": plain_data.to_plain(t.spec), "options": plain_data.to_plain(t.options)} for t in trials]
    try:
        write_atomic(path, {"schema": SCHEMA, "trials": plain})
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return len(plain)


def read(path: Path, out: Path, *, retry: bool = False) -> list[PlannedTrial]:
    """Return the trials of a plan as they stand below `out`, with the folders of this machine.

    Raises ConfigError for a file that is no plan, an unknown name, or programs other than the planned ones.
    """
    try:
        data = json.loads(path.read_text())
        pairs = [(entry["spec"], entry["options"]) for entry in data["trials"]]
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; make it with: harness plan ... -o {path}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path} is no plan of trials; make one with: harness plan ... -o {path}") from None
    if data.get("schema") != SCHEMA:
        raise ConfigError(f"{path}: schema {data.get('schema')}, this harness reads {SCHEMA}; plan anew")
    specs = [plain_data.read(TrialSpec, plain, str(path)) for plain, _ in pairs]
    places = [
        _here(spec, plain_data.read(Options, held, str(path))) for spec, (_, held) in zip(specs, pairs, strict=True)
    ]
    wanted = [wanted_of(spec, place) for spec, place in zip(specs, places, strict=True)]
    found = processes.program_ids(wanted, counted(_tell, wanted))
    trials = []
    for spec, options, programs in zip(specs, places, found, strict=True):
        if isinstance(programs, HarnessError):
            raise programs
        if (programs.workload, *programs.programs) != (spec.workload_program, spec.program):
            raise ConfigError(
                f"{path}: {spec.submission} on {spec.workload} is exported as another program here than was planned; "
                "copy the same sources here, install the same versions of jax, flax and optax, or plan anew"
            )
        place = out / spec.folder
        status = run_folder.read_trial(place).status if (place / "spec.json").exists() else Status.PLANNED
        again = retry and status in FAILED
        trials.append(PlannedTrial(spec, options, out, place, status, again=again, expected_s=None))
    return trials


def _tell(name: str) -> None:
    print(f"exporting {name}", file=sys.stderr, flush=True)


def _here(spec: TrialSpec, options: Options) -> Options:
    """Return the options with the folders of this machine."""
    workload, source = discovery.find("workloads", spec.workload), discovery.find("submissions", spec.submission)
    return Options(str(workload.path), str(source.path), options.checkpoint_s, options.hang_s)


def prepared(path: Path, out: Path, *, retry: bool = False) -> list[Path]:
    """Return the run folders of what is left of a plan, with programs in the store: for workers that are started by
    hand, one on each of several hosts.
    """
    return [make_ready(trial) for trial in read(path, out, retry=retry) if trial.runnable]


def run(path: Path, out: Path, *, retry: bool = False) -> int:
    """Run what is left of a plan, telling on standard output how each trial ends; return the exit code: 0, or 1 where
    one failed, now or earlier, 2 for a run folder that cannot be used, 3 for missing data. With `retry` those that
    failed run again. Several processes may run one plan: what another holds is left to it.

    Raises ConfigError where the device that the plan is for is not there.
    """
    trials = read(path, out, retry=retry)
    left = [trial for trial in trials if trial.runnable]
    failed = [trial.status for trial in trials if not trial.runnable and trial.status in FAILED]
    earlier = f"; {len(failed)} failed earlier, --retry runs what failed again" if failed else ""
    print(f"{path}: {len(left)} of {len(trials)} trials to run{earlier}", flush=True)
    return plan_runs.run_left(trials)
