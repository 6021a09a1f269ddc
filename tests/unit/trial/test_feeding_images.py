"""Streamed photographs: what a step is handed is that of arrays held whole, and a trial that goes on sees the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from harness.data import get
from harness.errors import DataError
from harness.program import discovery
from harness.program.draws import Keys, draw_examples
from harness.program.streaming import StreamedData
from harness.program.workload import SMALL, Data
from harness.trial import feeding, setup
from workloads.families import imagenet

KEYS = Keys(*(jax.random.key(k) for k in range(4)))
CONTRACT = SimpleNamespace(candidates=1, batch_sizes=(8,), recalibration_batches=0)


@pytest.fixture
def resident(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw) -> Data:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    draw(tmp_path / "imagenet")
    get.get("imagenet", None, lambda *_: None, lambda _: None)
    return discovery.load_data(discovery.find("workloads", "resnet50_imagenet"), SMALL)


def streamed(resident: Data) -> StreamedData:
    fields = {field.name: getattr(resident, field.name) for field in dataclasses.fields(Data)}
    fields["splits"] = lambda: imagenet.splits(imagenet.SMALL, labels=True)
    return StreamedData(**fields, window_steps=3)


def batches(data: Data, steps: range) -> list[dict[str, np.ndarray]]:
    """Return the batches of these steps, each made of what the trial would hand its program."""
    fed, feed = feeding.feed(data, data.load(), CONTRACT, 1)
    draw, batch, made = jax.jit(draw_examples, static_argnums=(2, 3)), jax.jit(fed.batch), []
    for step in steps:
        examples, key = draw(KEYS.data, 8 * step, 8, data.info.num_train_examples)
        made.append(jax.tree.map(np.asarray, batch(feed.at(KEYS, 8 * step), examples, key)))
    feed.close()
    return made


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def test_streamed_photographs_are_those_held_whole_and_come_again_from_any_step(resident: Data) -> None:
    """Over the borders of windows (of 3 steps) and of an epoch (of 5)."""
    whole = batches(resident, range(8))
    assert whole[0]["image"].shape == (8, 32, 32, 3)
    assert not same(whole[0], whole[1])
    assert same(batches(streamed(resident), range(8)), whole)
    assert same(batches(streamed(resident), range(5, 8)), whole[5:]), "another process goes on"


def test_the_record_holds_what_a_folder_of_images_held(resident: Data, tmp_path: Path) -> None:
    assert setup.images_of(discovery.workload_info(discovery.find("workloads", "quadratic"))) == {}
    before = setup.images_of(resident.info)["images"]
    assert set(before) == {"imagenet", "pillow"}
    (tmp_path / "imagenet/index.npz").unlink()
    for path in (tmp_path / "imagenet/val/n00000003").iterdir():
        path.write_bytes(path.read_bytes() + b"more")
    get.get("imagenet", None, lambda *_: None, lambda _: None)
    assert setup.images_of(resident.info)["images"]["imagenet"] != before["imagenet"]


def test_a_photograph_that_breaks_while_it_trains_is_named(resident: Data, tmp_path: Path) -> None:
    broken = tmp_path / "imagenet/train/n00000002/train_2_04.JPEG"
    data = streamed(resident)
    splits = data.load()
    broken.write_bytes(broken.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"train_2_04.JPEG: .* when it was indexed it had"):
        feeding.feed(data, splits, CONTRACT, 1)
