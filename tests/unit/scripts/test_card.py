"""The queue for a card: what is left, in which order, what it takes, how a step ends, and what is carried."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.data import store
from harness.errors import ConfigError
from harness.machine import flags
from harness.program.workload import Target

pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork:RuntimeWarning"
)  # jax warns in this process; the queue's has none
ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "card.py"


@pytest.fixture(autouse=True)
def at(monkeypatch, tmp_path):
    """Keep records below a folder of the test's own, which it returns."""
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from cards import records

    monkeypatch.setattr(records, "ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def ready(monkeypatch):
    """All data are there."""
    monkeypatch.setattr(store, "state", lambda name: ("ready", ""))


def form(**fields):
    from cards import steps

    given = {"place": "h100", "card": "NVIDIA H100 80GB HBM3", "submissions": ["adamw", "muon"]} | fields
    return steps.Form(**given)


def left(of):
    from cards import steps
    from cards.estimates import Known

    return steps.queue(of, Known(of.place))


def with_target(monkeypatch, name):
    """Give a workload a target, in memory."""
    from cards import steps

    read = steps.read_target
    target = Target(value=3.0, version=0, steps_to_target=700, reference_step_s=0.03)
    monkeypatch.setattr(steps, "read_target", lambda path: target if Path(path).parent.name == name else read(path))


def done(of, step, **more):
    from cards import records

    line = {"step": step.name, "key": step.key, "status": "done", "seconds": 10.0, "values": None} | more
    records.add(records.results(of.place) / "queue.jsonl", **line)


def test_until_a_shape_is_final_its_workload_is_measured_and_gets_neither_target_nor_board(ready):
    names = [step.name for step in left(form(final=frozenset()))]
    assert names[:5] == ["doctor", *(f"bench {row} of lm_books" for row in "abc"), "profile lm_books"]
    assert not [name for name in names if " on " in name or name.startswith(("target", "compile"))]


def test_once_it_is_final_the_target_comes_after_the_measurements_and_then_the_board(ready, monkeypatch, tmp_path):
    of = form(final=frozenset({"lm_books"}))
    queue = left(of)
    names = [step.name for step in queue]
    at = names.index("target of lm_books")
    assert names[at - 1] == "profile lm_books"
    assert names[at + 1 : at + 4] == ["compile lm_books", "adamw on lm_books", "muon on lm_books"]
    assert "target of mae_small_cifar10" not in names
    assert {step.waits_for for step in queue[at + 1 : at + 4]} == {"the target"}
    with_target(monkeypatch, "lm_books")
    compiling, *boards = left(of)[at + 1 : at + 4]
    assert (compiling.waits_for, {step.waits_for for step in boards}) == ("", {"its compilation"})
    done(of, compiling)
    assert not [step for step in left(of) if step.waits_for]
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "another machine's"))
    assert compiling.name in [step.name for step in left(of)], "nothing is compiled there"


def test_what_is_done_is_left_out_until_its_sources_or_the_card_are_others(ready):
    of = form()
    first, second, *_ = left(of)
    done(of, first), done(of, second)
    assert [step.name for step in left(of)][:2] == ["bench b of lm_books", "bench c of lm_books"]
    other = dataclasses.replace(of, card="NVIDIA H100 PCIe")
    assert left(other)[0].name == "doctor"
    assert left(other)[0].seconds.measured, "what it took is still the best guess"


def test_what_failed_comes_last_and_a_line_cut_off_by_a_kill_is_passed_over(ready):
    from cards import records

    of = form()
    done(of, left(of)[0], status="failed")
    file = records.results(of.place) / "queue.jsonl"
    with file.open("a") as out:
        out.write('{"step": "bench a of lm_b')
    assert left(of)[-1].name == "doctor"
    done(of, left(of)[0])
    assert left(of)[0].name == "bench b of lm_books"


def test_missing_data_are_waited_for(monkeypatch):
    monkeypatch.setattr(store, "state", lambda name: ("missing" if name == "cifar10" else "ready", ""))
    waits = {step.name: step.waits_for for step in left(form())}
    assert waits["bench a of lm_books"] == ""
    assert waits["bench a of resnet18_cifar10"] == "data: cifar10"


def test_the_arithmetic_is_of_measured_steps_where_there_are_any_and_says_so(ready, monkeypatch, at):
    from cards import records, steps
    from cards.estimates import Known, arithmetic

    with_target(monkeypatch, "lm_books")
    (info,) = steps.infos(form(workloads=["lm_books"]))
    assert not Known("h100").step_s("lm_books", "adamw").measured
    bench = records.results("h100") / "bench.jsonl"
    records.add(bench, row="a", workload="lm_books", values={"step_ms": 41.0, "step_ms_4_a_call": 40.0})
    records.add(bench, row="d", workload="lm_books", values={"step_over_adamw": {"muon": 1.25, "broken": None}})
    known = Known("h100")
    assert known.step_s("lm_books", "muon") == type(known.step_s("lm_books"))(0.05, True)
    assert not known.step_s("lm_books", "broken").measured
    values = {"seeds": 3, "reached": 3, "steps": [700, 650, 750], "step_ms": 50.0, "first_beside_s": 12.0, "later_beside_s": 2.0}  # fmt: skip # noqa: E501
    records.add(records.results("h100") / "queue.jsonl", step="muon on lm_books", key="", status="done", seconds=121.0, values=values)  # fmt: skip # noqa: E501
    board = Known("h100").board_s(info, "muon", 3)
    assert (board.value, board.measured) == (pytest.approx(12 + 2 * 2 + 3 * 700 * 0.05), True)
    table = "\n".join(arithmetic(Known("h100"), [info], ["adamw", "muon"], 3))
    (row,) = (line for line in table.splitlines() if line.startswith("muon on lm_books"))
    assert "est." not in row
    assert "beside a bar of 40" in table


