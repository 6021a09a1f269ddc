"""The leaderboard: run folders to published records, and published records to the table in README.md.

`scripts/make_leaderboard.py` is the command. The table follows from the records, and the line on what is stale from the
code, rules and lock file beside them, so that a test can tell whether README.md agrees.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.campaign import config, entries
from harness.errors import ConfigError, RunFolderError
from harness.record import pack, published, run_folder
from harness.record.run_folder import Trial
from harness.report import staleness
from harness.report.scores import parts_text, rank_text, unscored_workloads
from harness.scoring import notes as remarks
from harness.scoring import score, selection, speedrun
from harness.scoring.score import Scores
from harness.scoring.standings import Standings

BEGIN = "<!-- leaderboard: written by scripts/make_leaderboard.py from results/ -->"
END = "<!-- end of the leaderboard -->"
NOTHING = "No results are published yet."


def add(runs: Iterable[Path], results: Path, suite: str | None = None) -> list[Path]:
    """Publish the trials of run folders that count, with the searches behind them; return the files written.

    Of a submission that was published before, the new trials replace the old ones; the others stay. Toys are passed
    over. Raises RunFolderError where trials are missing, unfinished or not comparable with those that are published, or
    where fresh seeds count and are not those of the board's nonce (`harness.campaign.entries`), and ConfigError where
    no suite holds the workloads and none is named.
    """
    found = [run_folder.read_trial(path) for root in runs for path in run_folder.find_trials(root)]
    if not found:
        raise RunFolderError("no run folders there; name the folder that `harness run` wrote to, as in --add runs")
    written = []
    for rules in sorted({trial.spec.rules for trial in found}):
        of_these = [trial for trial in found if trial.spec.rules == rules]
        chosen = selection.select(of_these, unscored_workloads({trial.spec.workload for trial in of_these}))
        if not chosen.trials:
            raise RunFolderError(f"rules {rules}: no trial there counts ({'; '.join(chosen.notes)})")
        toys = unscored_workloads({trial.spec.workload for trial in of_these})
        new = [trial for trial in chosen.trials if trial.spec.workload not in toys]
        if not new:
            raise RunFolderError(f"rules {rules}: only toys were run ({', '.join(sorted(toys))}), which have no board")
        if by_hand := sorted({trial.spec.submission for trial in new if trial.spec.by_hand}):
            raise RunFolderError(
                f"{', '.join(by_hand)} ran at a point that hp.NAME gave, and a board shows a submission as it stands: "
                "write the point into submission.yaml, and run that"
            )
        name = suite or _suite({trial.spec.workload for trial in new})
        file = _place(new, results, f"{name}-{rules}") / f"{name}-{rules}.jsonl"
        trials = published.merged(published.read(file) if file.exists() else [], new)
        check_board(trials, file)
        published.write(file, trials, name)
        written.append(file)
    return written


def file_of_pack(trials: Sequence[Trial], results: Path, suite: str | None = None) -> Path:
    """Return where a pack of these trials belongs. Raises RunFolderError where they are of several rulesets, or of toys
    alone, and ConfigError where no suite holds their workloads and none is named.
    """
    rules = sorted({trial.spec.rules for trial in trials})
    workloads = {trial.spec.workload for trial in trials}
    scored = workloads - unscored_workloads(workloads)
    if len(rules) != 1 or not scored:
        raise RunFolderError(
            f"a board is of one ruleset and of workloads that are scored; this pack is of {', '.join(rules)} on "
            f"{', '.join(sorted(workloads))}"
        )
    stem = f"{suite or _suite(scored)}-{rules[0]}"
    return _place(trials, results, stem) / f"{stem}{pack.SUFFIX}"


def check_board(trials: Sequence[Trial], file: Path) -> None:
    """Raise RunFolderError where what is to be published in `file` is not complete, or ran other seeds than were drawn
    for it.
    """
    if any(trial.spec.counts == "fresh_seeds" for trial in trials):
        entries.check(entries.file_of(file), trials)
    scores = score_published(trials)
    if scores.gaps or any(verdict.met is None for verdict in scores.verdicts):
        gaps = "; ".join(gap.text for gap in scores.gaps) or "runs without a verdict"
        raise RunFolderError(f"not published, trials are missing: {gaps}; `harness run` goes on with them")


def boards(results: Path) -> list[Path]:
    """Return the files of published records and the packs at or below `results`, sorted."""
    return sorted([*published.find(results), *pack.find(results)])


def read_board(file: Path) -> list[Trial]:
    """Return the trials of one of them."""
    return pack.read_trials(file) if pack.is_pack(file) else published.read(file)


def score_published(trials: Sequence[Trial]) -> Scores:
    """Score published trials; workloads with a provisional target are shown and not part of it."""
    return score.score(trials, unscored(trials))


def unscored(trials: Iterable[Trial]) -> set[str]:
    """Return the workloads that are on no leaderboard: toys, and those whose target is provisional (version 0)."""
    versions = {trial.spec.workload: trial.spec.workload_version for trial in trials}
    return unscored_workloads(versions) | {name for name, version in versions.items() if version == 0}


def what_it_shows(trials: Sequence[Trial]) -> list[str]:
    """Return what a reader has to know of a board by its rules."""
    first, told = trials[0].spec, []
    if first.counts == "fastest" and all(trial.spec.trials == 1 for trial in trials):
        told.append("each submission ran with one setting, its defaults: this shows how one shared setting transfers")
    if first.counts == "fresh_seeds":
        seeds = sorted({trial.spec.seed for trial in trials if not trial.spec.tuning})
        told.append(f"seeds follow from nonce {', '.join(map(str, seeds))}, drawn after all of them were entered")
    rules = staleness.ruleset(first.rules)
    studies = sorted({trial.spec.studies or 1 for trial in trials if not trial.spec.tuning})
    if rules and max(studies, default=0) > rules.studies:
        ran = " or ".join(map(str, studies))
        told.append(f"each ran {ran} studies, where the rules ask for {rules.studies}: who published it chose that")
    return told


def device_of(trials: Sequence[Trial]) -> str:
    """Return the folder of the machine that trials ran on (`entries.folder_of`)."""
    return entries.folder_of(trials[0].spec.device, _fingerprint(trials))


def _place(trials: Sequence[Trial], results: Path, stem: str) -> Path:
    return entries.place_of(results, trials[0].spec.device, _fingerprint(trials), stem)


def _fingerprint(trials: Sequence[Trial]) -> Mapping[str, Any]:
    return next((t.result.fingerprint for t in trials if t.result and t.result.fingerprint), {})


def section(results: Path) -> str:
    """Return the section between the markers, from all published records."""
    tables = [_table(file, results) for file in boards(results)]
    return "\n\n".join([BEGIN, *(tables or [NOTHING]), END])


def replaced(text: str, results: Path, where: str) -> str:
    """Return a README's text with the section made anew. Raises ConfigError where it has no markers."""
    head, tail = around(text, where)
    return head + section(results) + tail


