"""Who is on a board before its seeds are drawn: programs are entered and committed first, then one nonce.

    results/<machine>/<suite>-<rules>.entries.json

The nonce is the `seed=` of every study that is scored. It is drawn once, after the programs are fixed and committed, so
that nobody can have tuned on these seeds; all submissions share it, so that tests are paired. Points and searches do
not depend on it. `scripts/make_leaderboard.py --enter` and `--draw` are the commands.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.campaign import config
from harness.campaign.counting import counted
from harness.campaign.device import resolve_device
from harness.campaign.hyperparameters import points_of, rules_for, write
from harness.campaign.pairing import Pairing
from harness.campaign.plan import submission_folders
from harness.errors import ConfigError, HarnessError, RunFolderError
from harness.machine import hardware
from harness.machine.flags import Device
from harness.program import discovery, processes, submission
from harness.record import pack, plain_data, published
from harness.record.run_folder import Trial
from harness.record.spec import TrialSpec, Value

SCHEMA = 1


@dataclass(frozen=True)
class Point:
    """One point of a submission, and the program that it runs."""

    hyperparameters: dict[str, Value]
    program: str


@dataclass(frozen=True)
class Entry:
    """A submission on a workload: sources and programs of both, at every point there may be."""

    submission: str
    submission_hash: str
    workload: str
    workload_hash: str
    workload_program: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Entries:
    """What an entries file holds.

    Attributes:
      suite, rules, device: of which board; the device is the name of its folder (`folder_of`).
      platform: what runs it; None in files from when all processors shared the folder `cpu`.
      entries: by workload, then submission.
      nonce, drawn: the seed of all studies that are scored, and when it was drawn (UTC); None before.
    """

    suite: str
    rules: str
    device: str
    entries: tuple[Entry, ...]
    nonce: int | None = None
    drawn: str | None = None
    platform: Device | None = None
    schema: int = SCHEMA

    @property
    def submissions(self) -> list[str]:
        """Names, sorted."""
        return sorted({entry.submission for entry in self.entries})

    @property
    def command(self) -> str:
        """What runs the board."""
        device = self.platform or ("cpu" if self.device == "cpu" else "gpu")
        words = [*self.submissions, f"rules={self.rules}", f"suite={self.suite}", f"device={device}"]
        return f"harness run {' '.join(words)} seed={self.nonce} out=runs-{self.suite}-{self.rules}"


def file_of(records: Path) -> Path:
    """Return the entries file that lies beside a file of published records, or a pack."""
    stem = records.name.removesuffix(".jsonl").removesuffix(pack.SUFFIX)
    return records.with_name(f"{stem}.entries.json")


def folder_name(card: str) -> str:
    """Return the folder of a card's records by its name: its model where that can be told ("NVIDIA H100 80GB HBM3" is
    `h100`), else the whole name.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", card.lower()) if word and word != "nvidia"]
    model = next((word for word in words if re.fullmatch(r"[a-z]+\d+[a-z]*", word)), None)
    return model or "-".join(words)


def folder_of(device: Device, machine: Mapping[str, Any]) -> str:
    """Return the folder of a machine's boards, by what trials that are compared share of it: processor and cores, or
    the card.
    """
    if device == "gpu":
        return folder_name(str(machine.get("device") or "gpu"))
    told = f"{machine.get('cpu')} {machine.get('cores')} cores"
    return re.sub(r"[^a-z0-9]+", "-", told.lower()).strip("-")


def place_of(results: Path, device: Device, machine: Mapping[str, Any], stem: str) -> Path:
    """Return the folder of a machine's board `<suite>-<rules>`: that of the machine. A board of this machine that was
    begun when all processors shared `results/cpu` stays there.
    """
    shared = results / "cpu"
    own = folder_of(device, machine)
    if device == "cpu" and (shared / f"{stem}.jsonl").exists():
        held = (trial.result.fingerprint for trial in published.read(shared / f"{stem}.jsonl") if trial.result)
        if own in {folder_of(device, fingerprint) for fingerprint in held if fingerprint}:
            return shared
    elif device == "cpu" and (shared / f"{stem}.entries.json").exists():
        return shared
    return results / own


def read(file: Path) -> Entries:
    """Read an entries file. Raises RunFolderError where there is none, or it is damaged."""
    try:
        data = json.loads(file.read_text())
    except OSError as error:
        raise RunFolderError(f"{file}: {error.strerror}; `{_ENTER}` makes one") from None
    except ValueError as error:
        raise RunFolderError(f"{file} is damaged ({error}); take it as it was committed: git checkout {file}") from None
    return plain_data.read(Entries, data, str(file), RunFolderError)