@pytest.fixture
def step(at):
    from cards import steps
    from cards.estimates import Figure

    def make(code, seconds=1.0, limit_s=60.0, **more):
        return steps.Step("a step", "key", (sys.executable, "-c", code), Figure(seconds, False), limit_s, **more)

    return make


def test_a_step_ends_with_its_values_or_the_end_of_its_log(step, at):
    import card

    ended = card.run(step("print('x'); print('{\"ms\": 3}')"), at / "logs", 60.0)
    assert (ended["status"], ended["values"], "log" in ended) == ("done", {"ms": 3}, False)
    assert card.run(step('print(\'{"n": 1}\\n{"n": 2}\')'), at / "logs", 60.0)["values"] == [{"n": 1}, {"n": 2}]
    ended = card.run(step("print('before'); raise ValueError('no kernel')"), at / "logs", 60.0)
    assert (ended["status"], ended["code"]) == ("failed", 1)
    assert ended["log"][-1] == "ValueError: no kernel"


def test_a_step_past_its_limit_failed_and_one_that_the_time_ran_out_for_is_only_stopped(step, at, monkeypatch):
    import card

    monkeypatch.setattr(card, "GRACE_S", 0.2)
    deaf = "import signal, subprocess, sys, time; signal.signal(signal.SIGINT, signal.SIG_IGN); {}time.sleep(60)"
    child = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(61.5)']); print('{}', flush=True); "
    began = time.monotonic()
    assert card.run(step(deaf.format(child), limit_s=1.0), at / "logs", 60.0)["status"] == "failed"
    assert card.run(step("import time; time.sleep(60)"), at / "logs", 1.0)["status"] == "stopped"
    assert time.monotonic() - began < 20
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "time.sleep(61.5)" not in running, "what a step started goes with it"


def test_the_queue_goes_on_past_a_failure_and_begins_nothing_that_does_not_fit(step, at, monkeypatch, ready):
    import card
    from cards import records

    of = form(device="cpu")
    every = [step("raise SystemExit(7)"), step("print('{}')", 5000.0), step("print('{}')")]
    every = [dataclasses.replace(one, name=f"step {n}") for n, one in enumerate(every)]
    monkeypatch.setattr(card, "queue", lambda form, known: [
        one for one in every if not records.newest(known.queue, one.name, one.key)
    ])  # fmt: skip
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    file = at / "out" / "records.tar.gz"
    assert card.work(of, 2.0, file) == 0
    lines = records.read(records.results("h100") / "queue.jsonl")
    assert [(line["step"], line["status"], line["code"]) for line in lines] == [("step 0", "failed", 7), ("step 2", "done", 0)]  # fmt: skip # noqa: E501
    assert lines[0]["card"] == "NVIDIA H100 80GB HBM3"
    with tarfile.open(file) as tar:
        names = tar.getnames()
    assert {"results/h100/queue.jsonl", "runs/h100/logs/step_0.log"} <= set(names)


def test_two_at_once_are_refused(at):
    import card

    with (
        card.held("h100"),
        pytest.raises(ConfigError, match=r"another scripts/card\.py works on h100"),
        card.held("h100"),
    ):
        pass


def test_the_autotuner_s_choices_go_along_with_the_records(at, monkeypatch):
    from cards import records

    monkeypatch.setenv("HARNESS_CACHE", str(at / "one"))
    (flags.autotune_cache() / "primed").mkdir(parents=True)
    (flags.autotune_cache() / "fusion.textproto").write_text("chosen")
    (flags.autotune_cache() / "primed" / "mark").touch()
    records.keep_choices("h100")
    monkeypatch.setenv("HARNESS_CACHE", str(at / "two"))
    assert (records.take_choices("h100"), records.take_choices("h100"), records.take_choices("h200")) == (1, 0, 0)
    assert [path.name for path in flags.autotune_cache().iterdir()] == ["fusion.textproto"], "marks are of one machine"


