"""Each published set from small files in its true format: found, downloaded, split as published, and refused."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import socket
import stat
import struct
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision import datasets

from resolute.config import Augment
from resolute.data import load
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


@pytest.fixture
def cifar(cifar_archive: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The archive of a small CIFAR-10, whose checksums are the published ones."""
    made = cifar_archive(datasets.CIFAR10, "labels")
    for attribute, value in made.numbers.items():
        monkeypatch.setattr(datasets.CIFAR10, attribute, value)
    return made


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


@pytest.mark.parametrize("keep", [0, 5, 30])
def test_a_damaged_file_of_emnist_for_which_no_checksum_is_published(
    tmp_path: Path, emnist_archive: Callable[..., Any], keep: int
) -> None:
    written = emnist_archive(tmp_path / "gzip.zip")
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in written.items():
        content = struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes()
        (raw / f"emnist-balanced-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    load("emnist", root=tmp_path)
    damaged = raw / "emnist-balanced-train-labels-idx1-ubyte.gz"
    damaged.write_bytes(damaged.read_bytes()[:keep] + b"?")
    with pytest.raises(InputError, match=rf"{damaged.name} is damaged or another file: .*Delete it and it is fetched"):
        load("emnist", root=tmp_path)


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


class Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("harm",))


def test_a_cifar_batch_with_a_wrong_checksum_is_not_opened(
    tmp_path: Path, cifar: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar.archive)
    load("cifar10", root=tmp_path)
    batch = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    good = batch.read_bytes()
    for content in (good[:-1] + b"?", pickle.dumps(Harm()), b"", b"<html>"):
        batch.write_bytes(content)
        with pytest.raises(
            InputError, match=r"data_batch_3 is damaged or another file: its MD5 checksum is \w+, published"
        ):
            load("cifar10", root=tmp_path)
    assert "harm" not in capsys.readouterr().out
    assert len(load("cifar10", root=tmp_path, split="test")) == 10  # it does not need that batch


def test_what_is_missing_of_cifar_is_taken_from_the_archive(tmp_path: Path, cifar: Any) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(cifar.archive)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"half of it")
    assert load("cifar10", root=tmp_path, split="train+validation").y.tolist() == cifar.y["train"]
    assert sorted(file.name for file in folder.iterdir()) == [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]


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
    asked = {"a": 1, "b": 2}  # torchvision first asks where an address leads
    assert server.requests == {f"{mirror}/{name}.gz": n for name in IDX for mirror, n in asked.items()}


