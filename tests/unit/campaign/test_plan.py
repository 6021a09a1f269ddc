"""From what was asked for to trials: which take part, which are finished, which remain, and how long they take."""

from __future__ import annotations

import dataclasses
import json
import types
from pathlib import Path

import pytest

from harness.campaign import plan
from harness.campaign.config import compose
from harness.campaign.device import resolve_device
from harness.errors import ConfigError, RunFolderError, WorkloadError
from harness.program import discovery
from harness.record import run_folder
from harness.record.result import Result, Status
from harness.record.spec import DeviceConfig
from harness.report import plan_table

WORKLOAD = """
from harness.api import LossKind
from harness.program.workload import Target, WorkloadInfo
INFO = WorkloadInfo(
    name="{name}", description="fake", metric="loss", mode="min", target=Target({target}), batch_size=8, step_hint=400,
    num_train_examples=64, loss_kind=LossKind.SOFTMAX_CROSS_ENTROPY, variants={variants},
)
"""
SET, UNSET = "0.5, 1, 300, 0.1", "None, 0, 0, 0.0"
SUBMISSION = """
name: {name}
description: fake
authors: [a]
licence: Apache-2.0
tuning: self
defaults: {{learning_rate: 0.1, warmup: 5}}
"""


def add_submission(root: Path, name: str, text: str = SUBMISSION) -> Path:
    folder = root / "submissions" / name
    folder.mkdir(parents=True)
    (folder / "submission.py").write_text("raise SystemExit('planning must not import this')\n")
    (folder / "submission.yaml").write_text(text.format(name=name))
    return folder


def add_workload(root: Path, name: str, target: str = SET, variants: tuple[str, ...] = ()) -> None:
    folder = root / "workloads" / name
    folder.mkdir(parents=True)
    (folder / "workload.py").write_text(WORKLOAD.format(name=name, target=target, variants=variants))


@pytest.fixture
def place(tmp_path: Path, monkeypatch, no_exports) -> Path:
    """A working folder with two workloads and two submissions, and nothing bundled."""
    for name in ("task_a", "task_b"):
        add_workload(tmp_path, name)
    for name in ("first", "second"):
        add_submission(tmp_path, name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discovery, "roots", lambda kind: [tmp_path / kind])
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    return tmp_path


def make(*words: str) -> plan.Plan:
    overrides = [word for word in words if "=" in word]
    if not any(word.startswith(("workload=", "suite.")) for word in words):
        overrides.append("workload=task_a,task_b")
    return plan.make_plan(compose(["device=cpu", *overrides]), [word for word in words if "=" not in word])


def finish(trial: plan.PlannedTrial, status: Status = Status.TARGET_REACHED, wall_s: float = 60.0) -> None:
    path = run_folder.prepare(trial.root, trial.spec, trial.options)
    with run_folder.hold(path) as folder:
        folder.append("attempt", attempt=1, resume_step=0)
        folder.write_result(Result(status, "because", trial.spec.id, wall_s=wall_s))


def names(trials) -> list[tuple[str, str]]:
    return [(t.spec.workload, t.spec.submission) for t in trials]


def test_no_names_means_every_submission_on_every_workload(place):
    made = make()
    assert names(made.trials) == [(w, s) for w in ("task_a", "task_b") for s in ("first", "second")]
    assert made.runnable == made.trials
    assert {t.status for t in made.trials} == {Status.PLANNED}
    assert not (place / "runs").exists()  # planning writes nothing


def test_the_suite_chooses_unless_workloads_are_named(place):
    assert {w for w, _ in names(make("suite.workloads=[task_b]").trials)} == {"task_b"}
    assert {w for w, _ in names(make("suite.workloads=[task_b]", "workload=task_a").trials)} == {"task_a"}
    assert len(make("first", "workload=task_a, task_a").trials) == 1


SPACE = SUBMISSION + "space: {{learning_rate: {{min: 0.01, max: 1, scaling: log}}, warmup: {{values: [0, 5]}}}}\n"


