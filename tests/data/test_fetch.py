"""Downloads from a host on this machine that breaks off, forgets, and lies."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from resolute.data.fetch import ATTEMPTS, Download, fetch, md5_of, verify
from resolute.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = np.random.default_rng(0).bytes(3 * 2**20 + 17)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESOLUTE_MIRROR", raising=False)


def download(*urls: str) -> Download:
    return Download("set/raw/x.bin", hashlib.md5(CONTENT).hexdigest(), urls)


def left(root: Path) -> list[str]:
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*") if file.is_file())


def test_a_file_is_fetched_once(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"] = CONTENT
    for _ in range(2):
        assert fetch(tmp_path, download(f"{server.url}/x.bin")).read_bytes() == CONTENT
    assert server.asked == {"x.bin": [""]}
    assert left(tmp_path) == ["set/raw/x.bin"]


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"], server.breaks["x.bin"] = CONTENT, [1000, 2_000_000]
    assert fetch(tmp_path, download(f"{server.url}/x.bin")).read_bytes() == CONTENT
    assert server.asked["x.bin"] == ["", "bytes=1000-", "bytes=2000000-"]


def test_also_in_a_later_run(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"], server.breaks["x.bin"] = CONTENT, [10, 20, 30]
    with pytest.raises(InputError, match="broke off after 10 of 3,145,745 bytes"):
        fetch(tmp_path, download(f"{server.url}/x.bin"))
    assert left(tmp_path) == ["set/raw/x.bin.part"]
    assert fetch(tmp_path, download(f"{server.url}/x.bin")).read_bytes() == CONTENT
    assert server.asked["x.bin"][ATTEMPTS:] == ["bytes=30-"]


def test_a_host_that_cannot_go_on_from_the_middle(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"], server.breaks["x.bin"], server.ranges = CONTENT, [1000], False
    assert fetch(tmp_path, download(f"{server.url}/x.bin")).read_bytes() == CONTENT
    assert server.asked["x.bin"] == ["", "bytes=1000-"]


def test_a_part_that_is_whole_already(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"] = CONTENT
    (tmp_path / "set/raw").mkdir(parents=True)
    (tmp_path / "set/raw/x.bin.part").write_bytes(CONTENT)
    assert fetch(tmp_path, download(f"{server.url}/x.bin")).read_bytes() == CONTENT
    assert server.asked["x.bin"] == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("part", [b"x" * 100, CONTENT + b"more"])
def test_a_part_of_something_else_is_begun_anew(tmp_path: Path, server: Any, part: bytes) -> None:
    server.files["x.bin"] = CONTENT
    (tmp_path / "set/raw").mkdir(parents=True)
    (tmp_path / "set/raw/x.bin.part").write_bytes(part)
    assert fetch(tmp_path, download(f"{server.url}/x.bin")).read_bytes() == CONTENT


def test_the_next_source_is_tried(tmp_path: Path, server: Any) -> None:
    server.files |= {"wrong/x.bin": CONTENT[::-1], "right/x.bin": CONTENT}
    sources = (f"{NOWHERE}/x.bin", f"{server.url}/none/x.bin", f"{server.url}/wrong/x.bin", f"{server.url}/right/x.bin")
    assert fetch(tmp_path, download(*sources)).read_bytes() == CONTENT
    assert server.requests == {"none/x.bin": 1, "wrong/x.bin": 1, "right/x.bin": 1}
    assert left(tmp_path) == ["set/raw/x.bin"]


def test_a_mirror_comes_first(tmp_path: Path, server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLUTE_MIRROR", f"{server.url}/mirror/")
    server.files |= {"x.bin": CONTENT, "mirror/set/raw/x.bin": CONTENT}
    fetch(tmp_path, download(f"{server.url}/x.bin"))
    assert server.requests == {"mirror/set/raw/x.bin": 1}
    monkeypatch.setenv("RESOLUTE_MIRROR", str(tmp_path))
    with pytest.raises(InputError, match=r"RESOLUTE_MIRROR is .* begins with http"):
        fetch(tmp_path / "other", download(f"{server.url}/x.bin"))


def test_every_source_says_why_it_failed_and_nothing_stays(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"] = CONTENT[:-1]
    with pytest.raises(InputError) as caught:
        fetch(tmp_path, download(f"{NOWHERE}/x.bin", f"{server.url}/none", f"{server.url}/x.bin"))
    for reason in ("127.0.0.1:9: <urlopen error", "HTTP Error 404", "wrong MD5 checksum"):
        assert reason in str(caught.value)
    assert left(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be made read-only there")
def test_a_failure_leaves_no_new_folder_and_takes_no_old_one(tmp_path: Path) -> None:
    for root in (tmp_path / "new/deep", tmp_path):
        with pytest.raises(InputError):
            fetch(root, download(f"{NOWHERE}/x.bin"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "set/raw").mkdir(parents=True)
    with pytest.raises(InputError):
        fetch(tmp_path, download(f"{NOWHERE}/x.bin"))
    assert (tmp_path / "set/raw").is_dir()


def test_a_folder_that_cannot_be_written(tmp_path: Path, server: Any) -> None:
    if os.geteuid() == 0:
        (tmp_path / "set").write_text("no folder")
    else:
        tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(InputError, match=r"(Permission denied|Not a directory|File exists)"):
            fetch(tmp_path, download(f"{server.url}/x.bin"))
    finally:
        tmp_path.chmod(stat.S_IRWXU)


def test_two_at_once_fetch_one_file(tmp_path: Path, server: Any) -> None:
    server.files["x.bin"] = CONTENT
    threads = [threading.Thread(target=fetch, args=(tmp_path, download(f"{server.url}/x.bin"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left(tmp_path) == ["set/raw/x.bin"]
    assert md5_of(tmp_path / "set/raw/x.bin") == hashlib.md5(CONTENT).hexdigest()
    assert server.requests == {"x.bin": 1}


def test_verify(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    verify(tmp_path / "x", "900150983cd24fb0d6963f7d28e17f72")
    with pytest.raises(InputError, match=r"x is damaged or another file: its MD5 checksum is 9001\w+, published is 0"):
        verify(tmp_path / "x", "0" * 32)
