"""What load understands: names, paths, and ImageNet in small (a thousand synsets of tiny photographs)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from resolute.config import Augment
from resolute.data import DATASETS, load
from resolute.data.dataset import batches, data_root, epoch_order, training_batches
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("RESOLUTE_DATA", raising=False)
    assert data_root() == Path("/home/someone/.cache/resolute")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root() == Path("/cache/resolute")
    monkeypatch.setenv("RESOLUTE_DATA", "~/data")
    assert data_root() == Path("/home/someone/data")
    assert data_root("here") == Path("here")


def test_a_name_wins_over_a_folder_and_a_dot_names_the_folder(image_folder: Callable[..., Path]) -> None:
    image_folder(Path("digits"), {"a": 3, "b": 3})
    assert load("digits").info.classes == 10
    there = load("./digits")
    assert (there.info.classes, there.info.name) == (2, "./digits")
    assert load(Path("digits").resolve()).info.classes == 2


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"name_or_path": "mnits"}, r"unknown data set 'mnits': did you mean 'mnist'.*no folder mnits either"),
        (
            {"name_or_path": "photos/cats"},
            "there is no folder photos/cats. Give one that is there, or one of cifar10",
        ),
        ({"name_or_path": "digits", "split": "valid"}, "unknown split 'valid': did you mean 'validation'"),
        ({"name_or_path": "digits", "size": 32}, "size 32 came with 'digits'"),
        ({"name_or_path": ".", "size": 0}, "size is 0: it is a number of pixels"),
        ({"name_or_path": __file__}, "is a file: give the path of the folder"),
    ],
)
def test_bad_requests(what: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(**what)


def test_every_name_is_the_name_of_its_set() -> None:
    published = {"mnist", "fashion-mnist", "kmnist", "emnist", "svhn", "svhn-core", "cifar10", "cifar100"}
    assert set(DATASETS) == {"digits", "imagenet"} | published
    assert load("digits").info.name == "digits"


def test_every_loader_is_described_in_a_line() -> None:
    for name, loader in DATASETS.items():
        first = str(loader.__doc__).split("\n", 1)[0]
        assert len(first) > 20, name


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("torchvision", "sklearn", "PIL", "pyarrow", "scipy")
    code = f"import resolute.data, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


SYNSETS = (resources.files("timm.data._info") / "imagenet_synsets.txt").read_text().split()


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLUTE_WORKERS", "0")


@pytest.fixture(scope="module")
def blobs() -> list[bytes]:
    import io

    made = []
    for seed in range(5):
        stream = io.BytesIO()
        pixels = np.random.default_rng(seed).integers(0, 256, (12 + seed, 15, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG")
        made.append(stream.getvalue())
    return made


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory, blobs: list[bytes]) -> Path:
    """A data folder with ImageNet's own layout: two images a class to train on, one to test on."""
    root = tmp_path_factory.mktemp("data")
    for k, synset in enumerate(SYNSETS):
        for part, count in (("train", 2), ("val", 1)):
            folder = root / "imagenet" / part / synset
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{synset}_{i}.JPEG").write_bytes(blobs[(k + i) % 5])
    return root