def around(text: str, where: str) -> tuple[str, str]:
    """Return a README's text before and after the section. Raises ConfigError where it has no markers."""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ConfigError(f"{where}: expected the lines '{BEGIN}' and '{END}' around the leaderboard")
    return head, tail


def _suite(workloads: set[str]) -> str:
    """Return the smallest suite that holds these workloads."""
    suites = {name: config.compose([f"suite={name}"]).suite.workloads for name in config.options("suite")}
    holding = sorted((len(held), name) for name, held in suites.items() if workloads <= set(held))
    if not holding:
        raise ConfigError(
            f"no suite holds {', '.join(sorted(workloads))}; publish one suite at a time, or name the file's own with "
            "--suite NAME"
        )
    return holding[0][1]


def _table(file: Path, results: Path) -> str:
    trials = read_board(file)
    found = score_published(trials)
    place = file.relative_to(results)
    packed = file.name.endswith(pack.SUFFIX)
    suite = file.name.removesuffix(f"-{found.rules}{pack.SUFFIX}") if packed else published.suite_of(file)
    title = f"**{suite}**, rules `{found.rules}`, {_machine(trials)}"
    rows = _verdicts(found) if found.verdicts else _standings(found, found.ranking) if found.ranking else []
    if not rows:
        return f"{title}: no workload of it has a target that ranks."
    notes = [f"Times are in {found.unit}. `harness score results/{place.as_posix()}` shows it in full."]
    if found.ranking and not next(iter(found.ranking.score.values())).interval:
        notes.append("Too few seeds for an interval, so nothing is ranked: a first look.")
    notes += _chance(found.ranking) if found.ranking else []
    if shown := sorted(set(found.targets) - set(found.ranked)):
        notes += [f"Not part of the score: {', '.join(shown)} (provisional target)."] if found.ranked else []
    if any(trial.spec.program is None for trial in trials):
        notes.append("Recorded before submissions became programs.")
    notes += [f"{line[0].upper()}{line[1:]}." for line in what_it_shows(trials)]
    if found.clock:
        told = remarks.of_precision(found.cells, found.speeds, found.ranked, found.clock)
        notes += [f"{line[0].upper()}{line[1:]}." for line in told]
    if found.verdicts:
        notes.append(f"{speedrun.OWN_WORD.capitalize()}.")
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{title}\n\n{table}\n\n{' '.join(notes)}\n\n{_stale(trials)}"