def test_a_point_given_by_hand_is_marked_and_no_other_experiment(place):
    marked = {words: make("first", *words).trials[0].spec for words in ((), ("hp.warmup=5",), ("hp.warmup=6",))}
    assert [spec.by_hand for spec in marked.values()] == [False, False, True]
    own = marked[("hp.warmup=6",)]
    assert dataclasses.replace(own, by_hand=False).id == own.id
    assert marked[()].id == marked[("hp.warmup=5",)].id


def test_values_outside_of_the_search_space_are_told_and_senseless_ones_refused(place):
    add_submission(place, "spaced", SPACE)
    assert make("spaced", "hp.learning_rate=0.5", "hp.warmup=0").notes == ()
    made = make("spaced", "hp.learning_rate=2", "hp.warmup=3")
    assert made.notes == (
        "spaced: hp.learning_rate=2.0 is outside of its search space (0.01 to 1)",
        "spaced: hp.warmup=3 is outside of its search space (0, 5)",
    )
    assert len(made.runnable) == 2, "it runs all the same"
    with pytest.raises(ConfigError, match=r"hp.learning_rate: got -1.0, and .* a search space from 0.01 on; if it is"):
        make("spaced", "hp.learning_rate=-1")
    assert make("first", "hp.learning_rate=-1").notes == (), "nothing is known of it"


def test_the_spec_of_a_trial(place):
    (trial,) = make("first", "workload=task_a", "seed=3", "hp.learning_rate=1", "rules.budget_factor=1.5").trials
    spec = trial.spec
    assert (spec.target, spec.step_hint, spec.batch_size, spec.reference_step_s) == (0.5, 400, 8, 0.1)
    assert spec.budget_steps == 900  # 2 x 300 steps to the target x 1.5
    assert spec.hyperparameters == {"learning_rate": 1.0, "warmup": 5}
    assert (spec.seed, spec.study, spec.trial, spec.tuning, spec.rules) == (3, 0, 0, False, "quick")
    assert (spec.device, spec.clock, spec.compile_cap_s) == ("cpu", "calibrated", 60.0)
    assert spec.workload_hash == discovery.find("workloads", "task_a").source_hash
    assert spec.submission_hash == discovery.find("submissions", "first").source_hash
    assert trial.options.submission_path == str(place / "submissions" / "first")
    assert trial.path == Path("runs") / spec.folder


def test_a_trial_over_several_devices_is_another_one_and_its_batch_is_split_evenly(place):
    one, eight, parts = (
        make("first", "workload=task_a", *words).trials[0].spec
        for words in ([], ["devices=8"], ["devices=8", "sharding=fsdp"])
    )
    assert make("first", "workload=task_a", "devices=1").trials[0].spec == one
    assert [(spec.devices, spec.sharding) for spec in (one, eight, parts)] == [
        (1, "replicated"), (8, "replicated"), (8, "fsdp"),
    ]  # fmt: skip
    assert len({one.id, eight.id, parts.id}) == 3
    told = r"^task_a: a batch of 8 examples cannot be split evenly over devices=3; choose one of 1, 2, 4, 8$"
    with pytest.raises(ConfigError, match=told):
        make("first", "workload=task_a", "devices=3")
    with pytest.raises(ConfigError, match=r"configuration: devices: expected a number above 0, got 0"):
        make("first", "workload=task_a", "devices=0")
    with pytest.raises(ConfigError, match=r"^sharding=fsdp: one device holds the whole state; add devices=N"):
        make("first", "workload=task_a", "sharding=fsdp")


def test_a_batch_of_a_program_that_cannot_be_split_is_told_before_anything_runs(place, monkeypatch):
    """A ramp begins with 4 examples: the workload's own 8 are split evenly, these are not."""
    contract = types.SimpleNamespace(batch_sizes=(4, 8))
    program = types.SimpleNamespace(manifest=types.SimpleNamespace(contract=contract))
    monkeypatch.setattr(plan.program_store, "read", lambda program_id: program)
    assert len(make("first", "workload=task_a", "devices=4").trials) == 1
    refused = make("first", "workload=task_a", "devices=8")
    assert not refused.trials
    told = "first on task_a: a batch of 4 examples cannot be split evenly over devices=8; choose one of 1, 2, 4"
    assert list(map(str, refused.problems)) == [told]


