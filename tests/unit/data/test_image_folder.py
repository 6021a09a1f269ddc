"""A folder of classes of JPEG files: indexed, listed, checked as it is read, decoded to arrays; and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.campaign import plan
from harness.cli import main as cli
from harness.data import image_folder, jpeg, store
from harness.errors import DataError
from harness.program import discovery

BROKEN = "train/n00000001/train_1_09.JPEG"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., None]) -> Path:
    monkeypatch.setenv("HARNESS_DATA", str(tmp_path))
    draw(tmp_path / "imagenet")
    return tmp_path / "imagenet"


def data(*words: str) -> int:
    return cli.main(["data", *words])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def test_it_is_indexed_once_and_a_changed_folder_is_noticed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.state("imagenet") == (
        "damaged",
        f"{place} is not indexed yet; index it with: harness data get imagenet",
    )
    assert data("get", "imagenet") == 0
    assert "40 in train and 32 in val, in 4 classes; 0 excluded" in capsys.readouterr().out
    index = image_folder.read(place)
    train = index.splits["train"]
    assert train.names[11] == b"train/n00000001/train_1_01.JPEG"
    assert (train.labels[11], train.sizes[11].tolist()) == (1, [64, 79])
    before = (place / "index.npz").stat().st_mtime_ns
    assert data("get", "imagenet") == 0
    assert (place / "index.npz").stat().st_mtime_ns == before
    assert data("verify", "imagenet") == 0
    assert "whole, each image as it was indexed" in capsys.readouterr().out

    (place / BROKEN).rename(place / "train/n00000001/other.JPEG")
    with pytest.raises(DataError, match=rf"1 \({BROKEN}\) gone, 1 \(train/n00000001/other.JPEG\) new"):
        store.load("imagenet")
    with pytest.raises(DataError, match=rf"^{place} has changed .* 1 \({BROKEN}\) gone"):  # what `harness run` says
        plan.check_data_of([(discovery.find("workloads", "resnet50_imagenet"), None)])
    assert data("get", "imagenet") == 3
    capsys.readouterr()
    assert data("list", "--json") == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["datasets"]}
    assert found["imagenet"]["needed_by"] == ["mae_base_imagenet", "resnet50_imagenet"]
    assert found["imagenet"]["state"] == "damaged"


def test_an_image_that_does_not_decode_is_named_and_counted_and_the_next_one_stands_for_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut(place / BROKEN)
    (place / "val/n00000002/val_2_03.JPEG").write_bytes(b"no image")
    assert data("get", "imagenet") == 3
    told = capsys.readouterr().err
    assert "2 of 72 images do not decode: train/n00000001/train_1_09.JPEG (image file is truncated" in told
    assert "val/n00000002/val_2_03.JPEG (no image)" in told
    assert not (place / "index.npz").exists()
    assert "undecodable.txt lists images that do not decode" in store.state("imagenet")[1]
    (place / "undecodable.txt").rename(place / "excluded.txt")
    assert data("get", "imagenet") == 0
    assert "2 excluded" in capsys.readouterr().out
    index = image_folder.read(place)
    assert index.excluded == (BROKEN, "val/n00000002/val_2_03.JPEG")
    assert index.splits["train"].names[19] == b"train/n00000001/train_1_00.JPEG", "after the last comes the first"
    assert index.splits["val"].names[19] == b"val/n00000002/val_2_04.JPEG"
    assert len(index.splits["train"]) == 40


def test_the_list_of_what_is_excluded_cannot_drop_images_that_decode(place: Path) -> None:
    (place / "excluded.txt").write_text(f"{BROKEN}\n")
    with pytest.raises(DataError, match=f"excluded.txt lists {BROKEN}, which decodes; take it out"):
        image_folder.make(place, jpeg.size_of, lambda *_: None, lambda _: None)


def test_a_file_that_changed_in_its_place_is_named_when_it_is_read(place: Path) -> None:
    data("get", "imagenet")
    images = jpeg.Images(image_folder.read(place).splits["train"], 32, jpeg.squeezed)
    content = (place / BROKEN).read_bytes()
    (place / BROKEN).write_bytes(content[:-9] + bytes(9))  # as long as before
    assert images[np.arange(19)].shape == (19, 32, 32, 3)
    with pytest.raises(DataError, match=rf"{BROKEN}: \d+ bytes with CRC \w+, when it was indexed it had"):
        images[np.array([3, 19])]
    assert data("verify", "imagenet") == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: shutil.rmtree(place), "cannot be downloaded here: its home is https://www.image-net.org"),
        (
            lambda place: shutil.rmtree(place / "val"),
            "no folder .*val, where images are expected as val/CLASS/NAME.JPEG",
        ),
        (
            lambda place: shutil.rmtree(place / "val/n00000003"),
            r"train has 4 folders of classes, val 3; in one alone: 1 \(",
        ),
        (
            lambda place: [path.unlink() for path in (place / "val/n00000003").iterdir()],
            "n00000003 holds no file .jpeg or",
        ),
    ],
)
def test_what_is_no_folder_of_classes_is_refused(
    place: Path, change: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(place)
    assert data("get", "imagenet") == 3
    assert re.search(said, capsys.readouterr().err)


def test_rows_are_decoded_alike_whatever_is_asked_for_beside_them_and_by_however_many_threads(place: Path) -> None:
    data("get", "imagenet")
    files = image_folder.read(place).splits["train"]
    images = jpeg.Images(files, 48, jpeg.squeezed, threads=1)
    whole = images[np.arange(40)]
    assert (whole.shape, whole.dtype) == (images.shape, images.dtype)
    rows = np.array([39, 0, 7, 7])
    assert np.array_equal(jpeg.Images(files, 48, jpeg.squeezed, threads=3)[rows], whole[rows])
    with Image.open(files.path(7)) as image:
        near = np.asarray(image.convert("RGB").resize((48, 48), Image.Resampling.BICUBIC))
    assert np.array_equal(whole[7], near)


def test_grey_cmyk_and_png_files_and_large_ones_come_as_rgb(tmp_path: Path) -> None:
    """ImageNet has all of them; large ones are decoded at a fraction of their size."""
    waves = (127 + 100 * np.sin(np.arange(900) / 90)).astype(np.uint8)
    plane = np.broadcast_to(waves[:, None, None], (900, 1200, 3))
    names = []
    for mode, format_ in (("L", "JPEG"), ("CMYK", "JPEG"), ("RGB", "PNG"), ("RGB", "JPEG")):
        names.append(f"{mode}_{format_}.JPEG")
        Image.fromarray(plane).convert(mode).save(tmp_path / names[-1], format_)
    contents = [(tmp_path / name).read_bytes() for name in names]
    assert {jpeg.size_of(content) for content in contents} == {(900, 1200)}
    files = image_folder.Files(
        tmp_path, np.array(names, "S"), np.zeros(4, np.uint16), np.zeros((4, 2), np.uint16),
        np.array([len(content) for content in contents]), np.array([zlib.crc32(content) for content in contents]),
    )  # fmt: skip
    for fit, rows in ((jpeg.squeezed, slice(0, 900)), (jpeg.central, slice(56, 844))):
        found = jpeg.Images(files, 64, fit)[np.arange(4)].astype(float)
        expected = np.asarray(Image.fromarray(plane[rows]).resize((64, 64), Image.Resampling.BICUBIC), float)
        assert abs(found - expected).max() < 6


def test_a_workload_refuses_another_folder_than_it_takes(place: Path) -> None:
    data("get", "imagenet")
    whole = discovery.load_data(discovery.find("workloads", "resnet50_imagenet"))
    with pytest.raises(DataError, match="holds 40 in train and 32 in val, in 4 classes; expected 1,281,167 training"):
        whole.load()
