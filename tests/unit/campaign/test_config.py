"""What the command line may ask for, and how each slip is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from harness.campaign import config
from harness.errors import ConfigError
from harness.record.spec import RunSpec

CONFIGS = config.folders()[0]


def test_defaults_are_the_demo_suite_under_the_quick_rules():
    run = config.compose([])
    assert (run.suite.name, run.suite.workloads) == ("demo", ("lm_grammar", "resnet_digits", "mae_digits"))
    assert (run.rules.name, run.rules.studies, run.rules.trials, run.rules.stop) == ("quick", 1, 1, "target")
    assert (run.device.platform, run.workload, run.seed, run.out, run.hp) == ("auto", None, 0, "runs", {})


def test_the_file_spells_out_every_key_with_the_default_of_the_code():
    written = yaml.safe_load((CONFIGS / "config.yaml").read_text())
    del written["defaults"]
    fields = {f.name: f for f in dataclasses.fields(RunSpec)}
    assert set(written) == set(fields) - set(config.GROUPS)
    for name, value in written.items():
        default = fields[name].default if name != "hp" else {}
        assert value == default, name


@pytest.mark.parametrize("group", config.GROUPS)
def test_every_bundled_option_composes(group):
    for name in config.options(group):
        assert isinstance(config.compose([f"{group}={name}"]), RunSpec)


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("seed=3", lambda r: r.seed, 3),
        ("device=cpu", lambda r: r.device.platform, "cpu"),
        ("rules.stop=horizon", lambda r: r.rules.stop, "horizon"),
        ("stop=horizon", lambda r: r.rules.stop, "horizon"),
        ("clock=wall", lambda r: r.rules.clock, "wall"),
        ("rules.studies=3", lambda r: r.rules.studies, 3),
        ("rules.budget_factor=2", lambda r: r.rules.budget_factor, 2.0),
        ("device.deterministic=false", lambda r: r.device.deterministic, False),
        ("suite.workloads=[a,b]", lambda r: r.suite.workloads, ("a", "b")),
        ("workload=lm_grammar", lambda r: r.workload, "lm_grammar"),
        ("workload=lm_grammar,resnet_digits", lambda r: r.workload, "lm_grammar,resnet_digits"),
        ("workload='a,b'", lambda r: r.workload, "a,b"),
        ("workload=null", lambda r: r.workload, None),
        ("hp.learning_rate=0.01", lambda r: r.hp, {"learning_rate": 0.01}),
        ("hp.steps=3", lambda r: type(r.hp["steps"]), int),
        ("hp.schedule=cosine", lambda r: r.hp, {"schedule": "cosine"}),
        ("hp.nesterov=true", lambda r: r.hp, {"nesterov": True}),
        ("hp.out=2", lambda r: r.hp, {"out": 2}),
        ("max_steps=10", lambda r: r.max_steps, 10),
        ("out=/tmp/it's (1), [x] = y\\", lambda r: r.out, "/tmp/it's (1), [x] = y\\"),
    ],
)
def test_override(override, read, value):
    assert read(config.compose([override])) == value


def test_of_two_values_the_later_wins():
    assert config.compose(["seed=1", "stop=horizon", "suite=demo", "suite=demo", "seed=2", "rules=quick"]).seed == 2


def test_a_group_chosen_late_keeps_the_fields_set_before():
    assert config.compose(["rules.stop=horizon", "rules=quick"]).rules.stop == "horizon"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("sed=1", ["unknown key 'sed'", "did you mean 'seed'?", "known keys: "]),
        ("+unknown=1", ["'+unknown=1'", "cannot be added with '+'"]),
        ("++seed=1", ["cannot be added with '+'"]),
        ("~hp", ["'~hp'", "removed with '~'"]),
        ("hydra.run.dir=x", ["Hydra's own settings"]),
        ("hydra/launcher=basic", ["Hydra's own settings"]),
        ("rules@device=quick", ["expected key=value"]),
        ("=1", ["expected key=value"]),
        ("seed", ["'seed'", "expected key=value"]),
        ("budget_factor=2", ["unknown key", "did you mean 'rules.budget_factor'?"]),
        ("rules.sto=horizon", ["unknown key 'rules.sto'", "did you mean 'stop'?"]),
        ("seed.x=1", ["seed holds a single value", "seed=VALUE"]),
        ("hp={a: 1}", ["expected hp.NAME=VALUE"]),
        ("hp.a.b=1", ["expected hp.NAME=VALUE"]),
        ("suite=demmo", ["unknown suite 'demmo'", "did you mean 'demo'?", "choices of suite: cpu, demo"]),
        ("suite=demo,x", ["unknown suite 'demo,x'"]),
        ("rules=null", ["unknown rules 'null'", "quick"]),
        ("device=h300", ["unknown device 'h300'", "did you mean 'h200'?", "auto, cpu, gpu, h100, h200"]),
        ("rules.name=other", ["choose with rules=NAME"]),
        ("seed=abc", ["seed: expected an integer, got 'abc'"]),
        ("seed=1.5", ["seed: expected an integer, got 1.5"]),
        ("seed=", ["seed: expected an integer, got ''"]),
        ("seed=-1", ["seed: expected 0 <= seed"]),
        ("retry=1", ["retry: expected true or false, got 1"]),
        ("stop=horizn", ["rules: stop", "did you mean 'horizon'?"]),
        ("max_steps=0", ["max_steps: expected a number above 0"]),
        ("rules.studies=0", ["studies: expected a number above 0"]),
        ("hang_s=inf", ["hang_s: expected a finite number"]),
        ("hp.lr=nan", ["hp.lr: expected a finite number"]),
        ("hp.lr=null", ["hp.lr: expected a number"]),
        ("hp.lr=0.1,0.2", ["'hp.lr=0.1,0.2': expected one value, got several"]),
        ("seed=[1", ["'seed=[1': the value cannot be read"]),
        ("seed=${oops}", ["oops"]),
        ("out=${oops}", ["interpolation is for configuration files"]),
        ("workload=a,,b", ["workload: expected names separated by commas"]),
    ],
)
def test_refused(override, words):
    with pytest.raises(ConfigError) as caught:
        config.compose([override])
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.fixture
def own(tmp_path: Path, monkeypatch) -> Path:
    """A working folder of the user's with a ./configs, in a path that needs quoting."""
    folder = tmp_path / "it's mine, (1)"
    for group in ("suite", "rules"):
        (folder / "configs" / group).mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder / "configs"