def test_equal_requests_give_equal_trials_and_any_change_another(place):
    ids = [make("first", "workload=task_a", *more).trials[0].spec.id for more in ([], ["seed=1"], ["max_steps=5"])]
    assert make("first", "workload=task_a", "checkpoint_s=1", "out=elsewhere").trials[0].spec.id == ids[0]
    (place / "submissions" / "first" / "submission.py").write_text("changed = True\n")
    assert len({*ids, make("first", "workload=task_a").trials[0].spec.id}) == 4


def test_studies_and_trials_are_all_planned(place):
    made = make("first", "workload=task_a", "rules.studies=2", "rules.trials=3")
    assert [(t.spec.study, t.spec.trial) for t in made.trials] == [(s, t) for s in range(2) for t in range(3)]
    assert len({t.spec.id for t in made.trials}) == 6


def test_finished_trials_are_not_run_again(place):
    for trial in make("first", "second").trials:
        finish(trial)
    assert make().runnable == ()
    add_submission(place, "third")  # a folder dropped in
    assert names(make().runnable) == [("task_a", "third"), ("task_b", "third")]
    assert len(make().trials) == 6  # the others stay in the plan, and in its table of scores


@pytest.mark.parametrize(
    ("status", "runnable", "retried"),
    [
        (Status.DIVERGED, False, False),
        (Status.BUDGET_EXHAUSTED, False, False),
        (Status.CRASHED, False, True),
        (Status.HUNG, False, True),
        (Status.OUT_OF_MEMORY, False, True),
        (Status.INTERRUPTED, True, True),
    ],
)
def test_what_remains_after_each_end(place, status, runnable, retried):
    finish(make("first", "workload=task_a").trials[0], status)
    assert bool(make("first", "workload=task_a").runnable) == runnable
    assert bool(make("first", "workload=task_a", "retry=true").runnable) == retried


def test_retry_moves_the_failed_folder_aside(place):
    for number in (1, 2):
        finish(make("first", "workload=task_a").trials[0], Status.CRASHED)
        (trial,) = make("first", "workload=task_a", "retry=true").trials
        assert trial.again
        path = plan.make_ready(trial)
        aside = path.with_name(f"{path.name}.failed-{number}")
        assert (aside / "result.json").exists()
        assert not (path / "result.json").exists()
    assert run_folder.find_trials(Path("runs")) == [path]
    assert run_folder.find_trials(aside) == [aside]


def test_an_interrupted_folder_is_taken_up_where_it_is(place):
    finish(make("first", "workload=task_a").trials[0], Status.INTERRUPTED)
    path = plan.make_ready(make("first", "workload=task_a", "retry=true").trials[0])
    assert len(run_folder.read_events(path)) == 2
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("words", [[], ["first", "broken"]])
def test_a_broken_submission_stops_none_of_the_others(place, words):
    add_submission(place, "broken", SUBMISSION.replace("licence", "license"))
    made = make("workload=task_a", *words)
    assert ("task_a", "first") in names(made.trials)
    assert ("task_a", "broken") not in names(made.trials)
    (problem,) = made.problems
    assert "did you mean 'licence'?" in str(problem)
    assert problem.exit_code == 1


def test_a_damaged_run_folder_stops_none_of_the_others(place):
    path = plan.make_ready(make("first", "workload=task_a").trials[0])
    (path / "spec.json").write_text("{")
    made = make("workload=task_a")
    assert names(made.trials) == [("task_a", "second")]
    assert isinstance(made.problems[0], RunFolderError)


def test_a_submission_by_path_is_found_and_named_once(place, tmp_path_factory):
    elsewhere = add_submission(tmp_path_factory.mktemp("elsewhere"), "mine")
    made = make(str(elsewhere), "./submissions/first", "first", "workload=task_a")
    assert [s for _, s in names(made.trials)] == ["mine", "first"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["frist"], r"unknown submission 'frist'; did you mean 'first'\? found submissions: first, second"),
        (["task_a"], "'task_a' is a workload; choose it with workload=task_a"),
        (["./nowhere"], "expected a file submission.py"),
        (["workload=task_c"], r"unknown workload 'task_c'; did you mean 'task_"),
        (["hp.learning_rat=1"], r"no such hyperparameter; did you mean 'learning_rate'\?"),
        (["hp.warmup=0.5"], "hp.warmup: expected int like the default 5, got 0.5"),
    ],
)
def test_slips_are_refused_before_anything_runs(place, words, message):
    with pytest.raises(ConfigError, match=message):
        make(*words)


