"""A board of schedules: one optimizer, AdamW, under every schedule, by the same search.

    python scripts/schedule_board.py                                        all schedules, rules=tuned, suite=demo
    python scripts/schedule_board.py linear wsd_s suite=cpu                 some of them, on another suite
    python scripts/schedule_board.py linear one_cycle rules=quick max_steps=20      a smoke test
    python scripts/schedule_board.py --dry-run                              what it would cost

Each schedule becomes a submission of its own, `adamw_NAME`: submissions/adamw_schedules with that schedule as its
default, and without the choice in its search space. So all have the same space, and the same points drawn from it. They
are written to runs-schedules/submissions, and `harness run` trains them with out=runs-schedules/runs; other words of
`harness run` can be given. The same command goes on where it was stopped, and `harness score runs-schedules/runs`
prints the table again.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

from harness.campaign import config
from harness.errors import ConfigError, HarnessError, suggest
from harness.program import discovery, submission

OF = "adamw_schedules"
PLACE = Path("runs-schedules")
README = """# adamw_{name}

AdamW under the schedule `{name}`, written by scripts/schedule_board.py from submissions/{of}: one row of a board of
schedules. The README of harness/optim has its formula and its paper, that of {of} what differs from it. Nothing
was measured yet.
"""


def main() -> int:
    """Write the submissions, and become `harness run` of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="SCHEDULE | key=value", help="as in `harness run`")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    args = parser.parse_args()
    try:
        names, words = config.split(args.words)
        folders = [write(name, PLACE / "submissions") for name in names or schedules()]
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    given = {word.partition("=")[0] for word in words}
    defaults = {"rules": "tuned", "out": str(PLACE / "runs")}
    words += [f"{key}={value}" for key, value in defaults.items() if key not in given]
    command = [sys.executable, "-m", "harness.cli", "run", *map(str, folders), *words]
    os.execv(sys.executable, [*command, *(["--dry-run"] if args.dry_run else [])])


def schedules() -> tuple[str, ...]:
    """Return the names of the schedules."""
    values = submission.read_info(discovery.find("submissions", OF)).space["schedule"].values
    return tuple(map(str, values))


def write(name: str, place: Path) -> Path:
    """Write the submission of one schedule below `place`; return its folder. Files that are as they should be stay.

    Raises ConfigError for an unknown schedule.
    """
    if name not in schedules():
        raise ConfigError(f"unknown schedule '{name}'; {suggest(name, schedules(), 'schedules')}")
    source = discovery.find("submissions", OF).path
    described = yaml.safe_load((source / "submission.yaml").read_text())
    described["name"] = f"adamw_{name}"
    described["description"] = f"AdamW under the schedule {name}"
    described["defaults"]["schedule"] = name
    del described["space"]["schedule"]
    files = {
        "submission.py": (source / "submission.py").read_text(),
        "submission.yaml": yaml.safe_dump(described, sort_keys=False, width=100),
        "README.md": README.format(name=name, of=OF),
    }
    folder = place / described["name"]
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        if not (folder / file).is_file() or (folder / file).read_text() != text:
            (folder / file).write_text(text)
    return folder.resolve()


if __name__ == "__main__":
    sys.exit(main())
