"""The subprocess of `harness check`: runs a submission on every toy.

`python -m harness.trial.conformance FOLDER`. What runs is what a trial runs: exported functions, compiled by
`harness.trial.programs`, and the checkpoints of `harness.trial.checkpoints`. It writes a JSON object a line,
`{"begin": check, "workload": name}` and `{"end": check, "workload": name, "findings": [...]}`, so that the parent knows
what was being done when the submission took the process down.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from harness.errors import HarnessError
from harness.machine import flags
from harness.program import discovery, submission
from harness.program.submission import SubmissionInfo
from harness.trial import worker


def main(argv: list[str] | None = None) -> int:
    """Examine the folder named; return 0 whatever is found."""
    (path,) = sys.argv[1:] if argv is None else argv
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the submission prints is no answer
    worker.end_with_parent()
    flags.apply("cpu", deterministic=True)
    from harness.machine import backend  # and with it jax, now that its flags are set

    backend.configure_jax("cpu", compile_cache=True)
    folder = discovery.Folder("submissions", Path(path).name, Path(path))
    info = submission.read_info(folder)
    for number, (name, place) in enumerate(toys().items()):
        reporter = Reporter(answers, name, folder.path)
        examine(folder, info, place, reporter, thorough=number == 0)
    return 0


def toys() -> dict[str, discovery.Folder]:
    """Return the workloads that are not scored, by name: small ones, for tests."""
    found = discovery.find_all("workloads")
    return {name: place for name, place in found.items() if not discovery.workload_info(place).scored}


@dataclass(frozen=True)
class Reporter:
    """Where the findings on one workload go."""

    answers: IO[str]
    workload: str
    source: Path

    def check(self, name: str, look: Callable[[], Iterator[str]]) -> bool:
        """Report the findings that `look` yields, and what it raises as one more; return whether there were none."""
        self._write(begin=name)
        findings: list[str] = []
        try:
            findings += look()
        except HarnessError as error:
            findings.append(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a submission raises is a finding about it
            findings.append(worker.describe(error, self.source))
        self._write(end=name, findings=findings)
        return not findings

    def _write(self, **fields: Any) -> None:
        print(json.dumps({"workload": self.workload, **fields}), file=self.answers, flush=True)


def examine(
    folder: discovery.Folder, info: SubmissionInfo, place: discovery.Folder, report: Reporter, *, thorough: bool
) -> None:
    """Put a submission through every check on one workload; `thorough` traces a step at every point of the space."""
    import jax

    from harness.program import processes, seeds
    from harness.program.build import task_view
    from harness.program.draws import Keys
    from harness.trial.compare import counted_compilations
    from harness.trial.conformance_checks import STEPS, InputChanged, Trainer
    from harness.trial.programs import Inputs

    workload, data = discovery.load_workload(place), discovery.load_data(place)
    own = processes.workload_program(place)
    splits = data.load()
    train, validation_slice = jax.device_put((dict(splits.train), dict(splits.validation_slice)))
    inputs = Inputs(Keys(*(seeds.stream(0, 0, 0, name) for name in ("init", "data", "algorithm", "evaluation"))))
    task = task_view(workload, workload.info.budget_steps)
    trainer = Trainer(folder, info, workload, data, own, inputs, train, validation_slice, task)
    made: dict[str, Any] = {}

    def caught(function: Callable[[], Any]) -> Iterator[str]:
        """Keep the result for the checks to come, and a change of the input for the one that tells it."""
        try:
            made["result"] = function()
        except InputChanged as error:
            made["changed"] = str(error)
        yield from ()

    def training() -> Iterator[str]:
        with counted_compilations() as made["compilations"]:
            made["run"] = trainer.run(programs, STEPS)
        yield from trainer.finite(programs, *made["run"])

    def compiled_once() -> Iterator[str]:
        if count := len(made["compilations"]):
            yield (
                f"{trainer.where}: {count} more programs were compiled while it trained, and all are compiled before; "
                "start nothing that uses jax beside the training, a thread say"
            )

    if not report.check("build", lambda: caught(lambda: trainer.build(info.defaults))):
        return
    fits = "changed" in made or report.check("contract", lambda: caught(trainer.compiled))
    if not report.check("inputs", lambda: iter([made["changed"]] if "changed" in made else [])) or not fits:
        return
    programs = made["result"]
    report.check("space", lambda: trainer.space(thorough=thorough))
    if not report.check("training", training):
        return
    straight, metrics = made["run"]
    report.check("compile", compiled_once)
    report.check("control", lambda: trainer.control(programs, metrics))
    if report.check("determinism", lambda: trainer.determinism(programs, straight, thorough=thorough)):
        report.check("resume", lambda: trainer.resume(programs, straight))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