def test_without_any_submission_it_says_where_to_put_one(place, monkeypatch):
    monkeypatch.setattr(discovery, "roots", lambda kind: [place / "workloads"] if kind == "workloads" else [])
    with pytest.raises(ConfigError, match=r"put a folder of yours in \./submissions"):
        make()


def test_a_target_that_is_not_set_refuses_runs_that_end_there(place):
    add_workload(place, "new", UNSET)
    with pytest.raises(WorkloadError, match=r"new: no target is set; run `python scripts/set_targets\.py new`"):
        make("workload=task_a,new")
    (trial,) = make("first", "workload=new", "stop=horizon").trials
    assert (trial.spec.target, trial.spec.budget_steps) == (None, 800)
    assert trial.expected_s is None


@pytest.fixture
def varied(place: Path) -> Path:
    """The same place with a workload that has variants, and with AdamW."""
    add_workload(place, "varied", variants=("wide", "batch", "small"))
    add_submission(place, "adamw")
    return place


def tasks(trials) -> list[tuple[str, str]]:
    return [(trial.spec.task, trial.spec.submission) for trial in trials]


def test_held_out_variants_run_beside_the_workload_itself_and_adamw(varied):
    made = make("first", "workload=varied", "variant=all", "hp.learning_rate=1")
    both = ("first", "adamw")
    assert tasks(made.trials) == [(f"varied+{v}", s) for v in ("unchanged", "wide", "batch") for s in both]
    assert {(t.spec.workload, t.spec.stop, t.spec.target, t.spec.horizon) for t in made.trials} == {
        ("varied", "horizon", None, 400)
    }
    assert len({trial.path for trial in made.trials}) == 6
    rates = {t.spec.submission: t.spec.hyperparameters["learning_rate"] for t in made.trials}
    assert rates == {"first": 1.0, "adamw": 0.1}, "hp.NAME is for the submission that is named"
    assert made.added == "adamw"
    named = make("first", "adamw", "workload=varied", "variant=wide, batch,wide")
    assert named.added is None
    assert tasks(named.trials) == tasks(made.trials)
    assert make("first", "workload=varied").added is None, "no variant, no comparison"


def test_smoke_tests_of_variants_and_workloads_in_small_run_alone(varied):
    assert tasks(make("first", "workload=varied", "variant=all", "max_steps=5").trials) == [
        ("varied+wide", "first"),
        ("varied+batch", "first"),
    ]
    assert tasks(make("first", "workload=varied", "variant=small").trials) == [("varied+small", "first")]


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("wider", r"varied has no variant 'wider'; did you mean 'wide'\? variants of varied: batch, small, wide"),
        ("wide,norm", r"varied has no variant 'norm'; variants of varied: batch, small, wide"),
        ("[wide,batch]", r"varied has no variant '\[wide'; did you mean 'wide'\?"),
        ("wide,small", "'small' is another model, batch and schedule, no held-out variant of varied; run it alone"),
        ("wide,,batch", "variant: expected names separated by commas, got 'wide,,batch'"),
    ],
)
def test_variants_that_are_not_there_are_refused(varied, variant, message):
    with pytest.raises(ConfigError, match=message):
        make("first", "workload=varied", f"variant={variant}")


def test_a_workload_without_variants_says_so(varied):
    with pytest.raises(ConfigError, match="variant=all: task_a has no held-out variants"):
        make("first", "workload=varied,task_a", "variant=all")
    with pytest.raises(ConfigError, match="task_a has no variant 'unchanged'; it has none"):
        make("first", "workload=task_a", "variant=unchanged")


def test_a_variant_is_expected_to_take_as_long_as_the_workload(varied):
    made = make("first", "workload=varied", "variant=batch")
    assert [t.expected_s for t in made.trials] == pytest.approx([400 * 0.1 + 8] * 2 + [2 * 400 * 0.1 + 8] * 2)