def enter(
    names: Sequence[str],
    results: Path,
    *,
    suite: str,
    rules: str = "tuned",
    device: str = "auto",
    on_export: Callable[[str], object] = str,
) -> Path:
    """Enter submissions for a board, with the programs they have now; return the file. Those of the same name are
    entered anew, the others stay.

    Raises ConfigError where the ruleset has no fresh seeds to draw, RunFolderError where the nonce is drawn already,
    and what is wrong with a submission.
    """
    with tempfile.TemporaryDirectory() as empty:  # points are drawn, not read from some folder of runs
        run = config.compose([f"rules={rules}", f"suite={suite}", f"device={device}", f"out={empty}"])
        if run.rules.counts != "fresh_seeds":
            raise ConfigError(f"rules {rules} draw no fresh seeds, so nobody enters before; --add publishes its runs")
        platform = resolve_device(run.device)
        machine = hardware.machine() | {"device": hardware.gpu_names().split(", ")[0]}
        place = place_of(results, platform, machine, f"{suite}-{rules}")
        file = place / f"{suite}-{rules}.entries.json"
        held = read(file) if file.exists() else Entries(suite, rules, place.name, (), platform=platform)
        _check_open(held, file)
        workloads = [discovery.find("workloads", name) for name in run.suite.workloads]
        pairings = []
        for folder in submission_folders(list(names)):
            about = submission.read_info(folder)
            own = rules_for(run.rules, about)
            points = points_of(folder, about, own, run)
            pairings += [
                Pairing(run, own, platform, workload, discovery.workload_info(workload), folder, about, points)
                for workload in workloads
            ]
        wanted = [pairing.wanted for pairing in pairings]
        found = processes.program_ids(wanted, counted(on_export, wanted))
    new = [_entry(pairing, programs) for pairing, programs in zip(pairings, found, strict=True)]
    kept = [entry for entry in held.entries if entry.submission not in {one.submission for one in new}]
    ordered = sorted([*kept, *new], key=lambda entry: (entry.workload, entry.submission))
    write(file, plain_data.to_plain(replace(held, entries=tuple(ordered))))
    return file


def draw(file: Path) -> Entries:
    """Draw the nonce of a board and write it into its file; return what that holds now.

    Raises RunFolderError where there is one, and where the file is not what git's HEAD holds.
    """
    held = read(file)
    _check_open(held, file)
    command = ("git", "-C", str(file.resolve().parent), "show", f"HEAD:./{file.name}")
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or done.stdout != file.read_bytes():
        why = "is not in the last commit as it is here" if not done.returncode else "is in no commit"
        raise RunFolderError(
            f"{file} {why}; who is on the board is committed before its seeds are drawn: "
            f"git add {file} && git commit -m 'Enter {', '.join(held.submissions)}'"
        )
    nonce = 1 + secrets.randbelow(2**32 - 1)  # 0 is public
    drawn = replace(held, nonce=nonce, drawn=datetime.now(UTC).isoformat(timespec="seconds"))
    write(file, plain_data.to_plain(drawn))
    return drawn


def check(file: Path, trials: Iterable[Trial]) -> None:
    """Raise RunFolderError unless every trial ran what was entered: studies that are scored under the nonce, points and
    programs as they stand in the file.
    """
    held = read(file)
    if held.nonce is None:
        raise RunFolderError(
            f"{file} has no nonce yet; commit it, then `python scripts/make_leaderboard.py --draw {file}` draws one"
        )
    known = {
        (entry.submission, entry.workload, entry.workload_program, *_key(point.hyperparameters, point.program))
        for entry in held.entries
        for point in entry.points
    }
    for trial in trials:
        spec = trial.spec
        if spec.seed != held.nonce:
            raise RunFolderError(
                f"{trial.path} ran with seed={spec.seed}, and the nonce of its board is {held.nonce}; run "
                f"`{held.command}`"
            )
        if _of(spec) not in known:
            raise RunFolderError(f"{trial.path}: {_why_not(spec, held)}; {_LATER.format(file=file)}")


def _entry(pairing: Pairing, found: processes.Found | HarnessError) -> Entry:
    if isinstance(found, HarnessError):
        raise found
    points = zip(pairing.wanted.points, found.programs, strict=True)
    return Entry(
        submission=pairing.folder.name,
        submission_hash=pairing.folder.source_hash,
        workload=pairing.place.name,
        workload_hash=pairing.place.source_hash,
        workload_program=found.workload,
        points=tuple(Point(dict(point), program) for point, program in points),
    )


def _check_open(held: Entries, file: Path) -> None:
    if held.nonce is not None:
        raise RunFolderError(f"{file} has its nonce, {held.nonce}, since {held.drawn}; {_LATER.format(file=file)}")


def _of(spec: TrialSpec) -> tuple[str, ...]:
    return spec.submission, spec.workload, str(spec.workload_program), *_key(spec.hyperparameters, str(spec.program))


def _key(point: dict[str, Value], program: str) -> tuple[str, str]:
    return repr(sorted(point.items())), program


def _why_not(spec: TrialSpec, held: Entries) -> str:
    entry = next((e for e in held.entries if (e.submission, e.workload) == (spec.submission, spec.workload)), None)
    if entry is None:
        return f"{spec.submission} on {spec.workload} is not entered"
    if entry.workload_program != spec.workload_program:
        return f"the program of {spec.workload} is not the one that was entered"
    points = [point for point in entry.points if point.hyperparameters == spec.hyperparameters]
    what = "program" if points else "point"
    return f"{spec.submission} on {spec.workload} ran another {what} than was entered"


_ENTER = "python scripts/make_leaderboard.py --enter NAME ... --suite SUITE"
_LATER = (
    "what comes later takes a new round: git rm {file} and the records beside it, then enter all, draw and run anew"
)
