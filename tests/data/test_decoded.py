"""What is kept is found again while the files are the same, and a broken or read-only cache does no harm."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from resolute.data.decode import Decoded, keep, recall, stamp

if TYPE_CHECKING:
    from pathlib import Path

SET = Decoded(np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_kept_and_recalled(tmp_path: Path) -> None:
    assert recall(tmp_path / "cache", "a") is None
    for _ in range(2):
        keep(tmp_path / "cache", "a", SET)
        found = recall(tmp_path / "cache", "a")
        assert found is not None
        assert np.array_equal(found.x, SET.x)
        assert (found.mean, found.std) == (SET.mean, SET.std)
    assert recall(tmp_path / "cache", "b") is None
    assert [f.name for f in (tmp_path / "cache").iterdir()] == ["a"]


def test_a_broken_one_counts_for_nothing(tmp_path: Path) -> None:
    keep(tmp_path, "a", SET)
    content = (tmp_path / "a" / "x.npy").read_bytes()
    for damaged in (b"", content[:50], content[:-1]):
        (tmp_path / "a" / "x.npy").write_bytes(damaged)
        assert recall(tmp_path, "a") is None
    (tmp_path / "a" / "x.npy").write_bytes(content)
    for text in ("", "{}"):
        (tmp_path / "a" / "about.json").write_text(text)
        assert recall(tmp_path, "a") is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    keep(tmp_path / "cache", "a", SET)
    assert recall(tmp_path / "cache", "a") is None


def test_a_stamp_changes_with_files_and_settings(tmp_path: Path) -> None:
    file, other = tmp_path / "x", tmp_path / "y"
    file.write_bytes(b"123")
    other.write_bytes(b"123")
    os.utime(file, ns=(1, 1))
    os.utime(other, ns=(1, 1))
    first = stamp([file], 32)
    assert stamp([file], 32) == first
    assert len({first, stamp([other], 32), stamp([file], 33), stamp([file, other], 32), stamp([], 32)}) == 5
    os.utime(file, ns=(2, 2))
    assert stamp([file], 32) != first
    file.write_bytes(b"1234")
    os.utime(file, ns=(1, 1))
    assert stamp([file], 32) != first
