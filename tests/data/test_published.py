"""Each published set from small files in its true format: found, fetched, split as published, and refused."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from resolute.data import load
from resolute.data.augment import Augment
from resolute.data.published import CIFAR100, PUBLISHED
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteIdx = Callable[..., dict[str, np.ndarray[Any, Any]]]

LIKE_MNIST = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
NOWHERE = "http://127.0.0.1:9/"


@pytest.fixture(autouse=True)
def unplugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host can be reached, and no file of a few images has the published checksum."""
    monkeypatch.delenv("RESOLUTE_MIRROR", raising=False)
    for name in LIKE_MNIST.values():
        monkeypatch.setattr(getattr(datasets, name), "mirrors", [NOWHERE])
    for name in ("EMNIST", "CIFAR10", "CIFAR100"):
        monkeypatch.setattr(getattr(datasets, name), "url", NOWHERE)
    splits = {part: [NOWHERE, f"{part}_32x32.mat", "0" * 32] for part in ("train", "extra", "test")}
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def publish(monkeypatch: pytest.MonkeyPatch, kind: str, raw: Path) -> None:
    resources = [(f"{name}.gz", md5(raw / f"{name}.gz")) for name in IDX]
    monkeypatch.setattr(getattr(datasets, kind), "resources", resources)


@pytest.fixture
def svhn(tmp_path: Path, house_numbers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """SVHN with 450 images of each class to train on, 230 extra ones and 3 to test on, in a random order."""
    written, splits = {}, {}
    for k, (part, each) in enumerate({"train": 450, "extra": 230, "test": 3}.items()):
        labels = np.random.default_rng(k).permutation(np.repeat(np.arange(1, 11), each)).tolist()
        file = tmp_path / f"{part}_32x32.mat"
        written[part] = house_numbers(file, labels, seed=k)
        splits[part] = [NOWHERE, file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    return written


@pytest.mark.parametrize("name", LIKE_MNIST)
@pytest.mark.parametrize("packed", [False, True])
def test_sets_like_mnist(
    tmp_path: Path, idx_files: WriteIdx, monkeypatch: pytest.MonkeyPatch, name: str, packed: bool
) -> None:
    raw = tmp_path / LIKE_MNIST[name] / "raw"
    written = idx_files(raw, packed=packed)
    if packed:
        publish(monkeypatch, LIKE_MNIST[name], raw)
    x, y = (torch.from_numpy(written[f]) for f in IDX[:2])
    index = {"train": [i for i in range(30) if i % 10 != 9], "validation": [9, 19, 29], "train+validation": range(30)}
    for split, chosen in index.items():
        images = load(name, root=tmp_path, split=split)
        assert torch.equal(images.x, x[list(chosen)][:, None])
        assert torch.equal(images.y, y[list(chosen)].long())
    test = load(name, root=str(tmp_path), split="test")
    assert torch.equal(test.x[:, 0], torch.from_numpy(written[IDX[2]]))
    assert test.info.name == name


@pytest.mark.parametrize("unzipped", [False, True])
def test_emnist_stands_upright(
    tmp_path: Path, emnist_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, unzipped: bool
) -> None:
    archive = tmp_path / "EMNIST" / "raw" / "gzip.zip"
    written = emnist_archive(archive)
    monkeypatch.setattr(datasets.EMNIST, "md5", md5(archive))
    if unzipped:
        import zipfile

        with zipfile.ZipFile(archive) as opened:
            for member in opened.namelist():
                (archive.parent / member.removeprefix("gzip/")).write_bytes(opened.read(member))
        archive.unlink()
    images = load("emnist", root=tmp_path, split="train+validation")
    assert np.array_equal(images.x[:, 0].numpy(), written["train-images-idx3"].transpose(0, 2, 1))
    assert images.y.tolist() == written["train-labels-idx1"].tolist()
    assert len(load("emnist", root=tmp_path, split="test")) == 12
    assert images.info.classes == 47


def test_svhn_as_published(tmp_path: Path, svhn: dict[str, Any]) -> None:
    y = {part: written["y"].ravel().astype(int) % 10 for part, written in svhn.items()}
    held_out, start = [], 0
    for part, n in (("train", 400), ("extra", 200)):
        for k in range(10):
            of_class = [i for i, label in enumerate(y[part]) if label == k]
            held_out += [start + i for i in of_class[-n:]]
        start += len(y[part])
    everything = np.concatenate([svhn["train"]["X"], svhn["extra"]["X"]], axis=3).transpose(3, 2, 0, 1)
    labels = np.concatenate([y["train"], y["extra"]])
    rest = sorted(set(range(start)) - set(held_out))
    for split, index in {"validation": sorted(held_out), "train": rest, "train+validation": list(range(start))}.items():
        images = load("svhn", root=tmp_path, split=split)
        assert np.array_equal(images.x.numpy(), everything[index])
        assert np.array_equal(images.y.numpy(), labels[index])
    assert len(held_out) == 6000
    assert load("svhn", root=tmp_path, split="test").y.tolist() == y["test"].tolist()
    assert (images.info.mean, images.info.std, images.info.augment) == ((0.0,) * 3, (1.0,) * 3, Augment())


def test_svhn_without_the_extra_images_does_not_need_them(tmp_path: Path, svhn: dict[str, Any]) -> None:
    (tmp_path / "extra_32x32.mat").unlink()
    assert len(load("svhn-core", root=tmp_path, split="train+validation")) == 4500
    assert load("svhn-core", root=tmp_path, split="validation").y.bincount().tolist() == [400] * 10
    with pytest.raises(InputError, match=r"Put there extra_32x32\.mat"):
        load("svhn", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "label"), [("cifar10", "CIFAR10", "labels"), ("cifar100", "CIFAR100", "fine_labels")]
)
def test_cifar(
    tmp_path: Path, cifar_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, name: str, kind: str, label: str
) -> None:
    theirs = getattr(datasets, kind)
    made = cifar_archive(theirs, label)
    for attribute, value in made.numbers.items():
        monkeypatch.setattr(theirs, attribute, value)
    (tmp_path / theirs.filename).write_bytes(made.archive)
    test = load(name, root=tmp_path, split="test")
    assert np.array_equal(test.x.flatten(1).numpy(), made.x["test"])
    assert test.y.tolist() == made.y["test"]
    (tmp_path / theirs.filename).unlink()
    training = load(name, root=tmp_path, split="train")
    index = [i for i in range(len(made.y["train"])) if i % 10 != 9]
    assert np.array_equal(training.x.flatten(1).numpy(), made.x["train"][index])
    assert training.info.augment == Augment(shift=4, padding="reflect", flip=True)
    assert sorted(f.name for f in tmp_path.iterdir()) == [theirs.base_folder]


def test_a_cifar_batch_with_a_wrong_checksum_is_not_opened(
    tmp_path: Path, cifar_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cifar_archive(datasets.CIFAR10, "labels")
    for attribute, value in made.numbers.items():
        monkeypatch.setattr(datasets.CIFAR10, attribute, value)
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(made.archive)
    load("cifar10", root=tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1] + b"?")
    monkeypatch.setattr("resolute.data.formats.read_pickle", None)
    with pytest.raises(
        InputError, match=r"data_batch_3 is damaged or another file: its MD5 checksum is \w+, published"
    ):
        load("cifar10", root=tmp_path)


def test_an_archive_with_a_wrong_checksum_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"cifar-100-python\.tar\.gz is damaged or another file"):
        load("cifar100", root=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_files_are_fetched_once_and_nothing_else_stays(
    tmp_path: Path, server: Any, idx_files: WriteIdx, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx_files(tmp_path / "host", packed=True)
    publish(monkeypatch, "MNIST", tmp_path / "host")
    server.files |= {f"b/{name}.gz": (tmp_path / "host" / f"{name}.gz").read_bytes() for name in IDX}
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{server.url}/a/", f"{server.url}/b/"])
    root = tmp_path / "root"
    for _ in range(2):
        assert len(load("mnist", root=root)) == 27
    wanted = sorted(f"MNIST/raw/{name}.gz" for name in IDX)
    assert sorted(f.relative_to(root).as_posix() for f in root.rglob("*") if f.is_file()) == wanted
    assert server.requests == {f"{mirror}/{name}.gz": 1 for name in IDX for mirror in "ab"}


def test_torchvision_finds_what_was_fetched(
    tmp_path: Path, server: Any, cifar_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cifar_archive(datasets.CIFAR10, "labels")
    for attribute, value in made.numbers.items():
        monkeypatch.setattr(datasets.CIFAR10, attribute, value)
    server.files["cifar-10-python.tar.gz"] = made.archive
    monkeypatch.setenv("RESOLUTE_MIRROR", server.url)
    load("cifar10", root=tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    assert datasets.CIFAR10(str(tmp_path)).targets == made.y["train"]


@pytest.mark.parametrize(
    ("name", "place", "files"),
    [
        ("mnist", "MNIST/raw", IDX),
        ("fashion-mnist", "FashionMNIST/raw", IDX),
        ("emnist", "EMNIST/raw", ("gzip.zip", "emnist-balanced-train-images-idx3-ubyte")),
        ("svhn", "", ("train_32x32.mat",)),
        ("cifar10", "", ("cifar-10-python.tar.gz", "cifar-10-batches-py")),
        ("cifar100", "", ("cifar-100-python.tar.gz", "cifar-100-python")),
    ],
)
def test_without_a_network_the_message_names_files_and_folder(
    tmp_path: Path, name: str, place: str, files: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        load(name, root=tmp_path / "root")
    message = str(caught.value)
    assert f"is not in {tmp_path / 'root' / place} and could not be fetched (127.0.0.1:9: <urlopen error" in message
    for word in (*files, "--data-dir", "RESOLUTE_DATA", "RESOLUTE_MIRROR"):
        assert word in message


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be made read-only there")
def test_files_in_a_folder_that_cannot_be_written(tmp_path: Path, idx_files: WriteIdx) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx_files(raw)
    before = sorted(tmp_path.rglob("*"))
    raw.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(load("mnist", root=tmp_path)) == 27
        assert sorted(tmp_path.rglob("*")) == before
    finally:
        raw.chmod(stat.S_IRWXU)


@pytest.mark.parametrize("keep", [0, 3, 1000])
def test_a_damaged_file_is_named_as_such(tmp_path: Path, idx_files: WriteIdx, keep: int) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx_files(raw)
    (raw / IDX[0]).write_bytes((raw / IDX[0]).read_bytes()[:keep])
    with pytest.raises(InputError, match=rf"MNIST files in .* cannot be read.*delete {IDX[0]}, {IDX[1]} there"):
        load("mnist", root=tmp_path)


def test_a_truncated_mat_is_named_as_such(
    tmp_path: Path, svhn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"test_32x32\.mat is damaged or another file: its MD5 checksum is"):
        load("svhn", root=tmp_path, split="test")
    splits = {**datasets.SVHN.split_list, "test": [NOWHERE, file.name, md5(file)]}
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    with pytest.raises(InputError, match=r"the SVHN files in .* cannot be read \(no MATLAB file with X and y"):
        load("svhn", root=tmp_path, split="test")


def test_files_of_two_sets_are_refused(tmp_path: Path, idx_files: WriteIdx) -> None:
    idx_files(tmp_path / "MNIST" / "raw")
    idx_files(tmp_path / "other", n=29)
    (tmp_path / "other" / IDX[1]).replace(tmp_path / "MNIST" / "raw" / IDX[1])
    with pytest.raises(InputError, match=r"images \(30, 28, 28\), labels \(29,\)"):
        load("mnist", root=tmp_path)


def test_the_table_agrees_with_torchvision() -> None:
    names = {
        "fashion-mnist": datasets.FashionMNIST.classes,
        "kmnist": datasets.KMNIST.classes,
        "emnist": datasets.EMNIST.classes_split_dict["balanced"],
    }
    for name, theirs in names.items():
        assert list(PUBLISHED[name].info.class_names) == list(theirs)
    assert len(CIFAR100) == len(set(CIFAR100)) == 100
    for name, published in PUBLISHED.items():
        info = published.info
        assert (info.name, info.classes) == (name, len(info.class_names))
        assert len(info.mean) == len(info.std) == info.shape[0]
