"""MNIST from small files in its true format; fetching from a mirror that is a folder, or that is not there."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from typing import TYPE_CHECKING
from urllib.error import URLError

import pytest
import torch
from torchvision.datasets import MNIST

from resolute.data import load
from resolute.data.mnist import FILES, INFO
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from urllib.request import Request

    import numpy as np
    from numpy.typing import NDArray

    WriteIdx = Callable[..., dict[str, NDArray[np.uint8]]]


class Response(io.BytesIO):
    """An answer of the network, as far as torchvision looks at it."""

    url = None

    @property
    def length(self) -> int:
        return len(self.getvalue())


@pytest.fixture
def mirror(tmp_path: Path, idx_files: WriteIdx, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that plays the network: what torchvision asks for is answered from it."""
    folder = tmp_path / "mirror"
    idx_files(folder, packed=True)
    sums = [(f"{f}.gz", hashlib.md5((folder / f"{f}.gz").read_bytes()).hexdigest()) for f in FILES]

    def answer(request: Request) -> Response:
        try:
            return Response((folder / request.full_url.rsplit("/", 1)[1]).read_bytes())
        except OSError as error:
            raise URLError(error) from error

    monkeypatch.setattr(MNIST, "resources", sums)
    monkeypatch.setattr("urllib.request.urlopen", answer)
    return folder


def unplug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(request: Request) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("urllib.request.urlopen", fail)


def test_splits_of_files_that_are_there(tmp_path: Path, idx_files: WriteIdx) -> None:
    written = idx_files(tmp_path / "MNIST" / "raw")
    x, y = (torch.from_numpy(written[f]) for f in FILES[:2])
    index = {"train": [i for i in range(30) if i % 10 != 9], "validation": [9, 19, 29], "train+validation": range(30)}
    for split, chosen in index.items():
        images = load("mnist", root=tmp_path, split=split)
        assert torch.equal(images.x, x[list(chosen)][:, None])
        assert torch.equal(images.y, y[list(chosen)].long())
    test = load("mnist", root=str(tmp_path), split="test")
    assert torch.equal(test.x[:, 0], torch.from_numpy(written[FILES[2]]))
    assert test.info is INFO


def test_the_variable_names_the_root(tmp_path: Path, idx_files: WriteIdx, monkeypatch: pytest.MonkeyPatch) -> None:
    idx_files(tmp_path / "elsewhere" / "MNIST" / "raw")
    monkeypatch.setenv("RESOLUTE_DATA", str(tmp_path / "elsewhere"))
    assert len(load("mnist", split="test")) == 12


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be made read-only there")
def test_files_in_a_folder_that_cannot_be_written(tmp_path: Path, idx_files: WriteIdx) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx_files(raw)
    before = sorted(tmp_path.rglob("*"))
    raw.chmod(stat.S_IRUSR | stat.S_IXUSR)
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(load("mnist", root=tmp_path)) == 27
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        tmp_path.chmod(stat.S_IRWXU)
        raw.chmod(stat.S_IRWXU)


@pytest.mark.usefixtures("mirror")
def test_missing_files_are_fetched_once_and_nothing_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    assert len(load("mnist", root=root)) == 27
    assert sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()) == sorted(
        f"MNIST/raw/{name}" for name in FILES
    )
    unplug(monkeypatch)
    assert len(load("mnist", root=root)) == 27


def test_a_fetch_that_breaks_off_leaves_nothing_and_the_next_one_succeeds(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, missing = tmp_path / "root", mirror / f"{FILES[2]}.gz"
    kept = missing.read_bytes()
    missing.unlink()
    with pytest.raises(InputError, match="could not be fetched"):
        load("mnist", root=root)
    assert [f for f in root.rglob("*") if f.is_file()] == []
    missing.write_bytes(kept[: len(kept) // 2])
    with pytest.raises(InputError, match="could not be fetched"):
        load("mnist", root=root)
    assert list(root.rglob("*")) == []
    missing.write_bytes(kept)
    assert len(load("mnist", root=root, split="test")) == 12


def test_without_a_network_the_message_names_files_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unplug(monkeypatch)
    with pytest.raises(InputError) as caught:
        load("mnist", root=tmp_path / "root")
    message = str(caught.value)
    assert str(tmp_path / "root" / "MNIST" / "raw") in message
    assert all(file in message for file in FILES)
    assert "RESOLUTE_DATA" in message
    assert "Name or service not known" in message


def test_packed_files_that_the_user_put_there_need_no_network(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "root" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in FILES:
        (mirror / f"{file}.gz").rename(raw / f"{file}.gz")
    unplug(monkeypatch)
    assert len(load("mnist", root=tmp_path / "root")) == 27


@pytest.mark.parametrize("keep", [0, 3, 1000])
def test_a_damaged_file_is_named_as_such(tmp_path: Path, idx_files: WriteIdx, keep: int) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx_files(raw)
    (raw / FILES[0]).write_bytes((raw / FILES[0]).read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cannot be read.*delete"):
        load("mnist", root=tmp_path)


def test_files_of_two_sets_are_refused(tmp_path: Path, idx_files: WriteIdx) -> None:
    idx_files(tmp_path / "MNIST" / "raw")
    idx_files(tmp_path / "other", n=29)
    (tmp_path / "other" / FILES[1]).replace(tmp_path / "MNIST" / "raw" / FILES[1])
    with pytest.raises(InputError, match=r"images \(30, 28, 28\), labels \(29,\)"):
        load("mnist", root=tmp_path)
