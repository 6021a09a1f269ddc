"""`harness check`: a process for each submission, so that one that takes its process down is a finding too."""

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
from typing import IO, Any

from harness.campaign.launch.local import oom_kills, verdict
from harness.check import static
from harness.check.findings import Finding, Report, print_json, print_report
from harness.program import discovery
from harness.report.tables import print_line

HANG_S = 300.0
CONFORMANCE = (sys.executable, "-m", "harness.trial.conformance")
_STATIC = frozenset({"metadata", "size", "lint"})


def run(names: Sequence[str], *, as_json: bool = False, hang_s: float = HANG_S) -> int:
    """Check the submissions `names` (names or paths), print what was found, and return 0 where all passed, else 1.

    Raises ConfigError for an unknown name.
    """
    folders = [discovery.find("submissions", name) for name in names]
    reports = []
    for number, folder in enumerate(folders):
        if not as_json:
            if number:
                print_line()
            print_line(f"checking {folder.name} ({folder.path}), half a minute or so")
            sys.stdout.flush()
        reports.append(check(folder, hang_s=hang_s))
        if not as_json:
            print_report(reports[-1])
    if as_json:
        print_json(reports)
    return 0 if all(report.passed for report in reports) else 1


def check(folder: discovery.Folder, *, hang_s: float = HANG_S) -> Report:
    """Return everything that is found about one submission."""
    findings = static.look_at(folder)
    ran = set(_STATIC)
    if not any(finding.check == "metadata" and "submission.yaml" in finding.message for finding in findings):
        for answer in _answers(folder, hang_s):
            if isinstance(answer, Finding):
                findings.append(answer)
            elif "end" in answer:
                ran.add(answer["end"])
                findings += [Finding(answer["end"], text, answer["workload"]) for text in answer["findings"]]
    return Report(folder.name, str(folder.path), tuple(findings), frozenset(ran))


def _answers(folder: discovery.Folder, hang_s: float) -> Iterator[Any]:
    """Yield what the subprocess reports; where it ends before its time, a finding about what it was doing."""
    doing = {"begin": "build", "workload": ""}
    killed_before = oom_kills()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*CONFORMANCE, str(folder.path)],
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
        reason = f"no answer for {hang_s:g} s; killed: something waits without end, build or a loop in step perhaps"
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
