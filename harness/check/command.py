"""`harness check`: from folders to reports. All that runs code of a submission, or a program of it, is a process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from harness.campaign import typed
from harness.campaign.launch.local import oom_kills, verdict
from harness.check import static
from harness.check.export import Made, demo, export, export_anew, toys
from harness.check.findings import Finding, Report, print_json, print_report
from harness.machine import children
from harness.program import discovery
from harness.program.child import environment
from harness.program.submission import SubmissionInfo
from harness.report import stages
from harness.report.stages import Say
from harness.report.tables import print_line

HANG_S = 300.0
PATIENCE_S = 5.0  # off a terminal, what takes less shows no stages
CONFORMANCE = tuple(children.command("harness.trial.conformance"))


def run(names: Sequence[str], *, as_json: bool = False, hang_s: float = HANG_S) -> int:
    """Check the submissions `names` (names or paths), print what was found, and return 0 where all passed, else 1.

    Raises ConfigError for an unknown name.
    """
    folders = [typed.find(name) for name in names]
    reports = []
    for number, folder in enumerate(folders):
        if as_json:
            reports.append(check(folder, hang_s=hang_s))
            continue
        if number:
            print_line()
        made_of = (folder.path / discovery.ORIGIN).is_file()
        print_line(f"checking {folder.name} ({discovery.entry(folder.path) if made_of else folder.path})")
        with stages.shown(f"{folder.name}: ", PATIENCE_S) as say:
            reports.append(check(folder, say=say, hang_s=hang_s))
        print_report(reports[-1])
    if as_json:
        print_json(reports)
    return 0 if all(report.passed for report in reports) else 1


def debug(names: Sequence[str], workload: str | None = None) -> int:
    """Train each submission for some steps on the workload, or on a toy, in one process and with its prints; return 0,
    or the exit code of the first that fails. Nothing is checked or scored. Raises ConfigError for an unknown name.
    """
    place = discovery.find("workloads", workload) if workload else toys()[0]
    for name, folder in [(name, typed.find(name)) for name in names]:
        print_line(f"{name} on {place.name}: in one process, for debugging; nothing is checked")
        sys.stdout.flush()
        command = children.command("harness.program.debug", str(folder.path), str(place.path))
        if code := subprocess.run(command, env=environment(), check=False).returncode:
            return code
        print_line(f"what Python keeps between steps shows in `harness check {name}` alone, without --debug")
    return 0


def check(folder: discovery.Folder, *, say: Say = lambda text: None, hang_s: float = HANG_S) -> Report:
    """Return everything that is found about one submission."""
    info, findings = static.look_at(folder)
    if info is not None and info.required:
        at = [f"{name}={info.defaults[name]}" for name in info.required]
        told = f"no default: checked at {' '.join(at)}; `harness run` asks for {' '.join(f'hp.{one}' for one in at)}"
        findings.append(Finding("metadata", told, warning=True))
    found: list[Made | Finding] = list(findings)
    ran = {"metadata", "size", "advice"}
    if info is not None:
        first, *others = toys()
        found += export(folder, info, [first, *others, *demo()], say)
        ran.add("export")
        small = [one for one in found if isinstance(one, Made) and one.workload == first]
        with ThreadPoolExecutor(1) as pool:  # it waits for other processes
            for made in small:
                beside = "exporting it anew, and over its search space"
                say(f"compiling it for {first.name}; {beside}")
                anew = pool.submit(lambda made: list(export_anew(folder, info, made)), made)
                for answer in _answers(folder, info, made, hang_s):
                    if isinstance(answer, Finding):
                        found.append(answer)
                    elif "begin" in answer:
                        say(f"{answer['begin']} on {first.name}; {beside}")
                    elif "end" in answer:
                        ran.add(answer["end"])
                        found += [Finding(answer["end"], text, answer["workload"]) for text in answer["findings"]]
                say(beside)
                found += anew.result()
                ran |= {"again", "space"}
    return Report(
        folder.name,
        str(folder.path),
        tuple(one for one in found if isinstance(one, Finding)),
        frozenset(ran),
        tuple(one.facts() for one in found if isinstance(one, Made)),
        (folder.path / discovery.ORIGIN).is_file(),
    )


def _answers(folder: discovery.Folder, info: SubmissionInfo, made: Made, hang_s: float) -> Iterator[Any]:
    """Yield what the process that runs a program reports; where it ends before its time, a finding about what it was
    doing.
    """
    doing = {"begin": "training", "workload": made.workload.name}
    toy = {"workload": str(made.workload.path), "own": made.own.id, "program": made.program.id}
    request = {"submission": str(folder.path), "hyperparameters": info.defaults, "toys": [toy]}
    killed_before = oom_kills()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*CONFORMANCE, json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        assert process.stdout is not None
        late = False
        try:
            for line in _lines(process.stdout, hang_s):
                if line is None:
                    late = True
                    break
                answer = json.loads(line)
                doing = answer if "begin" in answer else doing
                yield answer
        finally:
            if late or sys.exc_info()[0] is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        log.seek(0)
        output = log.read().decode(errors="replace")
    if late:
        reason = f"no answer for {hang_s:g} s; killed: a loop in step goes on without end perhaps"
    elif process.returncode:
        ended = verdict(process.returncode, output, oom_killed=oom_kills() > killed_before)
        reason = f"the process ended: {ended[1] if ended else 'it was killed from outside'}"
    else:
        return
    yield Finding(doing["begin"], f"{folder.path}: {reason}", doing["workload"])


def _lines(stream: IO[bytes], hang_s: float) -> Iterator[bytes | None]:
    """Yield the lines of a pipe until it ends; None where nothing comes for so long."""
    rest = b""
    while True:
        if not select.select([stream], [], [], hang_s)[0]:
            yield None
            return
        chunk = os.read(stream.fileno(), 65536)
        if not chunk:
            return
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
