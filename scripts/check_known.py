"""Put `harness check` to everything that is known to be sound: the submissions here, the templates, and optax.

    python scripts/check_known.py                       all of it: a quarter of a minute each on 2 cores
    python scripts/check_known.py adam contrib.prodigy  those whose names end so

Each factory of optax becomes a folder with one line of code. What does not pass has its findings below the table: each
is to say why not, in a sentence that helps.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from harness.check import command, new
from harness.program import discovery

FACTORIES = {
    "adam": "optax.adam(lr)", "adamw": "optax.adamw(lr)", "sgd": "optax.sgd(lr, momentum=0.9)",
    "lion": "optax.lion(lr)", "adafactor": "optax.adafactor(lr)", "lamb": "optax.lamb(lr)", "lars": "optax.lars(lr)",
    "novograd": "optax.novograd(lr)", "rmsprop": "optax.rmsprop(lr)", "yogi": "optax.yogi(lr)",
    "adabelief": "optax.adabelief(lr)", "adan": "optax.adan(lr)", "nadamw": "optax.nadamw(lr)",
    "amsgrad": "optax.amsgrad(lr)", "radam": "optax.radam(lr)", "sm3": "optax.sm3(lr)",
    "lookahead": "optax.lookahead(optax.sgd(lr), 5, 0.5)",
    "noisy_sgd": "optax.noisy_sgd(lr)", "polyak_sgd": "optax.polyak_sgd(max_learning_rate=lr)",
    "lbfgs": "optax.lbfgs(lr)", "multi_steps": "optax.MultiSteps(optax.adam(lr), 4).gradient_transformation()",
    "injected": "optax.inject_hyperparams(optax.adamw)(learning_rate=optax.cosine_decay_schedule(lr, 100))",
    "contrib.muon": "optax.contrib.muon(lr)", "contrib.prodigy": "optax.contrib.prodigy()",
    "contrib.dadapt_adamw": "optax.contrib.dadapt_adamw(lr)",
    "contrib.schedule_free_adamw": "optax.contrib.schedule_free_adamw(lr)",
    "contrib.dog": "optax.contrib.dog(lr)", "contrib.mechanize": "optax.contrib.mechanize(optax.sgd(lr))",
    "contrib.momo": "optax.contrib.momo(lr)", "contrib.sam": "optax.contrib.sam(optax.sgd(lr), optax.sgd(0.05))",
    "contrib.cocob": "optax.contrib.cocob()", "contrib.ademamix": "optax.contrib.ademamix(lr)",
    "contrib.sophia": "optax.contrib.sophia(lr)", "contrib.galore": "optax.contrib.galore(lr, rank=4)",
    "contrib.adopt": "optax.contrib.adopt(lr)", "contrib.madgrad": "optax.contrib.madgrad(lr)",
    "contrib.reduce_on_plateau": "optax.chain(optax.adam(lr), optax.contrib.reduce_on_plateau())",
    "contrib.dpsgd": "optax.contrib.dpsgd(lr, 1.0, 1.0, seed=0)",
}  # fmt: skip
"""One line of `build` each; `lr` is the learning rate."""

README = """# {name}

{expression} as a submission of one line, to see whether `harness check` takes what optax has. Nothing was measured: it
is no entry of any table.
"""


def write(place: Path, name: str) -> Path:
    """Write a factory of optax as a submission below `place`; return its folder."""
    folder = place / name.replace(".", "_")
    folder.mkdir(parents=True)
    expression = FACTORIES[name]
    takes = "(lr" in expression or "=lr" in expression or "lr)" in expression
    source = f'"""{name} of optax."""\n\nimport optax\nimport optax.contrib\n\n\ndef build(task, hp):\n'
    source += f'    lr = hp["learning_rate"]\n    return {expression}\n' if takes else f"    return {expression}\n"
    (folder / "submission.py").write_text(source)
    fields = {
        "name": folder.name,
        "description": f"{name} of optax",
        "authors": ["the harness authors"],
        "licence": "Apache-2.0",
        "tuning": "external" if takes else "self",
        "defaults": {"learning_rate": 0.001} if takes else {},
    }
    if takes:
        fields["space"] = {"learning_rate": {"min": 1e-4, "max": 1e-2, "scaling": "log"}}
    (folder / "submission.yaml").write_text(yaml.safe_dump(fields))
    (folder / "README.md").write_text(README.format(name=folder.name, expression=expression))
    return folder


def known(place: Path) -> Iterator[tuple[str, Path]]:
    """Yield each folder with a name."""
    for name, folder in discovery.find_all("submissions").items():
        yield name, folder.path
    for template in sorted(path.name for path in new.TEMPLATES.iterdir() if path.is_dir()):
        yield f"template {template}", new.TEMPLATES / template
    for name in FACTORIES:
        yield f"optax.{name}", write(place, name)


def main() -> int:
    """Check them, and print a table; return 0 whatever is found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="those whose names end so; all if not given")
    names = tuple(parser.parse_args().names)
    print("| what | result | s | state | findings |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for name, folder in known(Path(place)):
            if names and not name.endswith(names):
                continue
            start = time.perf_counter()
            report = command.check(discovery.find("submissions", str(folder)))
            took = time.perf_counter() - start
            state = f"{max(f.state for f in report.programs):.2f}" if report.programs else "-"
            told = " / ".join(f"{f.check}: {f.message} ({len(on)})" for f, on in report.grouped())
            told = told.replace(f"{folder}/", "")
            print(f"| {name} | {'passed' if report.passed else 'FAILED'} | {took:.1f} | {state} | {told} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
