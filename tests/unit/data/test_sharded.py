"""`harness data get fineweb --shards N`, with a toy in its place: from a mirror, gone on with, checked, refused."""

from __future__ import annotations

import dataclasses
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from harness.campaign import plan
from harness.cli import main as cli
from harness.data import fetch, sharded, store
from harness.data.specs import DATASETS
from harness.errors import DataError
from harness.program import discovery

NAMES = ("val.bin", "train_1.bin", "train_2.bin", "train_3.bin")
TOY = dataclasses.replace(
    DATASETS["fineweb"],
    name="toyweb",
    files=tuple(dataclasses.replace(DATASETS["fineweb"].files[0], name=n, mirror=(f"toyweb/{n}",), url=None, bytes=9)
                for n in NAMES),
    shards=2,
    vocabulary=100,
)  # fmt: skip


def content(n: int, *, largest: int = 99) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = 20240520, 1, 5000
    tokens = np.arange(5000) % 90 + n
    tokens[4321] = largest
    return header.tobytes() + tokens.astype("<u2").tobytes()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(DATASETS, "toyweb", TOY)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "toyweb"


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    (tmp_path / "mirror" / "toyweb").mkdir(parents=True)
    for n, name in enumerate(NAMES):
        (tmp_path / "mirror" / "toyweb" / name).write_bytes(content(n))
    return tmp_path / "mirror"


def data(*words: object) -> int:
    return cli.main(["data", *map(str, words)])


def test_the_first_shards_come_and_later_more_of_them(place, mirror, capsys):
    assert data("get", "toyweb", "--shards", 1, "--mirror", mirror) == 0
    assert sorted(path.name for path in place.glob("*.bin")) == ["train_1.bin", "val.bin"]
    before = (place / "val.bin").stat().st_mtime_ns
    with pytest.raises(DataError, match=r"2 of 3 shards .* missing is train_2.bin; .*get toyweb --shards 2"):
        sharded.paths(TOY, place, 2)
    assert data("get", "toyweb", "--shards", 2, "--mirror", mirror) == 0
    assert (place / "val.bin").stat().st_mtime_ns == before, "what is there is not got again"
    assert [path.name for path in sharded.paths(TOY, place, 2).train] == ["train_1.bin", "train_2.bin"]
    assert store.state("toyweb") == ("ready", "")
    assert data("verify", "toyweb") == 0
    assert "whole, each shard as it came" in capsys.readouterr().out


