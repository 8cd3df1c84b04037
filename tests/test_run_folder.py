"""Files of a run directory: what is written comes back, whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from resolute.errors import InputError
from resolute.run_folder import (
    Record,
    cell_name,
    read_bits,
    read_json,
    read_records,
    write_atomic,
    write_bits,
    write_json,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from resolute.run_folder import Key

CLEAN = Record("digits", "lenet", "base", 3, "clean", "clean", 0.0, correct=355, n=360)
NOISY = Record("/data/ü images", "wrn-16-2", "r", 0, "noise", "gaussian-noise", 0.1, correct=0, n=1)


def draw(*sizes: int) -> dict[Key, NDArray[np.bool_]]:
    bits = np.random.default_rng(0)
    return {("noise", "gaussian-noise", 0.1 * i): bits.random(n) < 0.5 for i, n in enumerate(sizes)}


def test_a_record_knows_its_column_and_its_error() -> None:
    assert NOISY.key == ("noise", "gaussian-noise", 0.1)
    assert CLEAN.error == pytest.approx(5 / 360)
    assert NOISY.error == 1
    with pytest.raises(AttributeError):
        CLEAN.n = 3  # type: ignore[misc]


def test_cell_names() -> None:
    assert cell_name("fgsm", 12) == "fgsm-seed12"


# Round trips


@pytest.mark.parametrize("content", ["", "two\nlines ü\n", b"\x00\xff\r\n"])
def test_what_is_written_is_in_the_file_and_nothing_beside_it(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "new" / "deeper" / "file.txt"
    for _ in range(2):
        write_atomic(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o644


def test_json_comes_back_in_its_order(tmp_path: Path) -> None:
    value = {"b": [1, 0.1, None, "ü"], "a": {"x": True}}
    write_json(tmp_path / "recipe.json", value)
    assert read_json(tmp_path / "recipe.json") == value
    assert list(read_json(tmp_path / "recipe.json")) == ["b", "a"]


def test_json_refuses_nan_and_keeps_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "cost.json", {"step_ms": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "cost.json", {"step_ms": float("nan")})
    assert read_json(tmp_path / "cost.json") == {"step_ms": 1.5}


def test_records_come_back_in_their_order(tmp_path: Path) -> None:
    written = [NOISY, CLEAN, NOISY]
    write_records(tmp_path / "records.jsonl", iter(written))
    assert read_records(tmp_path / "records.jsonl") == written
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[1])["correct"] == 355
    write_records(tmp_path / "records.jsonl", [])
    assert read_records(tmp_path / "records.jsonl") == []


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 360, 1001])
def test_bits_come_back_at_one_bit_an_image(tmp_path: Path, n: int) -> None:
    bits = {
        **draw(n, n, n),
        ("clean", "clean", 0.0): np.ones(n, bool),
        ("a", "b", np.float64(1 / 3)): np.zeros(n, bool),
    }
    write_bits(tmp_path / "bits.npz", bits)
    read = read_bits(tmp_path / "bits.npz")
    assert list(read) == list(bits)
    for key, right in bits.items():
        assert read[key].dtype == np.bool_
        assert np.array_equal(read[key], right)
    with np.load(tmp_path / "bits.npz") as stored:
        assert stored["clean/clean/0.0"].nbytes == -(-n // 8)


@pytest.mark.parametrize("sizes", [(), (8, 9)])
def test_bits_of_different_images_are_refused(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="every shift needs the same images"):
        write_bits(tmp_path / "bits.npz", draw(*sizes))
    assert not (tmp_path / "bits.npz").exists()


# Crashes and folders that cannot be written


def fail(error: BaseException) -> Callable[..., Any]:
    def failing(*_: object, **__: object) -> None:
        raise error

    return failing


@pytest.mark.parametrize("step", ["fsync", "rename"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    path = tmp_path / "records.jsonl"
    write_atomic(path, "old")
    with monkeypatch.context() as broken:
        if step == "fsync":
            broken.setattr(os, "fsync", fail(error))
        else:
            broken.setattr(Path, "replace", fail(error))
        wanted = InputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(wanted) as caught:
            write_atomic(path, "new, and longer")
    if wanted is InputError:
        assert str(caught.value).startswith(f"cannot write {path}: No space left on device. Make room; the same")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_synced_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(handle: int) -> None:
        done.append("sync")
        sync(handle)

    def renamed(self: Path, target: Path) -> Path:
        done.append("rename")
        assert self.parent == target.parent, "a rename is atomic only within a file system"
        assert self.read_text() == "all of it"
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", renamed)
    write_atomic(tmp_path / "file", "all of it")
    assert done == ["sync", "rename", "sync"]


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "records.jsonl", tmp_path / "file" / "deeper" / "records.jsonl"):
        with pytest.raises(
            InputError, match=rf"^cannot write {path}: .+\. Choose a folder that can be written \(--out\)"
        ):
            write_atomic(path, "x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(InputError, match=r"^cannot write .*Is a directory"):
        write_atomic(tmp_path / "directory", "x")
    assert {p.name for p in tmp_path.iterdir()} == {"file", "directory"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"^cannot write .*Permission denied"):
        write_atomic(tmp_path / "file", "x")


# Files that are missing or broken


@pytest.mark.parametrize("read", [read_json, read_records, read_bits])
def test_a_missing_file_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=rf"^cannot read {tmp_path}/absent.*No such file"):
        read(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"{'a': 1}"])
def test_what_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(InputError, match=r"recipe.json is not JSON \(.+\)\. Restore it, or run again"):
        read_json(tmp_path / "recipe.json")


@pytest.mark.parametrize(
    "line", ["", "{", "[1]", "3", "null", '{"data": "digits"}', '{"data": "digits", "extra": 1}', "\udcff\udcfe"]
)
def test_a_broken_record_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [CLEAN, NOISY])
    with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(
        InputError, match=r"records.jsonl, line 3 is not a record \(.+\)\. Delete the cell and run again"
    ):
        read_records(path)


def test_a_record_cut_short_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    write_records(path, [CLEAN, NOISY])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="line 2 is not a record"):
        read_records(path)


def test_bits_that_are_broken_anywhere_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bits.npz"
    write_bits(path, draw(1001, 1001))
    raw, wanted = path.read_bytes(), read_bits(path)
    cuts = [raw[:length] for length in (1, 60, len(raw) // 2, len(raw) - 1)]
    for broken in (b"", b"not a zip file", *cuts):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=rf"^cannot read {path} \(.+\)\. Delete the cell and run again\.$"):
            read_bits(path)
    for place in random.sample(range(len(raw)), 200):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << random.randrange(8)]) + raw[place + 1 :])
        with contextlib.suppress(InputError):
            read = read_bits(path)
            known = read.keys() & wanted.keys()  # a flip may hide a column
            assert all(np.array_equal(read[key], wanted[key]) for key in known), "a flipped bit changed an answer"
