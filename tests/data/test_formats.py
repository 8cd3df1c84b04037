"""Readers of the hosts' formats, against torchvision's own; and files that are damaged, or mean harm."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, SVHN
from torchvision.datasets.mnist import read_image_file, read_label_file

from resolute.data.formats import read_batches, read_idx, read_mat, read_pickle, unpacked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def test_idx_is_torchvisions(tmp_path: Path, idx_files: Callable[..., Any]) -> None:
    idx_files(tmp_path)
    x, y = read_idx((tmp_path / IMAGES).read_bytes(), (tmp_path / LABELS).read_bytes())
    assert torch.equal(x[:, 0], read_image_file(str(tmp_path / IMAGES)))
    assert torch.equal(y, read_label_file(str(tmp_path / LABELS)))
    turned, _ = read_idx((tmp_path / IMAGES).read_bytes(), (tmp_path / LABELS).read_bytes(), transposed=True)
    assert torch.equal(turned, x.transpose(2, 3))


def header(*sizes: int, kind: int = 8) -> bytes:
    return struct.pack(f">{1 + len(sizes)}i", 256 * kind + len(sizes), *sizes)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", header(1) + b"1", "does not begin as an idx file of bytes in 3 dimensions"),
        (header(1, 2, 2)[:9], header(1) + b"1", "does not begin as an idx file"),
        (header(1, 2, 2, kind=13) + b"1234", header(1) + b"1", "does not begin as an idx file"),
        (header(1, 2, 2) + b"123", header(1) + b"1", "holds 3 bytes where its header announces 4"),
        (header(1, 2, 2) + b"12345", header(1) + b"1", "holds 5 bytes where its header announces 4"),
        (header(1, 2, 2) + b"1234", header(1, 1) + b"1", "idx file of bytes in 1 dimensions"),
        (header(1, 2, 2) + b"1234", header(2) + b"12", r"images \(1, 2, 2\), labels \(2,\)"),
    ],
)
def test_no_idx(images: bytes, labels: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_idx(images, labels)


@pytest.mark.parametrize("keep", [0, 5, 30])
def test_a_damaged_gzip(tmp_path: Path, keep: int) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(range(256)))[:keep] + b"?")
    with pytest.raises(ValueError, match=r"."):
        unpacked(tmp_path / "x.gz")


def test_svhn_is_torchvisions_with_ten_as_zero(
    tmp_path: Path, house_numbers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = house_numbers(tmp_path / "train_32x32.mat", [10, 1, 2, 9, 10, 3])
    x, y = read_mat(tmp_path / "train_32x32.mat")
    assert y.tolist() == [0, 1, 2, 9, 0, 3]
    assert np.array_equal(x[4].numpy(), written["X"][:, :, :, 4].transpose(2, 0, 1))
    monkeypatch.setattr(SVHN, "_check_integrity", lambda self: True)
    theirs = SVHN(str(tmp_path))
    assert np.array_equal(x.numpy(), theirs.data)
    assert np.array_equal(y.numpy(), theirs.labels)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_mat(tmp_path: Path, house_numbers: Callable[..., Any], share: float) -> None:
    path = tmp_path / "train_32x32.mat"
    house_numbers(path, [1, 2, 3])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match="no MATLAB file with X and y"):
        read_mat(path)


@pytest.mark.parametrize("labels", [[0, 1, 2], [1, 11, 2]])
def test_labels_out_of_range_in_a_mat(tmp_path: Path, house_numbers: Callable[..., Any], labels: list[int]) -> None:
    house_numbers(tmp_path / "x.mat", labels)
    with pytest.raises(ValueError, match="y holds 3 labels"):
        read_mat(tmp_path / "x.mat")


def unpack(archive: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(folder, filter="data")


def test_cifar_is_torchvisions(
    tmp_path: Path, cifar_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cifar_archive(CIFAR10, "labels")
    unpack(made.archive, tmp_path)
    folder = tmp_path / CIFAR10.base_folder
    files = [folder / name for name, _ in CIFAR10.train_list]
    x, y = read_batches(files, "labels")
    assert np.array_equal(x.numpy().reshape(50, 3072), made.x["train"])
    assert y.tolist() == made.y["train"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    monkeypatch.setattr(CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    theirs = CIFAR10(str(tmp_path))
    assert np.array_equal(x.numpy().transpose(0, 2, 3, 1), theirs.data)
    assert y.tolist() == theirs.targets


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("harm",))


@pytest.mark.parametrize("content", [Harm(), {"data": Harm()}, {"data": np.array([Harm()], dtype=object)}])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_cannot_call_anything(
    tmp_path: Path, content: Any, protocol: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(
        ValueError, match=r"no pickle of plain data: it asks for (\w+\.print|_codecs\.enc|an array of 'O8')"
    ):
        read_pickle(tmp_path / "batch")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no pickle of plain data"),
        (b"<html>", "no pickle of plain data"),
        (pickle.dumps({"data": [1] * 9})[:-4], "no pickle of plain data"),
        (pickle.dumps([1, 2]), "holds no dictionary"),
        (pickle.dumps({"data": [1, 2], "labels": [1, 2]}), "holds no images: 'data' is list"),
        (pickle.dumps({"labels": [1, 2]}), "holds no images: 'data' is NoneType"),
    ],
)
def test_no_batch(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "batch").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_batches([tmp_path / "batch"], "labels")


def test_a_batch_with_other_labels(tmp_path: Path, cifar_archive: Callable[..., Any]) -> None:
    made = cifar_archive(CIFAR10, "labels")
    unpack(made.archive, tmp_path)
    with pytest.raises(ValueError, match="holds 10 images, and 'fine_labels' does not go with them"):
        read_batches([tmp_path / CIFAR10.base_folder / "test_batch"], "fine_labels")