def test_a_shard_that_is_cut_off_is_gone_on_with(place, mirror, monkeypatch):
    """The first answer ends in the middle; the next call asks for the rest alone."""
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, span = self.path.rpartition("/")[2], self.headers["Range"]
            asked.append((name, span))
            whole = (mirror / "toyweb" / name).read_bytes()
            start = int(span.removeprefix("bytes=").rstrip("-")) if span else 0
            self.send_response(206 if span else 200)
            if span:
                self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
            self.send_header("Content-Length", str(len(whole) - start))
            self.send_header("ETag", '"one"')
            self.end_headers()
            cut = name == "train_1.bin" and not span
            self.wfile.write(whole[start : 6000 if cut else None])

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(fetch, "ATTEMPTS", 1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        words = "get", "toyweb", "--shards", 1, "--mirror", f"http://127.0.0.1:{server.server_port}"
        assert data(*words) == 3
        assert [path.name for path in place.glob("*.bin")] == ["val.bin"]
        assert data(*words) == 0
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert asked == [("val.bin", None), ("train_1.bin", None), ("train_1.bin", "bytes=6000-")]
    assert (place / "train_1.bin").read_bytes() == content(1)


def test_what_is_no_shard_of_the_vocabulary_is_refused_and_nothing_of_it_stays(place, mirror, capsys):
    (mirror / "toyweb" / "train_1.bin").write_bytes(content(1, largest=100))
    assert data("get", "toyweb", "--shards", 1, "--mirror", mirror) == 3
    assert "train_1.bin: token 4321 is 100, expected less than 100" in capsys.readouterr().err
    assert [path.name for path in place.glob("*.bin")] == ["val.bin"]
    (mirror / "toyweb" / "train_1.bin").write_bytes(content(1)[:-2])
    assert data("get", "toyweb", "--shards", 1, "--mirror", mirror) == 3
    assert "11022 bytes, but its header says 5000 tokens" in capsys.readouterr().err


def test_the_state_says_how_many_of_how_many_are_there(place, mirror, capsys):
    place.mkdir(parents=True)  # as after a download that brought nothing
    assert store.state("toyweb")[0] == "missing"
    data("get", "toyweb", "--shards", 1, "--mirror", mirror)
    assert store.state("toyweb", 1) == ("ready", "")
    state, why = store.state("toyweb")
    assert state == "partial" and "2 of 3 shards are in" in why and why.endswith("get toyweb --shards 2")
    capsys.readouterr()
    assert data("list", "toyweb") == 0
    assert capsys.readouterr().out.count("2 of 3 shards") == 2, "in the table, and what is missing below it"


def test_a_plan_asks_for_the_shards_of_its_variant_and_names_what_is_damaged(place, mirror, monkeypatch):
    """What `harness run` says first; the workload takes one training shard in its small form, 50 in full."""
    monkeypatch.setitem(DATASETS, "fineweb", dataclasses.replace(TOY, name="fineweb"))
    workload = discovery.find("workloads", "lm_fineweb")
    with pytest.raises(DataError, match=r"0 of 2 shards are in .*get them with: harness data get fineweb --shards 1$"):
        plan.check_data_of([(workload, "small")])
    place.parent.mkdir()
    (mirror / "toyweb").rename(place.parent / "fineweb")
    plan.check_data_of([(workload, "small")])
    (place.parent / "fineweb" / "train_3.bin").unlink()
    with pytest.raises(DataError, match=r"3 of 4 shards are in .*--shards 50$"):
        plan.check_data_of([(workload, None)])
    held = place.parent / "fineweb" / "train_1.bin"
    held.write_bytes(content(1)[:-2])
    with pytest.raises(DataError, match=r"train_1.bin: 11022 bytes, but its header says 5000 tokens, .*--shards 1$"):
        plan.check_data_of([(workload, "small")])


def test_damage_is_found_at_a_glance_or_by_the_hash(place, mirror, capsys):
    data("get", "toyweb", "--shards", 1, "--mirror", mirror)
    held = (place / "train_1.bin").read_bytes()
    (place / "train_1.bin").write_bytes(held[:-1] + b"\0" if held[-1:] != b"\0" else held[:-2] + b"\1\0")
    assert store.state("toyweb", 1)[0] == "ready"
    assert data("verify", "toyweb") == 3
    assert "when it came it was" in capsys.readouterr().err
    (place / "train_1.bin").write_bytes(held[:-8])
    assert store.state("toyweb")[0] == "damaged"
    assert data("get", "toyweb", "--shards", 1, "--mirror", mirror) == 0
    assert (place / "train_1.bin").read_bytes() == held


def test_whole_shards_that_somebody_put_there_are_taken_as_they_are(place, mirror, capsys):
    place.mkdir(parents=True)
    for name in NAMES[:2]:
        (place / name).write_bytes((mirror / "toyweb" / name).read_bytes())
    assert data("verify", "toyweb") == 3
    assert "val.bin: no hash of it is noted" in capsys.readouterr().err
    assert data("get", "toyweb", "--shards", 1) == 0, "nothing is fetched, and no address is known"
    assert f"{place / 'train_1.bin'} was there and is whole" in capsys.readouterr().out
    assert data("verify", "toyweb") == 0
    (place / "train_2.bin").write_bytes(content(2, largest=100))
    assert data("get", "toyweb", "--shards", 2) == 3
    assert set(sharded.noted(place)) == {"val.bin", "train_1.bin"}, "a token is out of the vocabulary"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("get", "toyweb"), "--shards is missing; toyweb has 3 training shards"),
        (("get", "toyweb", "--shards", 4), "--shards is 4; toyweb has 3 training shards"),
        (("get", "digits", "--shards", 1), "--shards goes with `harness data get` and a set of shards"),
        (("list", "--shards", 1), "--shards goes with"),
        (("get", "imagenet", "--mirror", "x"), "imagenet takes no --mirror, since nothing of it is downloaded"),
    ],
)
def test_numbers_of_shards_that_make_no_sense_are_refused(words, said, capsys):
    assert data(*words) == 2
    assert said in capsys.readouterr().err
