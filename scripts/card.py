"""All that the project wants of a card, most valuable first, in pieces of some minutes; typed again, it goes on.

    python scripts/card.py --dry-run             what is left, with the minutes of each step, measured or estimated
    python scripts/card.py --minutes 9           works for so long, stops cleanly, says what is left
    python scripts/card.py --minutes 9 --archive FILE    and gathers all records in FILE, a .tar.gz, after each step
    python scripts/card.py adamw mine            the boards of these submissions only
    python scripts/card.py --pack DIR            what a machine without a network needs, in pieces of at most 55 MiB
    python scripts/card.py --unpack DIR          there: puts the pieces that have come together, and checks them
    python scripts/card.py --rehearse            the same queue on a CPU, with a toy: some minutes; in a copy

The order (scripts/cards/steps.py): what the card is and can do; of each workload the step, the loop, PyTorch beside
them and a profile, then its target and three seeds of every submission's defaults; the rest of the bench; `tuned`.
Targets and boards come once a workload's shape is final (`FINAL` there). Records go to results/CARD/ (h100, h200), run
folders and logs to runs/CARD/. Each step is a process with a limit; what fails is recorded with the end of its log and
comes again last. Needs jax for its CUDA, flax, optax, orbax-checkpoint, scipy, PyYAML and flatbuffers.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cards import records, transport
from cards.estimates import Known, arithmetic
from cards.steps import Form, Step, infos, queue, submissions

from harness.campaign import plan
from harness.campaign.device import resolve_device
from harness.campaign.entries import folder_name
from harness.errors import ConfigError, HarnessError
from harness.machine import hardware, lifetime, nvml
from harness.program import discovery
from harness.record.spec import DeviceConfig

ROOT = records.ROOT
GRACE_S = 15.0  # to save and stop
TOLD, KEPT = 12, 60  # lines of a log that are shown, and kept of one that failed
STOPPED = 130
TOY = "rehearsed"


def main() -> int:
    """Do what is asked for."""
    args = parser().parse_args()
    if args.pack:
        return transport.pack(args.pack, args.mirror)
    if args.unpack:
        return transport.unpack(args.unpack)
    plan.submission_folders(args.submissions)  # an unknown name ends it here
    form = rehearsal(args) if args.rehearse is not None else on_card(args)
    if args.dry_run:
        show(form)
        return 0
    if args.minutes is None:
        if args.archive is None:
            raise ConfigError("say what to do: --minutes M, --dry-run, --archive FILE, --pack DIR or --unpack DIR")
        print(records.archive(args.archive, form.place, form.workloads))
        return 0
    with held(form.place):
        code = work(form, args.minutes, args.archive)
    show(form)
    return code


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("submissions", nargs="*", help="of the boards (default: all that are found)")
    made.add_argument("--minutes", type=float, help="work for so long; a step is begun only where it fits in")
    made.add_argument("--dry-run", action="store_true", help="print what is left and what it takes; needs no card")
    made.add_argument("--card", help="whose records --dry-run and --archive read (default: this machine's, or h200)")
    made.add_argument("--archive", type=Path, metavar="FILE", help="gather the records; with --minutes after each step")
    made.add_argument("--torch-python", default=sys.executable, help="interpreter that has torch (default: this one)")
    made.add_argument("--seed", type=int, default=0, help="of `tuned`: the nonce of its board (default: %(default)s)")
    made.add_argument("--pack", type=Path, metavar="DIR", help="write the pieces for a machine without a network")
    made.add_argument("--mirror", help="with --pack: prepare data sets that are missing from this folder or address")
    made.add_argument("--unpack", type=Path, nargs="+", metavar="DIR", help="put together the pieces in these folders")
    made.add_argument(
        "--rehearse", nargs="*", metavar="WORKLOAD", help="on a CPU: small forms (lm_books), or by default a toy"
    )
    return made


def on_card(args: argparse.Namespace) -> Form:
    """Return the form of this machine's card; where it has none, of the one named."""
    names = submissions(args.submissions)
    card = hardware.gpu_names().split(", ")[0]
    if card == "gpu" and (told := nvml.card()) is not None:  # without nvidia-smi
        card = str(told.describe()["name"])
    here = folder_name(card) if card != "gpu" else None
    if args.minutes is not None:
        resolve_device(DeviceConfig("gpu"))
        if here is None:
            raise ConfigError(
                "the card does not tell its name, after which records are kept; nvidia-smi does, on the PATH"
            )
        if args.card not in (None, here):
            raise ConfigError(f"--card {args.card}: this machine's card is {here}; a board is never mixed")
    return Form(args.card or here or "h200", card, submissions=names, torch_python=args.torch_python, seed=args.seed)