def test_torchvision_finds_what_was_fetched(
    tmp_path: Path, server: Any, cifar: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["cifar-10-python.tar.gz"] = cifar.archive
    monkeypatch.setenv("RESOLUTE_MIRROR", server.url)
    load("cifar10", root=tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "_load_meta", lambda self: None)
    assert datasets.CIFAR10(str(tmp_path)).targets == cifar.y["train"]


@pytest.fixture
def hosted(tmp_path: Path, server: Any, svhn: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A host that has SVHN's test images, under the address that is torchvision's."""
    file = tmp_path / "test_32x32.mat"
    server.files[file.name] = file.read_bytes()
    splits = {**datasets.SVHN.split_list, "test": [f"{server.url}/{file.name}", file.name, md5(file)]}
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)
    return server


def left(root: Path) -> list[str]:
    return sorted(file.relative_to(root).as_posix() for file in root.rglob("*"))


def test_a_transfer_that_breaks_off_leaves_nothing_and_the_next_one_is_whole(tmp_path: Path, hosted: Any) -> None:
    hosted.breaks["test_32x32.mat"] = [100, 100]
    root = tmp_path / "root"
    with pytest.raises(InputError, match=r"could not be fetched \(127\.0\.0\.1:\d+: File not found or corrupted"):
        load("svhn", root=root, split="test")
    assert not root.exists()
    assert len(load("svhn", root=root, split="test")) == 30
    assert left(root) == ["test_32x32.mat"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, hosted: Any) -> None:
    root = tmp_path / "root"
    (root / ".test_32x32.mat.part").mkdir(parents=True)
    (root / ".test_32x32.mat.part" / "test_32x32.mat").write_bytes(b"half of it")
    (root / ".test_32x32.mat.lock").touch()
    assert len(load("svhn", root=root, split="test")) == 30
    assert left(root) == ["test_32x32.mat"]


def test_a_mirror_comes_first(tmp_path: Path, hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name, root = "test_32x32.mat", tmp_path / "root"
    hosted.files[f"mirror/{name}"] = hosted.files[name]
    monkeypatch.setenv("RESOLUTE_MIRROR", f"{hosted.url}/mirror/")
    load("svhn", root=root, split="test")
    assert set(hosted.requests) == {f"mirror/{name}"}
    monkeypatch.setenv("RESOLUTE_MIRROR", str(tmp_path))
    load("svhn", root=root, split="test")  # nothing is missing
    with pytest.raises(InputError, match=r"RESOLUTE_MIRROR is .* begins with http"):
        load("svhn", root=tmp_path / "other", split="test")


def test_every_source_says_why_it_failed_and_nothing_stays(
    tmp_path: Path, hosted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted.files["test_32x32.mat"] = hosted.files["test_32x32.mat"][:-1]
    root = tmp_path / "root"
    for mirror, reason in ((NOWHERE, "127.0.0.1:9: <urlopen error"), (f"{hosted.url}/none", "HTTP Error 404")):
        monkeypatch.setenv("RESOLUTE_MIRROR", mirror)
        with pytest.raises(InputError) as caught:
            load("svhn", root=root, split="test")
        assert reason in str(caught.value)
        assert "File not found or corrupted" in str(caught.value)
    assert not root.exists()


def test_a_host_that_does_not_answer_is_given_up(
    tmp_path: Path, svhn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolute.data.published.TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("RESOLUTE_MIRROR", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(InputError, match="timed out"):
            load("svhn", root=tmp_path / "root", split="test")
    assert socket.getdefaulttimeout() is None


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be made read-only there")
def test_a_failure_takes_no_folder_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for name in ("mnist", "kmnist"):
        with pytest.raises(InputError):
            load(name, root=tmp_path)
    assert left(tmp_path) == ["MNIST", "MNIST/raw"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, hosted: Any) -> None:
    root = tmp_path / "root"
    if os.geteuid() == 0:
        root.write_text("no folder")
    else:
        root.mkdir(mode=stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(InputError, match=r"(Permission denied|Not a directory|File exists)"):
        load("svhn", root=root, split="test")


def test_several_at_once_fetch_one_file(tmp_path: Path, hosted: Any) -> None:
    root, found = tmp_path / "root", []
    threads = [threading.Thread(target=lambda: found.append(load("svhn", root, "test").y.tolist())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert found.count(found[0]) == 4
    assert left(root) == ["test_32x32.mat"]
    assert hosted.requests == {"test_32x32.mat": 2}


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


def header(*sizes: int, kind: int = 8) -> bytes:
    return struct.pack(f">{1 + len(sizes)}i", 256 * kind + len(sizes), *sizes)


ONE = header(1, 28, 28) + bytes(784), header(1) + b"\x01"


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (b"", ONE[1], "images-idx3-ubyte is .* does not begin as an idx file of bytes in 3 dimensions"),
        (ONE[0][:9], ONE[1], "does not begin as an idx file"),
        (header(1, 28, 28, kind=13) + bytes(784), ONE[1], "does not begin as an idx file"),
        (ONE[0][:-1], ONE[1], "holds 783 bytes where its header announces 784"),
        (ONE[0] + b"?", ONE[1], "holds 785 bytes where its header announces 784"),
        (header(0, 28, 28), header(0), "holds 0 bytes where its header announces 0"),
        (header(1, 7, 7) + bytes(49), ONE[1], r"images \(1, 7, 7\), labels \(1,\)"),
        (ONE[0], header(1, 1) + b"1", "labels-idx1-ubyte is .* idx file of bytes in 1 dimensions"),
        (ONE[0], header(2) + b"12", r"with train-labels-idx1-ubyte it gives images \(1, 28, 28\), labels \(2,\)"),
        (ONE[0], header(1) + b"\x0a", "up to 10"),
    ],
)
def test_idx_files_that_are_damaged_or_of_something_else(
    tmp_path: Path, idx_files: WriteIdx, images: bytes, labels: bytes, message: str
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    idx_files(raw)
    for name, content in zip(IDX, (images, labels), strict=False):
        (raw / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{message}.*Delete it and it is fetched anew"):
        load("mnist", root=tmp_path)


def test_a_file_above_the_bound_is_not_read(
    tmp_path: Path, idx_files: WriteIdx, svhn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    idx_files(tmp_path / "MNIST" / "raw")
    monkeypatch.setattr("resolute.data.published.MOST_IDX", 784 * 30 - 1)
    with pytest.raises(InputError, match="holds 23,520 bytes"):
        load("mnist", root=tmp_path)
    monkeypatch.setattr("resolute.data.published.MOST", 1000)
    with pytest.raises(InputError, match=r"train_32x32\.mat is .* its MD5 checksum is that of [\d,]+ bytes"):
        load("svhn", root=tmp_path)


def test_a_packed_file_with_a_wrong_checksum_is_not_unpacked(tmp_path: Path, idx_files: WriteIdx) -> None:
    idx_files(tmp_path / "MNIST" / "raw", packed=True)
    with pytest.raises(InputError, match=rf"{IDX[0]}\.gz is damaged or another file: its MD5 checksum is"):
        load("mnist", root=tmp_path)


def test_a_truncated_mat_is_named_as_such(tmp_path: Path, svhn: dict[str, Any]) -> None:
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"test_32x32\.mat is damaged or another file: its MD5 checksum is"):
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


def test_odd_images_are_the_test_set_and_every_tenth_even_one_is_for_validation() -> None:
    bundled = load_digits()
    even = range(0, 1797, 2)
    wanted = {
        "test": list(range(1, 1797, 2)),
        "validation": [i for k, i in enumerate(even) if k % 10 == 9],
        "train": [i for k, i in enumerate(even) if k % 10 != 9],
        "train+validation": list(even),
    }
    assert [len(wanted[s]) for s in ("train", "validation", "test")] == [810, 89, 898]
    for split, index in wanted.items():
        images = load("digits", split=split)
        assert images.y.tolist() == bundled.target[index].tolist()
        assert np.abs(images.x[:, 0].numpy() / 255 - bundled.images[index] / 16).max() <= 0.5 / 255 + 1e-9
        assert images.split == split


def test_mean_and_std_of_the_digits_are_those_of_the_training_images() -> None:
    images = load("digits", split="train+validation")
    pixels = images.x.double() / 255
    assert images.info.mean == pytest.approx([pixels.mean().item()], abs=5e-5)
    assert images.info.std == pytest.approx([pixels.std(correction=0).item()], abs=5e-5)
