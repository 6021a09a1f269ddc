"""A pack holds what was put into it, and a byte that is another one is noticed wherever it stands."""

from __future__ import annotations

import io
import lzma
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import RunFolderError
from harness.record import pack
from harness.record.pack import About, Members, Source

ABOUT = About(
    harness="0.1.0", loads_with={"jax": "0.10.2", "jaxlib": "0.10.2"}, device="cpu",
    machine={"cpu": "Some CPU", "cores": 2}, rules=("quick",),
    submissions=(Source("mine", "abc", "submissions/mine-abc/mine", {"commit": "0" * 40, "dirty": True}),),
    states=False,
)  # fmt: skip
MEMBERS = {
    "trials/w/mine/study0-trial0-0123456789/spec.json": b"{}",
    "trials/w/mine/study0-trial0-0123456789/log.jsonl": b'{"v": 1}\n' * 50,
    "programs/" + 64 * "f" + "/evaluate_validation_slice.mlir": bytes(range(256)),
    "submissions/mine-abc/mine/submission.py": b"def build(task, hp): ...\n",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pack.write(tmp_path / "mine.tar.xz", ABOUT, MEMBERS)
    return tmp_path / "mine.tar.xz"


def rewritten(file: Path, members: Members, about: bytes | None = None) -> Path:
    """Write an archive of these members with the manifest as it was, or as it is given."""
    _, held = pack.read(file)
    assert held == MEMBERS
    text = about or tarfile.open(file).extractfile(pack.MANIFEST).read()  # type: ignore[union-attr]
    other = file.with_name("other.tar.xz")
    other.write_bytes(lzma.compress(pack._tar(text, members)))
    return other


def test_what_goes_in_comes_out(file: Path, tmp_path: Path) -> None:
    about, members = pack.read(file)
    assert members == MEMBERS
    assert replace(about, files={}, content="") == ABOUT
    assert set(about.files) == set(MEMBERS)
    backwards = dict(reversed(MEMBERS.items()))
    again = pack.write(tmp_path / "again.tar.xz", ABOUT, backwards)
    assert again == about
    assert (tmp_path / "again.tar.xz").read_bytes() == file.read_bytes(), "the order they come in does not matter"
    with pack.unpacked(file) as (_, folder):
        found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert found == MEMBERS
    assert not folder.exists()
    assert pack.find(tmp_path) == [tmp_path / "again.tar.xz", file]
    with tarfile.open(file) as tar:
        assert {(one.mtime, one.uid, one.gid, one.uname) for one in tar} == {(0, 0, 0, "")}


def test_a_byte_of_the_archive_that_changes_is_noticed(file: Path) -> None:
    data = file.read_bytes()
    draw = random.Random(0)
    places = {*range(80), *range(len(data) - 80, len(data)), *draw.sample(range(len(data)), 150)}
    for place in sorted(places):
        changed = bytearray(data)
        changed[place] ^= draw.choice([1, 2, 4, 8, 16, 32, 64, 128, 255])
        file.write_bytes(changed)
        with pytest.raises(RunFolderError, match=str(file)):
            pack.read(file)
    for longer in (data + b"\0" * 4, data + data, data[:-1], b""):
        file.write_bytes(longer)
        with pytest.raises(RunFolderError, match=r"no pack, or damaged|follow its end|ends too early"):
            pack.read(file)


def test_a_byte_of_any_member_that_changes_is_noticed(file: Path) -> None:
    """The archive being whole."""
    for name, held in MEMBERS.items():
        for place in (0, len(held) // 2, len(held) - 1):
            changed = bytearray(held)
            changed[place] ^= 1
            with pytest.raises(RunFolderError, match=f"{name} is not what the manifest says"):
                pack.read(rewritten(file, MEMBERS | {name: bytes(changed)}))
    with pytest.raises(RunFolderError, match=r"more.txt is in the manifest or in the pack alone"):
        pack.read(rewritten(file, MEMBERS | {"more.txt": b""}))
    with pytest.raises(RunFolderError, match=r"in the manifest or in the pack alone"):
        pack.read(rewritten(file, dict(list(MEMBERS.items())[1:])))


def test_a_byte_of_the_manifest_that_changes_is_noticed(file: Path) -> None:
    text = tarfile.open(file).extractfile(pack.MANIFEST).read()  # type: ignore[union-attr]
    for place in range(0, len(text), 11):
        changed = bytearray(text)
        changed[place] ^= 1
        with pytest.raises(RunFolderError, match=r"is damaged|is no pack"):
            pack.read(rewritten(file, MEMBERS, bytes(changed)))


def test_the_tar_is_the_one_that_packs_have(file: Path, tmp_path: Path) -> None:
    data = bytearray(lzma.decompress(file.read_bytes()))
    where = data.index(b"0000644")
    for place, other in ((where + 5, b"7"), (329, b"1"), (len(data) - 1, b"x")):
        changed = data.copy()
        changed[place : place + 1] = other
        if place < 512:  # of the first header: with its checksum set right
            header = changed[:148] + b" " * 8 + changed[156:512]
            changed[148:156] = b"%06o\0 " % sum(header)
        (tmp_path / "x.tar.xz").write_bytes(lzma.compress(changed))
        with pytest.raises(RunFolderError, match="put together otherwise"):
            pack.read(tmp_path / "x.tar.xz")


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("../outside", tarfile.REGTYPE, "leads elsewhere"),
        ("/etc/outside", tarfile.REGTYPE, "leads elsewhere"),
        ("a/../../outside", tarfile.REGTYPE, "leads elsewhere"),
        ("a\\b", tarfile.REGTYPE, "leads elsewhere"),
        ("a//b", tarfile.REGTYPE, "leads elsewhere"),
        ("c:x", tarfile.REGTYPE, "leads elsewhere"),
        ("link", tarfile.SYMTYPE, "no plain file"),
        ("link", tarfile.LNKTYPE, "no plain file"),
        ("folder", tarfile.DIRTYPE, "no plain file"),
        ("pipe", tarfile.FIFOTYPE, "no plain file"),
        ("manifest.json", tarfile.REGTYPE, "stands twice"),
        ("manifest.json/x", tarfile.REGTYPE, "a file and a folder"),
        ("MANIFEST.json", tarfile.REGTYPE, "in case alone"),
    ],
)
def test_what_leads_outside_is_not_unpacked(tmp_path: Path, name: str, kind: bytes, says: str) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("manifest.json"))
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    (tmp_path / "x.tar.xz").write_bytes(lzma.compress(made.getvalue()))
    with pytest.raises(RunFolderError, match=says), pack.unpacked(tmp_path / "x.tar.xz"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.xz"]
    if says == "leads elsewhere":
        with pytest.raises(RunFolderError, match=says):
            pack.write(tmp_path / "y.tar.xz", ABOUT, {name: b""})


def test_absurd_sizes_are_refused(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_BYTES", 2**20)
    monkeypatch.setattr(pack, "_CHUNK", 2**20)
    bomb = tmp_path / "bomb.tar.xz"
    bomb.write_bytes(lzma.compress(bytes(2**26)))
    assert bomb.stat().st_size < 2**15
    with pytest.raises(RunFolderError, match="unpacks to more than"):
        pack.read(bomb)
    monkeypatch.setattr(pack, "MAX_MEMBERS", 3)
    with pytest.raises(RunFolderError, match="more than 3 members"):
        pack.read(file)
    sparse = io.BytesIO()
    info = tarfile.TarInfo("manifest.json")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[483:495] = b"77777777777\0"  # its size unpacked: 8 GiB
    buffer[148:156] = b" " * 8
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    sparse.write(buffer + bytes(1024))
    bomb.write_bytes(lzma.compress(sparse.getvalue()))
    with pytest.raises(RunFolderError, match=r"no plain file|damaged"):
        pack.read(bomb)


def test_other_files_are_no_packs(tmp_path: Path) -> None:
    (tmp_path / "a.tar.xz").write_bytes(lzma.compress(b"data of some kind"))
    (tmp_path / "b.tar.xz").write_bytes(b"")
    assert pack.find(tmp_path) == []
    with pytest.raises(RunFolderError, match="is no pack"):
        pack.read(tmp_path / "a.tar.xz")
    with pytest.raises(RunFolderError, match=r"No such file or directory; `harness publish` makes a pack"):
        pack.read(tmp_path / "c.tar.xz")
    with pytest.raises(RunFolderError, match="-o FILE"):
        pack.write(tmp_path / "a.tar.xz" / "d.tar.xz", ABOUT, MEMBERS)
