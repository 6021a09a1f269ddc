"""Published records score as the run folders they came from; README.md's leaderboard is what the records say."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.campaign import entries
from harness.check.findings import CHECKS, Finding, Report
from harness.cli import main as cli
from harness.errors import ConfigError, RunFolderError, SubmissionError
from harness.program.discovery import Folder
from harness.record import pack, plain_data, published, run_folder, search_record
from harness.record.readings import Scored
from harness.record.result import Measurement, Result, Status
from harness.record.run_folder import Trial
from harness.record.search_record import Asked, SearchRecord, SearchRun
from harness.record.spec import Options, TrialSpec
from harness.report import leaderboard, score_files
from harness.scoring import score
from harness.verify import packed_sources, publish

ROOT = Path(__file__).resolve().parents[3]
SPEC = TrialSpec(
    schema=1, workload="lm_grammar", workload_version=1, workload_hash="aaaa", metric="loss", mode="min", target=0.5,
    step_hint=600, batch_size=32, budget_steps=1000, reference_step_s=0.01, submission="adamw", submission_hash="s1",
    hyperparameters={"lr": 0.1}, rules="tuned", stop="target", clock="calibrated", score_compile=False,
    compile_cap_s=60.0, free_batch_size=True, study=0, trial=0, seed=0, tuning=False, device="cpu", deterministic=True,
    counts="fresh_seeds", studies=6, trials=1, workload_program="w", program="p",
)  # fmt: skip
NONCE = 4711
MACHINE = {
    "cpu": "Some CPU",
    "cores": 2,
    "device": "cpu",
    "packages": {"jax": "0.10.2"},
    "hashes": {"submission": "s1"},
}


def add(root: Path, seconds: float | None, **fields: Any) -> None:
    """Write a run folder that was measured three times."""
    spec = replace(SPEC, **fields)
    path = run_folder.prepare(root, spec, Options("w", "s"))
    with run_folder.hold(path) as folder:
        folder.append("attempt", attempt=1, resume_step=0)
        for step, part in (100, 0.5), (200, 1.0), (300, 1.5):
            met = seconds is not None and part >= 1.0
            time = (seconds or 40.0) * part
            at = Scored(2 * time, 3 * time, time, None)
            one = Measurement(step, 32 * step, {"loss": 0.4 if met else 0.6}, at, met)
            folder.append("measurement", **vars(one))
        status = Status.BUDGET_EXHAUSTED if seconds is None else Status.TARGET_REACHED
        folder.write_result(Result(status, "", spec.id, best=0.4, test={"loss": 0.45}, fingerprint=MACHINE))


def search(root: Path, workload: str, name: str) -> None:
    """Write a search that chose the second of two points."""
    points = tuple({"lr": (number + 1) / 10} for number in range(2))
    runs = tuple(
        SearchRun(
            workload, "", name, "", "tuning", point, 0, study, "running", (900 - 100 * n,), (0.4,), 9.0, "", "w", "p"
        )
        for n, point in enumerate(points)
        for study in range(3)
    )
    asked = Asked(name, workload, "loss", "min", 0.5, (150, 300), 1000, points)
    search_record.write(search_record.file_of(root / workload / name), SearchRecord(asked, runs))


def campaign(root: Path, *names: str, workloads: tuple[str, ...] = ("lm_grammar", "mae_digits"), **fields: Any) -> Path:
    """A search of two points and six fresh seeds each; the later a name, the slower."""
    for n, name in enumerate(names):
        for workload in workloads:
            about = {"submission": name, "workload": workload} | fields
            search(root, workload, name)
            for study in range(6):
                about = {"seed": NONCE} | about
                add(root, 10.0 * (n + 1) + study / 10, hyperparameters={"lr": 0.2}, study=study, **about)
    return root


def enter(results: Path, *names: str, nonce: int | None = NONCE, **fields: Any) -> Path:
    """Enter these submissions with the points and programs that `campaign` runs."""
    points = tuple(entries.Point({"lr": lr}, "p") for lr in (0.1, 0.2))
    every = tuple(
        replace(entries.Entry(name, "s1", workload, "aaaa", "w", points), **fields)
        for workload in ("lm_grammar", "mae_digits", "resnet_digits")
        for name in names
    )
    file = results / "cpu" / "demo-tuned.entries.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    held = entries.Entries("demo", "tuned", "cpu", every, nonce, "2026-11-28" if nonce else None)
    file.write_text(json.dumps(plain_data.to_plain(held)))
    return file


def trials_of(root: Path) -> list[Trial]:
    return [run_folder.read_trial(path) for path in run_folder.find_trials(root)]


def test_readme_shows_what_is_published() -> None:
    text = (ROOT / "README.md").read_text()
    assert leaderboard.replaced(text, ROOT / "results", "README.md") == text, "run python scripts/make_leaderboard.py"


def test_published_files_are_small_and_of_their_place() -> None:
    for file in published.find(ROOT / "results"):
        trials = published.read(file)
        searches = {(t.spec.workload, t.spec.submission): len(t.search.runs) for t in trials if t.search}
        assert file.stat().st_size < 2500 * (len(trials) + sum(searches.values())) + 5000
        assert file.parent.name in ("cpu", leaderboard.device_of(trials)), "cpu: begun when all processors shared it"
        assert file.stem == f"{published.suite_of(file)}-{trials[0].spec.rules}"


def test_nothing_is_published_yet_without_records(tmp_path: Path) -> None:
    assert leaderboard.NOTHING in leaderboard.section(tmp_path)
    assert leaderboard.NOTHING in leaderboard.section(tmp_path / "nowhere")


def test_records_score_as_their_run_folders(tmp_path: Path) -> None:
    runs = campaign(tmp_path / "runs", "adamw", "muon")
    enter(tmp_path / "results", "adamw", "muon")
    (file,) = leaderboard.add([runs], tmp_path / "results")
    assert file == tmp_path / "results" / "cpu" / "demo-tuned.jsonl"
    before, after = (score_files.as_json(score.score(trials)) for trials in (trials_of(runs), published.read(file)))
    assert after == before
    assert before["scores"]["adamw"]["low"] is not None, "six studies: an interval"
    assert len(before["tuning"]) == 4, "which point won, and against which, is published too"
    first, second = published.read(file)[0], file.read_text()
    published.write(file, reversed(published.read(file)), "demo")
    assert file.read_text() == second, "the order they come in does not matter"
    assert first.result is not None
    assert first.result.fingerprint == {k: v for k, v in MACHINE.items() if k != "hashes"}
    assert file.stat().st_size < 2500 * len(published.read(file))


def test_another_campaign_replaces_its_submissions_alone(tmp_path: Path) -> None:
    results = tmp_path / "results"
    enter(results, "adamw", "muon", "lamb")
    leaderboard.add([campaign(tmp_path / "one", "adamw", "muon")], results)
    (file,) = leaderboard.add([campaign(tmp_path / "two", "muon", submission_hash="s2")], results)
    trials = published.read(file)
    assert {(t.spec.submission, t.spec.submission_hash) for t in trials} == {("adamw", "s1"), ("muon", "s2")}
    assert len(trials) == 24
    assert all(trial.search is not None for trial in trials), "the searches of both"
    with pytest.raises(RunFolderError, match="reference_step_s of lm_grammar"):
        leaderboard.add([campaign(tmp_path / "three", "lamb", reference_step_s=0.02)], results)
    assert published.read(file)[0].spec == trials[0].spec


def test_what_is_not_complete_is_not_published(tmp_path: Path) -> None:
    runs = campaign(tmp_path / "runs", "adamw")
    last = next(runs.glob("mae_digits/adamw/study5-*"))
    shutil.rmtree(last)
    board = enter(tmp_path / "results", "adamw")
    with pytest.raises(RunFolderError, match=r"not published, trials are missing: adamw on mae_digits: 1 of 6 trials"):
        leaderboard.add([runs], tmp_path / "results")
    with pytest.raises(RunFolderError, match="no run folders there"):
        leaderboard.add([tmp_path / "nothing"], tmp_path / "results")
    add(tmp_path / "smoke", 9.0, max_steps=5)
    with pytest.raises(RunFolderError, match="smoke tests are never ranked"):
        leaderboard.add([tmp_path / "smoke"], tmp_path / "results")
    with pytest.raises(RunFolderError, match="only toys were run"):
        leaderboard.add([campaign(tmp_path / "toy", "adamw", workloads=("quadratic",))], tmp_path / "results")
    with pytest.raises(ConfigError, match="no suite holds lm_grammar, w9"):
        leaderboard.add([campaign(tmp_path / "odd", "adamw", workloads=("lm_grammar", "w9"))], tmp_path / "results")
    assert list((tmp_path / "results").rglob("*.*")) == [board]


def test_the_table_by_hand(tmp_path: Path) -> None:
    results = tmp_path / "results"
    runs = campaign(tmp_path / "runs", "adamw", "muon")
    campaign(runs, "adamw", "muon", workloads=("resnet_digits",), workload_version=0)
    enter(results, "adamw", "muon")
    leaderboard.add([runs], results)
    lines = leaderboard.section(results).splitlines()
    assert lines[2] == "**demo**, rules `tuned`, Some CPU, 2 cores, jax 0.10.2"
    assert lines[4] == "| rank | submission | score [95%] | x best | lm_grammar | mae_digits |"
    assert lines[6].startswith("| 1 | adamw | 1.000 [1.000, 1.000] | 1.000 | 10.25 | 10.25 |")
    assert lines[7].split(" | ")[1:2] + lines[7].split(" | ")[3:] == ["muon", "1.976", "20.25", "20.25 |"]
    assert "Not part of the score: resnet_digits (provisional target)." in lines[9]
    assert "harness score results/cpu/demo-tuned.jsonl" in lines[9]
    assert "Seeds follow from nonce 4711, drawn after all of them were entered." in lines[9]
    assert lines[11].startswith("**Stale**: the code of adamw, muon has changed since; ")


def test_score_reads_published_records(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    campaign(Path("runs"), "adamw", "muon")
    enter(Path("results"), "adamw", "muon")
    leaderboard.add([Path("runs")], Path("results"))
    shutil.rmtree("runs")
    assert cli.main(["score", "results/cpu", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    board = leaderboard.section(Path("results"))
    for name, one in data["scores"].items():
        assert f"| {name} | {one['score']:.3f} [{one['low']:.3f}, {one['high']:.3f}] |" in board
    campaign(Path("mine"), "newcomer")
    assert cli.main(["score", "results/cpu/demo-tuned.jsonl", "mine", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["scores"]) == {"adamw", "muon", "newcomer"}
    campaign(Path("looks"), "newcomer", rules="quick", counts="fastest")
    assert cli.main(["score", "results/cpu/demo-tuned.jsonl", "mine", "looks"]) == 2
    assert "--rules quick" in capsys.readouterr().err
    for rules, expected in (("tuned", {"adamw", "muon", "newcomer"}), ("quick", {"newcomer"})):
        words = ["score", "results/cpu/demo-tuned.jsonl", "mine", "looks", "--json", "--rules", rules]
        assert cli.main(words) == 0
        assert set(json.loads(capsys.readouterr().out)["scores"]) == expected
    assert cli.main([*words[:-1], "external"]) == 2
    assert "no run by rules external" in capsys.readouterr().err
    leaderboard.add([campaign(Path("other"), "adamw", rules="external", counts="fastest")], Path("results"))
    assert cli.main(["score", "results"]) == 0
    out = capsys.readouterr().out
    second = "results/some-cpu-2-cores/demo-external.jsonl\nruleset external"
    assert out.index("results/cpu/demo-tuned.jsonl\nruleset tuned") < out.index(second)
    assert cli.main(["score", "results", "--json"]) == 2
    assert "2 files of published records are scored one by one; name one of them" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "text", "message"),
    [
        (3, "{", "line 3 is damaged"),
        (3, '{"spec": {}}', "line 3: spec: the field 'schema' is missing"),
        (2, "", "line 2 is damaged"),
        (1, '{"kind": "published trials", "schema": 2, "suite": "demo"}', "of schema 1, got .* of schema 2"),
    ],
)
def test_damaged_records_are_named(tmp_path: Path, number: int, text: str, message: str) -> None:
    enter(tmp_path / "results", "adamw")
    (file,) = leaderboard.add([campaign(tmp_path / "runs", "adamw")], tmp_path / "results")
    lines = file.read_text().splitlines()
    lines[number - 1] = text
    file.write_text("\n".join(lines))
    with pytest.raises(RunFolderError, match=message):
        published.read(file)


def test_other_files_are_no_published_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"workload": "x"}\n')
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "c.jsonl").write_text("[1]\n")
    assert published.find(tmp_path) == []


def test_the_script(tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    campaign(tmp_path / "runs", "adamw", "muon", workloads=("lm_grammar",))
    monkeypatch.setattr(publish, "check_submissions", lambda folders: None)
    monkeypatch.setattr(packed_sources, "of_records", lambda every: {})
    readme, results = tmp_path / "README.md", tmp_path / "results"
    readme.write_text(f"before\n{leaderboard.BEGIN}\n\nold\n\n{leaderboard.END}\nafter\n")
    enter(results, "adamw", "muon")
    script = runpy.run_path(str(ROOT / "scripts" / "make_leaderboard.py"))

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["make", "--results", str(results), "--readme", str(readme), *words])
        return int(script["main"]())

    assert call("--check") == 1
    for bad in (tmp_path / "nowhere.md", tmp_path, tmp_path / "runs/lm_grammar/without_markers.md"):
        (tmp_path / "runs/lm_grammar/without_markers.md").write_text("no markers")
        assert call("--readme", str(bad), "--add", str(tmp_path / "runs")) == 2
        assert str(bad) in capsys.readouterr().err
        assert list(results.rglob("*.jsonl")) == [], "nothing is published before the README is found"
    assert call("--add", str(tmp_path / "runs")) == 2
    assert "is no entry by the rules tuned: studies=6 (the rules have 7); run it without" in capsys.readouterr().err
    monkeypatch.setattr(publish, "check_rules", lambda record: None)
    assert call("--add", str(tmp_path / "runs")) == 0
    assert "| 1 | adamw |" in readme.read_text()
    assert readme.read_text().startswith("before\n")
    assert readme.read_text().endswith("after\n")
    assert call("--check") == 0
    readme.write_text("no markers")
    assert call() == 2
    assert "expected the lines" in capsys.readouterr().err


def test_too_few_seeds_for_an_interval_are_too_few_for_a_rank() -> None:
    text = leaderboard.section(ROOT / "results")
    head, _, *first_look = text[text.index("rules `quick`") :].split("\n\n")[1].splitlines()
    assert first_look, "the committed records hold a campaign of three studies"
    assert head.startswith("| submission | score (range) |"), "no rank stands before it"
    assert "separable" not in head
    assert "Each ran 3 studies, where the rules ask for 1" in text


def test_a_board_of_fresh_seeds_takes_what_was_entered_before_its_nonce(tmp_path: Path) -> None:
    results, number = tmp_path / "results", iter(range(99))

    def publish(**fields: Any) -> list[Path]:
        return leaderboard.add([campaign(tmp_path / f"runs{next(number)}", "adamw", **fields)], results)

    with pytest.raises(RunFolderError, match=r"demo-tuned.entries.json: No such file .*--enter NAME"):
        publish()
    file = enter(results, "adamw", nonce=None)
    with pytest.raises(RunFolderError, match=r"has no nonce yet; commit it, then .* --draw .*entries.json"):
        publish()
    enter(results, "adamw")
    command = "harness run adamw rules=tuned suite=demo device=cpu seed=4711"
    with pytest.raises(RunFolderError, match=rf"ran with seed=0, and the nonce of its board is 4711; run `{command}"):
        publish(seed=0)
    with pytest.raises(RunFolderError, match=r"adamw on lm_grammar ran another program than was entered; .*git rm"):
        publish(program="q")
    with pytest.raises(RunFolderError, match="program of lm_grammar is not the one that was entered"):
        publish(workload_program="v")
    enter(results, "muon")
    with pytest.raises(RunFolderError, match="adamw on lm_grammar is not entered; what comes later takes a new round"):
        publish()
    enter(results, "adamw", points=(entries.Point({"lr": 0.1}, "p"),))
    with pytest.raises(RunFolderError, match="adamw on lm_grammar ran another point than was entered"):
        publish()
    assert list(results.rglob("*.jsonl")) == []
    enter(results, "adamw")
    assert publish()[0] == entries.file_of(file).with_name("demo-tuned.jsonl")


def test_no_board_takes_an_experiment_by_hand(tmp_path: Path) -> None:
    root = campaign(tmp_path / "runs", "adamw", by_hand=True)
    with pytest.raises(RunFolderError, match=r"adamw ran at a point that hp\.NAME gave, .* submission\.yaml"):
        leaderboard.add([root], tmp_path / "results")


def test_published_boards_of_fresh_seeds_were_entered() -> None:
    for file in published.find(ROOT / "results"):
        trials = published.read(file)
        if trials[0].spec.counts == "fresh_seeds":
            entries.check(entries.file_of(file), trials)


# ---- packs, and a board for each machine ----


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "check_submissions", lambda folders: list(folders))


def packed(runs: Path, file: Path, **about: Any) -> Path:
    """A pack of fake runs, without programs or sources."""
    members = {
        f"trials/{path.relative_to(runs).as_posix()}": path.read_bytes()
        for path in runs.rglob("*.json*")
        if path.suffix in (".json", ".jsonl")
    }
    names = sorted({trial.spec.submission for trial in trials_of(runs)})
    sources = tuple(pack.Source(name, "s1", f"submissions/{name}-s1/{name}", None) for name in names)
    held = {"cpu": "Some CPU", "cores": 2}
    made = pack.About("0.1.0", {"jax": "0.10.2", "jaxlib": None}, "cpu", held, ("tuned",), sources, states=False)
    pack.write(file, replace(made, **about), members)
    return file


def test_a_pack_scores_as_its_run_folders_and_makes_the_same_table(tmp_path: Path, passing: None) -> None:
    runs, results = campaign(tmp_path / "runs", "adamw", "muon"), tmp_path / "results"
    file = packed(runs, tmp_path / "mine.tar.xz")
    found = pack.read_trials(file)
    before, after = (score_files.as_json(score.score(trials)) for trials in (trials_of(runs), found))
    assert after == before
    assert str(found[0].path).startswith(f"{file}:trials/lm_grammar/")
    enter(results, "adamw", "muon")
    (board,) = publish.add([file], results)
    assert board == results / "cpu" / "demo-tuned.tar.xz", "where its round was begun"
    packs = leaderboard.section(results).replace("tar.xz", "jsonl")
    board.unlink()
    leaderboard.add([runs], results)
    assert leaderboard.section(results) == packs


def test_a_pack_takes_its_place_among_those_of_its_machine(tmp_path: Path, passing: None) -> None:
    results, quick = tmp_path / "results", {"rules": "quick", "counts": "fastest", "seed": 0}
    one = packed(campaign(tmp_path / "one", "adamw", "muon", **quick), tmp_path / "one.tar.xz", rules=("quick",))
    (board,) = publish.add([one], results)
    assert board == results / "some-cpu-2-cores" / "demo-quick.tar.xz"
    two = packed(campaign(tmp_path / "two", "lamb", **quick), tmp_path / "two.tar.xz", rules=("quick",))
    assert publish.add([two], results) == [board]
    assert {t.spec.submission for t in pack.read_trials(board)} == {"adamw", "lamb", "muon"}
    assert leaderboard.boards(results) == [board]
    slower = campaign(tmp_path / "three", "x", "muon", **quick)
    shutil.rmtree(slower / "lm_grammar" / "x")
    shutil.rmtree(slower / "mae_digits" / "x")
    three = packed(slower, tmp_path / "three.tar.xz", rules=("quick",))
    publish.add([three], results)
    (muon, *_) = [t for t in pack.read_trials(board) if t.spec.submission == "muon"]
    assert muon.hit is not None
    assert muon.hit.scored.calibrated == 20.0, "the newer one, which was run beside another"
    assert len(pack.read_trials(board)) == 36


def test_another_processor_has_a_board_of_its_own(tmp_path: Path, monkeypatch, passing: None) -> None:
    """What was published for one before boards had machines stays in `cpu`."""
    results, quick = tmp_path / "results", {"rules": "quick", "counts": "fastest", "seed": 0}
    monkeypatch.setattr(leaderboard, "_place", lambda trials, results, stem: results / "cpu")
    leaderboard.add([campaign(tmp_path / "one", "adamw", **quick)], results)
    monkeypatch.undo()
    monkeypatch.setattr(publish, "check_submissions", lambda folders: list(folders))
    leaderboard.add([campaign(tmp_path / "two", "muon", **quick)], results)
    assert {t.spec.submission for t in published.read(results / "cpu" / "demo-quick.jsonl")} == {"adamw", "muon"}
    other = campaign(tmp_path / "three", "adamw", **quick)
    for file in other.rglob("result.json"):
        file.write_text(file.read_text().replace("Some CPU", "Other CPU (R) @ 3 GHz"))
    (new,) = leaderboard.add([other], results)
    assert new == results / "other-cpu-r-3-ghz-2-cores" / "demo-quick.jsonl"
    file = packed(other, tmp_path / "x.tar.xz", rules=("quick",), machine={"cpu": "Other CPU (R) @ 3 GHz", "cores": 2})
    assert publish.add([file], results) == [new.with_suffix(".tar.xz")]
    text = leaderboard.section(results)
    assert text.count("Other CPU (R) @ 3 GHz, 2 cores") == 2
    assert text.count("Some CPU, 2 cores") == 1


def test_what_check_has_findings_about_is_on_no_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, quick = tmp_path / "results", {"rules": "quick", "counts": "fastest", "seed": 0}
    runs = campaign(tmp_path / "runs", "adamw", **quick)
    with pytest.raises(RunFolderError, match="the sources of adamw are gone from s; put them back"):
        publish.add([runs], results)
    adamw = Folder("submissions", "adamw", Path("x"))
    monkeypatch.setattr(packed_sources, "of_records", lambda every: {("adamw", "s1"): adamw})
    failing = Report("adamw", "x", (Finding("determinism", "x/submission.py: run twice"),), frozenset(CHECKS))
    monkeypatch.setattr(publish, "check", lambda folder: failing)
    for place in (runs, packed(runs, tmp_path / "x.tar.xz", rules=("quick",))):
        with pytest.raises(
            SubmissionError, match=r"is not published: .* fails determinism: x/submission.py: run twice"
        ):
            publish.add([place], results)
    assert not results.exists()


def test_a_pack_that_belongs_on_no_board_changes_none(tmp_path: Path, passing: None) -> None:
    results, quick = tmp_path / "results", {"rules": "quick", "counts": "fastest", "seed": 0}
    toys = packed(campaign(tmp_path / "toys", "adamw", workloads=("quadratic",), **quick), tmp_path / "toys.tar.xz")
    with pytest.raises(RunFolderError, match="a board is of one ruleset and of workloads that are scored"):
        publish.add([toys], results)
    runs = campaign(tmp_path / "runs", "adamw", **quick)
    shutil.rmtree(next(runs.glob("mae_digits/adamw/study5-*")))
    with pytest.raises(RunFolderError, match="missing are adamw on mae_digits by quick, seed=0: study 5"):
        publish.add([packed(runs, tmp_path / "part.tar.xz")], results)
    tuned = packed(campaign(tmp_path / "late", "adamw"), tmp_path / "late.tar.xz")
    with pytest.raises(RunFolderError, match=r"demo-tuned.entries.json: No such file"):
        publish.add([tuned], results)
    assert not list(results.rglob("*.*"))
