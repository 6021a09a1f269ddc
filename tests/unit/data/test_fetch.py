"""Downloads against a local server that misbehaves: resumed, tried again, checked, never written over another."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from harness.data import fetch
from harness.data.specs import File
from harness.errors import DataError

CONTENT = np.random.default_rng(0).bytes(100_000)


@dataclass
class Server:
    """What the server does.

    Attributes:
      content, etag: of its one file, at /set/file.bin; no etag where that is "".
      ranges: whether it heeds Range.
      shift: bytes by which an answer to Range starts too late.
      lengths: whether it tells the length.
      statuses: answered in turn before it serves.
      cuts: bytes after which it hangs up, in turn.
      asked: the path and Range of each request.
    """

    content: bytes = CONTENT
    etag: str = '"1"'
    ranges: bool = True
    shift: int = 0
    lengths: bool = True
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    does = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers["Range"]
            does.asked.append((self.path, span))
            if does.statuses:
                self.send_error(does.statuses.pop(0))
                return
            if self.path != "/set/file.bin":
                self.send_error(404)
                return
            start = 0
            if span and does.ranges and self.headers["If-Range"] == does.etag:
                start = int(span.removeprefix("bytes=").rstrip("-"))
                if start >= len(does.content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(does.content)}")
                    self.end_headers()
                    return
                start += does.shift
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(does.content) - 1}/{len(does.content)}")
            else:
                self.send_response(200)
            if does.etag:
                self.send_header("ETag", does.etag)
            if does.lengths:
                self.send_header("Content-Length", str(len(does.content) - start))
            self.end_headers()
            end = start + does.cuts.pop(0) if does.cuts else None
            self.wfile.write(does.content[start:end])

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(fetch, "CHUNK", 1000)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        does.url = f"http://127.0.0.1:{http.server_port}/set/file.bin"
        yield does
        http.shutdown()
        thread.join()


def quiet(name: str, have: int, total: int | None) -> None:
    pass


def get(server: Server, folder: Path, mirror: str | None = None, content: bytes = CONTENT) -> fetch.Fetched:
    file = File("file.bin", server.url, hashlib.sha256(content).hexdigest(), len(content), ("set/file.bin",))
    return fetch.fetch(file, folder, mirror, quiet)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_download(server: Server, tmp_path: Path) -> None:
    shown: list[tuple[str, int, int | None]] = []
    file = File("file.bin", server.url, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), ())
    got = fetch.fetch(file, tmp_path / "new" / "folder", None, lambda *told: shown.append(told))
    assert got == fetch.Fetched(tmp_path / "new" / "folder" / "file.bin", server.url, ours=True)
    assert got.path.read_bytes() == CONTENT
    assert names(got.path.parent) == ["file.bin"]
    assert shown[0] == ("file.bin", 0, 100_000)
    assert shown[-1] == ("file.bin", 100_000, 100_000)
    get(server, got.path.parent)
    assert len(server.asked) == 1, "what is there is not asked for again"


def test_a_transfer_that_breaks_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cuts = [30_000, 50_000]
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert [span for _, span in server.asked] == [None, "bytes=30000-", "bytes=80000-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = [30_000]
    with monkeypatch.context() as patch, pytest.raises(DataError, match="the 30000 bytes so far are kept"):
        patch.setattr(fetch, "ATTEMPTS", 1)
        get(server, tmp_path)
    assert names(tmp_path) == ["file.bin.part", "file.bin.part.from"]
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=30000-"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("fault", ["ignores ranges", "changed", "no version", "elsewhere"])
def test_what_cannot_be_resumed_starts_again(server: Server, tmp_path: Path, fault: str) -> None:
    old = bytes(100_000)
    server.cuts = [30_000]
    if fault == "changed":  # between the two requests: a mixture of both would be neither
        server.content = old
    server.ranges = fault != "ignores ranges"
    server.etag = "" if fault == "no version" else '"1"'
    server.shift = 7 if fault == "elsewhere" else 0
    with pytest.MonkeyPatch.context() as patch, pytest.raises(DataError):
        patch.setattr(fetch, "ATTEMPTS", 1)
        get(server, tmp_path)
    if fault == "changed":
        server.content, server.etag = CONTENT, '"2"'
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin"]


def test_a_part_from_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(bytes(500))
    (tmp_path / "file.bin.part.from").write_text('{"url": "http://elsewhere/file.bin", "validator": "\\"1\\""}')
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert server.asked == [("/set/file.bin", None)]


def test_a_part_that_was_whole(server: Server, tmp_path: Path) -> None:
    """Killed between the last byte and the renaming: with a known size nothing is asked, else the server is."""
    origin = f'{{"url": "{server.url}", "validator": "\\"1\\""}}'
    for mirror in (None, server.url.removesuffix("/set/file.bin")):
        (tmp_path / "file.bin.part").write_bytes(CONTENT)
        (tmp_path / "file.bin.part.from").write_text(origin)
        path = get(server, tmp_path, mirror).path
        assert path.read_bytes() == CONTENT
        path.unlink()
    assert server.asked == [("/set/file.bin", "bytes=100000-")]


def test_a_part_longer_than_the_file_starts_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    (tmp_path / "file.bin.part.from").write_text(f'{{"url": "{server.url}", "validator": "\\"1\\""}}')
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert [span for _, span in server.asked] == ["bytes=100004-", None]


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(fetch.time, "sleep", waits.append)
    server.statuses = [503, 429, 500]
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert waits == [0.002, 0.004, 0.008]


def test_attempts_that_bring_nothing_come_to_an_end(server: Server, tmp_path: Path) -> None:
    server.statuses = [503] * 9
    with pytest.raises(DataError, match=r"file.bin: 5 attempts in a row brought nothing .*--mirror"):
        get(server, tmp_path)
    assert len(server.asked) == 5


def test_attempts_that_bring_little_go_on(server: Server, tmp_path: Path) -> None:
    server.cuts = [10_000] * 9
    assert get(server, tmp_path).path.read_bytes() == CONTENT


def test_a_transfer_of_unknown_length(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    assert get(server, tmp_path).path.read_bytes() == CONTENT


def test_no_server_at_all(server: Server, tmp_path: Path) -> None:
    server.url = "http://127.0.0.1:9/set/file.bin"  # the port of `discard`, which nobody serves
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9/set/file\.bin: 5 attempts"):
        get(server, tmp_path)


def test_a_file_that_is_not_there(server: Server, tmp_path: Path) -> None:
    server.url = server.url.replace("file.bin", "other.bin")
    with pytest.raises(DataError, match=r"other.bin: the server answers 404 Not Found; .*--mirror"):
        get(server, tmp_path)
    assert len(server.asked) == 1


# ---- what is refused


def test_a_corrupt_download_is_refused_and_kept_aside(server: Server, tmp_path: Path) -> None:
    for n in (1, 2):
        server.content = bytes([n]) * 100_000
        with pytest.raises(DataError, match=rf"has sha256 \w+, expected \w+; .*file.bin.corrupt-{n}"):
            get(server, tmp_path)
    assert (tmp_path / "file.bin.corrupt-1").read_bytes() == bytes([1]) * 100_000, "nothing is written over"
    assert (tmp_path / "file.bin.corrupt-2").read_bytes() == bytes([2]) * 100_000
    server.content = CONTENT
    assert get(server, tmp_path).path.read_bytes() == CONTENT
    assert names(tmp_path) == ["file.bin", "file.bin.corrupt-1", "file.bin.corrupt-2"]


def test_a_download_of_another_size_is_refused_before_it_begins(server: Server, tmp_path: Path) -> None:
    server.content = b"<html>our page has moved</html>"
    with pytest.raises(DataError, match="offers 31 bytes, expected 100000"):
        get(server, tmp_path)
    assert names(tmp_path) == []


def test_a_full_disk_is_not_tried_again(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, have: int, total: int | None) -> None:
        if have > 5000:
            raise OSError(28, "No space left on device")

    file = File("file.bin", server.url, None, 0, ())
    with pytest.raises(OSError, match="No space left"):
        fetch.fetch(file, tmp_path, None, full)
    assert len(server.asked) == 1


# ---- mirrors


def test_a_mirror_folder_is_read_in_place(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "set").mkdir(parents=True)
    there = tmp_path / "mirror" / "set" / "file.bin"
    there.write_bytes(b"packed otherwise")
    assert get(server, tmp_path / "downloads", str(tmp_path / "mirror")) == fetch.Fetched(there, str(there), ours=False)
    assert not server.asked
    assert not (tmp_path / "downloads").exists()


def test_a_mirror_at_an_address_may_pack_otherwise(server: Server, tmp_path: Path) -> None:
    file = File("file.gz", "http://127.0.0.1:9/never", "0" * 64, 1, ("set/file.gz", "set/file.bin"))
    server.content = b"packed otherwise"
    mirror = server.url.removesuffix("set/file.bin")
    got = fetch.fetch(file, tmp_path, mirror, quiet)
    assert got.path.read_bytes() == b"packed otherwise"
    assert [path for path, _ in server.asked] == ["/set/file.gz", "/set/file.bin"]


def test_a_mirror_that_lacks_the_file_is_passed_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    for n, mirror in enumerate((str(tmp_path / "mirror"), server.url.removesuffix("set/file.bin") + "empty")):
        assert get(server, tmp_path / str(n), mirror).source == server.url


def test_a_mirror_that_is_none(tmp_path: Path) -> None:
    for mirror in (str(tmp_path / "absent"), "ftp://example.org"):
        with pytest.raises(DataError, match=r"no folder at .*; --mirror takes a folder, or an address"):
            fetch.fetch(File("f", None, None, 0, ("f",)), tmp_path, mirror, quiet)


def test_what_only_a_mirror_has(tmp_path: Path) -> None:
    file = File("manifest.json", None, None, 0, ("books/manifest.json",))
    for mirror, message in ((None, "none was named"), (str(tmp_path), f"{tmp_path} does not have it")):
        with pytest.raises(DataError, match=rf"no public address; .*{message}.* books/manifest.json with --mirror"):
            fetch.fetch(file, tmp_path, mirror, quiet)