@pytest.fixture
def packed(at, monkeypatch):
    """Two prepared sets, one of which must be cut, packed."""
    from cards import transport

    monkeypatch.setenv("HARNESS_DATA", str(at / "here"))
    for name, size in (("tinyshakespeare", 20_000), ("cifar10", 300_000)):
        (at / "here" / name).mkdir(parents=True)
        (at / "here" / name / "x.npy").write_bytes(
            b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(size // 32))
        )
    monkeypatch.setattr(store, "state", lambda name: ("ready" if (store.root() / name).exists() else "missing", ""))
    monkeypatch.setattr(store, "verify", lambda name: None)
    (at / "harness").mkdir()
    (at / "harness" / "api.py").write_text("here")
    assert transport.pack(at / "pieces", sets=["cifar10", "tinyshakespeare"], size=200_000) == 0
    return at / "pieces"


def test_pieces_hold_no_more_than_they_may_and_make_the_same_again(packed, at, monkeypatch, capsys):
    from cards import transport

    folders = sorted(packed.iterdir())
    assert len(folders) == 4
    assert all(sum(file.stat().st_size for file in folder.iterdir()) <= 200_000 for folder in folders)
    with tarfile.open(packed / "0" / "project.tar.xz") as tar:
        assert "harness/api.py" in tar.getnames()
    monkeypatch.setenv("HARNESS_DATA", str(at / "there"))
    assert transport.unpack(folders[:2]) == 1
    told = capsys.readouterr().out
    assert "cifar10: not yet, cifar10.tar.xz.1, cifar10.tar.xz.2 did not come" in told
    assert "tinyshakespeare: put into" in told
    assert transport.unpack([packed]) == 0
    assert "tinyshakespeare: is there" in capsys.readouterr().out
    for name in ("cifar10", "tinyshakespeare"):
        assert (at / "there" / name / "x.npy").read_bytes() == (at / "here" / name / "x.npy").read_bytes()
    assert sorted(path.name for path in (at / "there").iterdir()) == ["cifar10", "tinyshakespeare"]


def test_a_piece_that_was_damaged_on_the_way_is_refused_by_its_name(packed, at, monkeypatch, capsys):
    from cards import transport

    (piece,) = packed.rglob("cifar10.tar.xz.1")
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    monkeypatch.setenv("HARNESS_DATA", str(at / "there"))
    assert transport.unpack([packed]) == 1
    assert "SHA-256 of cifar10.tar.xz.1 is not that of what was packed" in capsys.readouterr().err
    assert not (at / "there" / "cifar10").exists()
    with pytest.raises(ConfigError, match="is not empty"):
        transport.pack(packed)
    with pytest.raises(ConfigError, match=r"no pieces\.json in"):
        transport.unpack([at / "there"])


def script(*words):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, cwd=ROOT, timeout=120
    )


def test_the_dry_run_lists_steps_with_minutes_and_the_arithmetic_without_a_card():
    told = script("adamw", "--dry-run", "--card", "h100")
    assert told.returncode == 0, told.stderr
    assert "steps are left on h100" in told.stdout
    assert told.stdout.splitlines()[2].split()[:4] == ["doctor", "45", "est.", "s"]
    assert "adamw on lm_books" in told.stdout
    assert "min of the card, beside a bar of 40" in told.stdout


def test_what_cannot_be_done_is_refused():
    for words, why in (
        (["adamv", "--dry-run"], "unknown submission 'adamv'; did you mean 'adamw'?"),
        ([], "say what to do: --minutes M, --dry-run"),
        (["--rehearse"], "--rehearse writes targets of toys; do it in a copy"),
    ):
        told = script(*words)
        assert (told.returncode, why in told.stderr) == (2, True), told.stderr


def test_what_is_tuned_compiles_alone_and_first_and_the_rest_side_by_side(monkeypatch, capsys):
    from cards import compiling

    trials = [
        SimpleNamespace(spec=SimpleNamespace(submission=name, workload_program="own", program=name, batch_size=8))
        for name in ("lamb", "adamw", "nadamw", "muon", "adamw")
    ]
    monkeypatch.setattr(compiling.board, "planned", lambda asked, names: SimpleNamespace(trials=trials, problems=()))
    facts = {"own": ("yardstick_step", 100), "muon": ("step_8", 150)}

    def read(program):
        name, products = facts.get(program, ("step_8", 100))
        functions = {name: SimpleNamespace(products=products)}
        return SimpleNamespace(manifest=SimpleNamespace(functions=functions))

    monkeypatch.setattr(compiling.store, "read", read)
    monkeypatch.setattr(compiling.hardware, "usable_cores", lambda: 2 * compiling.CORES)
    both, began = threading.Barrier(2), []

    def compile_one(trial, mode, way):
        name = trial.spec.submission
        began.append((name, mode, way))
        if mode == "read":
            both.wait(timeout=30)  # each of the rest waits for the other
        return {} if name == "lamb" else {"seconds": 1.0, "way": "cudnn"}

    monkeypatch.setattr(compiling, "compile_one", compile_one)
    options = json.dumps({"device": "gpu", "out": "runs"})
    assert compiling.main(["lm_books", options, "lamb", "adamw", "nadamw", "muon"]) == 1, "lamb did not compile"
    assert began[:2] == [("adamw", "update", "-"), ("muon", "update", "cudnn")]
    assert sorted(began[2:]) == [("lamb", "read", "cudnn"), ("nadamw", "read", "cudnn")]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["each_s"]["lamb"] == 0.0