def _stale(trials: Sequence[Trial]) -> str:
    """The line on what has changed since, and where what ran can be found."""
    changed = staleness.since_published(trials, bundled=True)
    if not changed:
        return "Up to date: code, versions, rules and jax are those of this folder."
    found = staleness.commits(trials)
    return f"**Stale**: {'; '.join(changed)}." + (f" What ran is in commit {' and '.join(found)}." if found else "")


def _standings(found: Scores, ranking: Standings) -> list[list[str]]:
    example = next(iter(ranking.score.values()))
    kind = " [95%]" if example.interval else " (range)" if example.range else ""
    ranked = example.interval is not None  # too few seeds for an interval are too few for a rank
    columns = ["submission", f"score{kind}", "x best", *found.ranked]
    rows = [["rank", *columns] if ranked else columns]
    for name in sorted(ranking.rank, key=lambda n: (ranking.rank[n], n)):
        one = ranking.score[name]
        spread = f" [{one.interval[0]:.3f}, {one.interval[1]:.3f}]" if one.interval else ""
        spread += f" ({one.range[0]:.3f} to {one.range[1]:.3f})" if one.range and not one.interval else ""
        cells = [
            name,
            f"{one.value:.3f}{spread}",
            _number(ranking.mean_ratio[name].value, ".3f"),
            *(_cell(found, ranking, name, workload) for workload in found.ranked),
        ]
        rows.append([rank_text(ranking, name), *cells] if ranked else cells)
    return rows


def _chance(ranking: Standings) -> list[str]:
    told = {name: parts_text(ranking.score[name]) for name in ranking.submissions}
    lines = [f"{name}: seeds drawn again reach {text}." for name, text in told.items() if text]
    if any(pair.separable is False for pair in ranking.pairs):
        lines.insert(0, "Ranks are sets: no test at 5% tells apart those that share one.")
    return lines


def _cell(found: Scores, ranking: Standings, name: str, workload: str) -> str:
    """The median time, and how many studies reached the target where not all did."""
    time = _number(ranking.time[name][workload].value)
    if workload not in found.cells[name]:
        return time
    reached = found.reached(name, workload)
    few, of = reached.split(" of ")
    return time if few == of else f"{time} ({reached} reached)"


def _verdicts(found: Scores) -> list[list[str]]:
    rows = [["workload", "submission", "steps", "runs", "mean", "p", f"target met (p < {speedrun.ALPHA:g})", "time"]]
    for one in found.verdicts:
        met = "yes" if one.met else "no"
        numbers = [str(one.steps), str(one.runs), _number(one.mean), _number(one.p), met, _number(one.time)]
        rows.append([one.workload, one.submission, *numbers])
    return rows


def _number(value: float | None, form: str = ".4g") -> str:
    return "-" if value is None or math.isinf(value) else format(value, form)


def _machine(trials: Sequence[Trial]) -> str:
    known = [trial.result.fingerprint for trial in trials if trial.result and trial.result.fingerprint]
    if not known:
        return "machine unknown"
    told = known[0]
    name = (
        f"{told.get('cpu')}, {told.get('cores')} cores" if trials[0].spec.device == "cpu" else str(told.get("device"))
    )
    jax = sorted({str((one.get("packages") or {}).get("jax")) for one in known})
    return f"{name}, jax {' and '.join(jax)}"