def test_files_of_the_users_own_are_found(own):
    (own / "suite" / "mine.yaml").write_text("name: mine\nworkloads: [one]\n")
    (own / "rules" / "strict.yaml").write_text("name: strict\nstudies: 3\n")
    run = config.compose(["suite=mine", "rules=strict", "stop=horizon"])
    assert run.suite.workloads == ("one",)
    assert (run.rules.studies, run.rules.stop, run.rules.clock) == (3, "horizon", "auto")
    with pytest.raises(ConfigError, match=r"did you mean 'mine'\? choices of suite: cpu, demo, full, gpu, mine"):
        config.compose(["suite=mime"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: mine\nstudys: 3\n", ["unknown key 'studys'", "did you mean 'studies'?"]),
        ("name: other\n", ["name: other", "make them equal"]),
        ("name: mine\nstudies: [\n", ["cannot be read"]),
        ("name: mine\nstop: ${oops}\n", ["oops"]),
        ("studies: 3\n", ["the field 'name' is missing"]),
    ],
)
def test_a_broken_file_of_the_users_own_is_refused(own, text, words):
    (own / "rules" / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.compose(["rules=mine"])
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_a_file_of_the_users_own_may_not_pass_for_a_bundled_one(own):
    copy = own / "rules" / "quick.yaml"
    copy.write_bytes((CONFIGS / "rules" / "quick.yaml").read_bytes())
    assert config.compose(["rules=quick"]).rules.studies == 1
    copy.write_text("name: quick\nstudies: 5\n")
    with pytest.raises(ConfigError, match="give it another"):
        config.compose(["rules=quick"])


def test_a_config_yaml_of_another_project_is_not_read(own):
    (own / "config.yaml").write_text("seed: 7\nmodel: big\n")
    assert config.compose([]).seed == 0


def test_hash_says_what_was_asked_for_not_how():
    assert config.compose([]).hash == config.compose(["rules=quick", "seed=0"]).hash
    assert config.compose(["stop=horizon", "seed=1"]).hash == config.compose(["seed=1", "rules.stop=horizon"]).hash
    assert config.compose([]).hash != config.compose(["seed=1"]).hash


def test_composing_leaves_no_global_state():
    from hydra.core.global_hydra import GlobalHydra

    config.compose([])
    with pytest.raises(ConfigError):
        config.compose(["seed=[1"])
    assert not GlobalHydra.instance().is_initialized()