def rehearsal(args: argparse.Namespace) -> Form:
    """Return the form of a rehearsal. Raises ConfigError in a checkout, where it would write targets of toys."""
    if (ROOT / ".git").exists():
        raise ConfigError(f"--rehearse writes targets of toys; do it in a copy of {ROOT}, as --pack makes one")
    toy = ROOT / "workloads" / TOY
    if not toy.exists():
        shutil.copytree(ROOT / "scripts/cards" / TOY, toy)
    names = tuple(args.rehearse) or (TOY,)
    for name in names:
        discovery.find("workloads", name)  # an unknown name ends it here
    return Form(
        "rehearsal", "cpu", "cpu", names, submissions(args.submissions or ["adamw", "nadamw", "muon"]), ("adamw",),
        frozenset(names), ("abc", "e"), small=True, seeds=2, points=(2, 2), torch_python=args.torch_python,
    )  # fmt: skip


@contextlib.contextmanager
def held(place: str) -> Iterator[None]:
    """Be the only queue on the card. Raises ConfigError where there is another."""
    file = records.runs(place) / ".lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"another scripts/card.py works on {place}; two at once spoil both's times") from None
        yield


def work(form: Form, minutes: float, archive: Path | None) -> int:
    """Work on what is left until the time is up or nothing is left; return 0, or 130 where it was interrupted."""
    deadline = time.monotonic() + 60 * minutes - GRACE_S
    file, tried = records.results(form.place) / "queue.jsonl", set[str]()
    print(f"{form.card}: {records.take_choices(form.place)} choices of the autotuner taken up", flush=True)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    while True:
        left_s = deadline - time.monotonic()
        can = [s for s in queue(form, Known(form.place)) if not s.waits_for and s.name not in tried]
        fitting = [step for step in can if step.least_s <= left_s]
        if not fitting:
            return 0
        step = fitting[0]
        tried.add(step.name)
        print(f"== {step.name}: {step.seconds:.0f} s, {left_s:.0f} s are left", flush=True)
        line = run(step, records.runs(form.place) / "logs", left_s)
        about = {"card": form.card, "jax": hardware.packages()["jax"], "utc": records.utc()}
        records.add(file, step=step.name, key=step.key, **line, **about)
        print(f"== {step.name}: {line['status']} after {line['seconds']:.0f} s", flush=True)
        if form.device == "gpu":
            records.keep_choices(form.place)
        if archive is not None:
            records.archive(archive, form.place, form.workloads)
        if line["status"] == "interrupted":
            return STOPPED


def run(step: Step, logs: Path, left_s: float) -> dict[str, Any]:
    """Run a step within its limit and the seconds left; return what its record says of how it ended."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{step.name.replace(' ', '_')}.log"
    path = [str(ROOT), str(ROOT / "scripts"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}
    began, code, status = time.monotonic(), None, "done"
    with log.open("wb") as out:
        process = subprocess.Popen(
            step.command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            process_group=0, preexec_fn=lifetime.end_with_parent,
        )  # fmt: skip
        try:
            code = process.wait(timeout=min(step.limit_s, left_s))
            status = "done" if code == 0 else "failed"
        except subprocess.TimeoutExpired:  # of its own limit, or the time is up
            status = "failed" if step.limit_s <= left_s else "stopped"
        except KeyboardInterrupt:
            status = "interrupted"
        finally:
            end(process)
    said = log.read_text(errors="replace").splitlines()
    print("\n".join(f"   {line[:400]}" for line in said[-TOLD:]), flush=True)
    line = {"status": status, "seconds": round(time.monotonic() - began, 1), "code": code, "values": last_json(said)}
    return line if status == "done" else line | {"log": said[-KEPT:]}


def end(process: subprocess.Popen[bytes]) -> None:
    """Have a step and all that it started save and end; kill what does not."""
    for number, seconds in ((signal.SIGINT, GRACE_S), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)


def last_json(lines: list[str]) -> Any:
    """Return the object on the last line, or a list of those on the last lines; None where there is none."""
    found: list[Any] = []
    for line in reversed(lines):
        try:
            held = json.loads(line)
        except ValueError:
            break
        if not isinstance(held, dict):
            break
        found.insert(0, held)
    return found if len(found) > 1 else found[0] if found else None


def show(form: Form) -> None:
    """Print what is left, what it takes, and the arithmetic of the seeds of the defaults."""
    known = Known(form.place)
    left = queue(form, known)
    print(f"\n{len(left)} steps are left on {form.place}; their seconds are measured there, or estimated")
    for step in left:
        failed = records.newest(known.queue, step.name, step.key, "failed")
        note = f"waits for {step.waits_for}" if step.waits_for else "failed before" if failed else ""
        print(f"{step.name:40s} {f'{step.seconds:.0f}':>10s} s {step.seconds.value / 60:6.1f} min  {note}".rstrip())
    print(f"{'in all':40s} {'':12s} {sum(step.seconds.value for step in left) / 60:6.1f} min of the card")
    if held_back := [name for name in form.workloads if name not in form.final]:
        print(f"without targets and boards until their shapes are final: {', '.join(held_back)}")
    print()
    print("\n".join(arithmetic(known, infos(form), form.submissions, form.seeds)))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(STOPPED)