def test_a_folder_of_synsets(thousand: Path) -> None:
    counts = {"train+validation": 2000, "train": 1800, "validation": 200, "test": 1000}
    for split, n in counts.items():
        assert len(load("imagenet", root=thousand, split=split)) == n
    images = load("imagenet", root=thousand, split="test")
    assert images.info.shape == (3, 224, 224)
    assert images.info.class_names == tuple(sorted(SYNSETS))
    assert images.info.augment == Augment(flip=True, crop=0.08)
    assert (images.info.mean, images.info.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    x, y = next(batches(images, 3))
    transform = v2.Compose([v2.Resize(256), v2.CenterCrop(224), v2.PILToTensor()])
    for k in range(3):
        synset = sorted(SYNSETS)[k]
        with Image.open(thousand / "imagenet" / "val" / synset / f"{synset}_0.JPEG") as image:
            assert torch.equal(x[k], transform(image).float() / 255)
    assert y.tolist() == [0, 1, 2]


def test_the_folder_itself_and_another_size(thousand: Path) -> None:
    images = load("imagenet", root=thousand / "imagenet", split="test", size=299)
    assert images.info.shape == (3, 299, 299)
    assert images.stream is not None
    assert images.stream.resize == 342


def test_training_batches(thousand: Path) -> None:
    images = load("imagenet", root=thousand, size=32)
    order = epoch_order(len(images), 0, 0)[:20]
    got = list(training_batches(images, 8, images.info.augment, seed=0, epoch=0, order=order))
    assert [len(y) for _, y in got] == [8, 8, 4]
    assert torch.cat([y for _, y in got]).tolist() == images.y[order].tolist()
    assert all(x.shape[1:] == (3, 32, 32) for x, _ in got)


def test_parquet_with_a_test_part_that_has_no_labels(
    tmp_path: Path, blobs: list[bytes], hugging_face_file: Callable[..., Path]
) -> None:
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": [str(k) for k in range(1000)]}}
    for part, labels in (("train", [*range(1000)] * 2), ("validation", [*range(1000)]), ("test", [-1] * 10)):
        file = tmp_path / "imagenet" / "data" / f"{part}-00000-of-00001.parquet"
        columns: dict[str, Any] = {"image": [blobs[k % 5] for k in range(len(labels))], "label": labels}
        hugging_face_file(file, columns, features)
    assert len(load("imagenet", root=tmp_path, split="train+validation")) == 2000
    images = load("imagenet", root=tmp_path, split="test", size=32)
    assert images.y.tolist() == list(range(1000))
    assert next(batches(images, 4))[0].shape == (4, 3, 32, 32)


def copy_of(thousand: Path, tmp_path: Path) -> Path:
    shutil.copytree(thousand / "imagenet", tmp_path / "imagenet", copy_function=lambda a, b: shutil.os.link(a, b))  # type: ignore[attr-defined]
    return tmp_path / "imagenet"


def test_999_classes(thousand: Path, tmp_path: Path) -> None:
    folder = copy_of(thousand, tmp_path)
    for part in ("train", "val"):
        shutil.rmtree(folder / part / "n01440764")
    with pytest.raises(InputError, match=r"has 999 classes, and ImageNet-1k has 1,000; missing: n01440764"):
        load("imagenet", root=tmp_path)
    for part in ("train", "val"):
        (folder / part / "n99999999").mkdir()
        shutil.copy(folder / part / "n01443537" / "n01443537_0.JPEG", folder / part / "n99999999")
    shutil.rmtree(folder / "val" / "n01443537")
    with pytest.raises(InputError, match=r"in train but not in validation: 'n01443537'"):
        load("imagenet", root=tmp_path)
    for part in ("train", "val"):
        (folder / part / "extra").mkdir()
        shutil.copy(folder / part / "n99999999" / "n01443537_0.JPEG", folder / part / "extra")
    with pytest.raises(InputError, match=r"has 1,001 classes.*; missing: n01440764; foreign: extra, n99999999"):
        load("imagenet", root=tmp_path)


def test_a_flat_val_folder(thousand: Path, tmp_path: Path) -> None:
    (tmp_path / "imagenet" / "val").mkdir(parents=True)
    (tmp_path / "imagenet" / "train").symlink_to(thousand / "imagenet" / "train")
    shutil.copy(thousand / "imagenet" / "val" / SYNSETS[0] / f"{SYNSETS[0]}_0.JPEG", tmp_path / "imagenet" / "val")
    with pytest.raises(InputError, match=r"val: its images are in no class folder"):
        load("imagenet", root=tmp_path)


def test_train_alone(thousand: Path, tmp_path: Path) -> None:
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "train").symlink_to(thousand / "imagenet" / "train")
    with pytest.raises(InputError, match="has train alone: put val beside train"):
        load("imagenet", root=tmp_path)


def test_other_class_names(tmp_path: Path, image_folder: Callable[..., Path]) -> None:
    for part in ("train", "val"):
        image_folder(tmp_path / "imagenet" / part, {"cat": 1, "dog": 1})
    with pytest.raises(InputError, match=r"has 2 classes, and ImageNet-1k has 1,000\. Wanted are its 1,000 synsets"):
        load("imagenet", root=tmp_path)


def test_no_imagenet(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load("imagenet", root=tmp_path)
    for word in (str(tmp_path / "imagenet"), "train/n01440764", "val/", "parquet", "--data-dir", "RESOLUTE_DATA"):
        assert word in str(caught.value)