def test_the_plan_says_who_is_added(varied, capsys):
    plan_table.print_plan(make("first", "workload=varied", "variant=batch"))
    out = capsys.readouterr().out
    assert "varied+unchanged  adamw" in out
    assert "adamw is added, at its defaults: held-out variants are compared with it" in out


def test_expected_seconds_come_from_the_baseline_and_then_from_earlier_trials(place):
    def expected(*words: str) -> float | None:
        return make("second", "workload=task_a", *words).trials[0].expected_s

    assert expected() == pytest.approx(300 * 0.1 + 8)
    assert expected("stop=horizon") == pytest.approx(400 * 0.1 + 8)
    assert expected("max_steps=10") == pytest.approx(10 * 0.1 + 8)
    for seed, wall_s in enumerate((70.0, 80.0, 200.0)):
        finish(make("first", "workload=task_a", f"seed={seed}").trials[0], wall_s=wall_s)
    finish(make("first", "workload=task_a", "seed=9").trials[0], Status.CRASHED, wall_s=1.0)
    assert expected() == 80.0
    assert expected("stop=horizon") == pytest.approx(48)  # those were another kind of run


def test_what_is_printed(place):
    finish(make("first", "workload=task_a").trials[0], Status.CRASHED)
    made = make("workload=task_a")
    assert plan_table.rows(made) == [
        ("task_a", "first", "0/0", "crashed", "-"),
        ("task_a", "second", "0/0", "planned", "38s"),
    ]
    assert plan_table.total(made) == "1 of 2 trials to run, about 38s; 1 failed earlier: retry=true runs it again"
    again = make("workload=task_a", "retry=true")
    assert plan_table.rows(again)[0][3:] == ("crashed, again", "38s")
    assert plan_table.total(again) == "2 of 2 trials to run, about 1m16s"
    unknown = dataclasses.replace(again.trials[0], expected_s=None)
    assert plan_table.total(plan.Plan(again.run, (unknown, again.trials[1]), ())).endswith(
        "38s and 1 of unknown length"
    )


def test_records_that_cannot_be_read_do_not_spoil_the_guess(place):
    finish(make("first", "workload=task_a").trials[0])
    other = make("second", "workload=task_b").trials[0]
    finish(other)
    (other.path / "result.json").write_text(json.dumps({"status": "gone"}))
    assert make("second", "workload=task_a").trials[0].expected_s == 60.0


AUTO, GPU = DeviceConfig("auto"), DeviceConfig("gpu")


def resolve(config: DeviceConfig, *, plugin: bool = True, visible: bool = True) -> str:
    return resolve_device(config, importable=lambda name: plugin, visible=lambda: visible)


def test_auto_is_a_gpu_where_there_is_one(monkeypatch):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert resolve(AUTO) == resolve(GPU) == "gpu"
    assert resolve(AUTO, plugin=False) == resolve(AUTO, visible=False) == "cpu"
    assert resolve(DeviceConfig("cpu")) == "cpu"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert resolve(AUTO) == "cpu"


@pytest.mark.parametrize(
    ("facts", "variable", "message"),
    [
        ({"plugin": False}, {}, r"CUDA plugin is not installed; .*pip install -e '\.\[gpu\]'"),
        ({"visible": False}, {}, "no NVIDIA GPU is visible"),
        ({}, {"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES hides every GPU"),
        ({}, {"JAX_PLATFORMS": "cpu"}, "JAX_PLATFORMS=cpu leaves it out"),
    ],
)
def test_a_gpu_that_is_asked_for_and_absent_says_what_is_missing(monkeypatch, facts, variable, message):
    for name in ("JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        resolve(GPU, **facts)


def test_a_gpu_ranks_by_wall_time_and_has_its_own_cap(place, monkeypatch):
    monkeypatch.setattr(plan, "resolve_device", lambda config: "gpu")
    spec = make("first", "workload=task_a").trials[0].spec
    assert (spec.device, spec.clock, spec.compile_cap_s) == ("gpu", "wall", 300.0)
    assert make("first", "workload=task_a", "clock=cpu").trials[0].spec.clock == "cpu"
