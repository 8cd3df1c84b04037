from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cases import tiny_images, tiny_info, tiny_network
from resolute import shifts
from resolute.data.dataset import Images, take
from resolute.errors import InputError
from resolute.evaluation.measure import measure
from resolute.shifts import find_shifts
from resolute.shifts.imagenet_c import CORRUPTIONS
from resolute.shifts.released import ALEXNET, RELEASES

INFO = tiny_info(shape=(3, 32, 32))
CLEAN = tiny_images(20, INFO, split="test")


def stored(name: str, shift: str, severity: int, clean: Images = CLEAN, root: str = ".") -> Images:
    [found] = [s for s in find_shifts([name], clean.info, root) if (s.name, s.severity) == (shift, severity)]
    assert found.stored is not None
    return found.stored(clean)


@pytest.fixture
def arrays(request: pytest.FixtureRequest) -> np.ndarray:
    """Write a CIFAR-10-C of 20 images with one corruption."""
    folder = Path("CIFAR-10-C")
    folder.mkdir()
    made = np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "fog.npy", made)
    np.save(folder / "labels.npy", np.tile(CLEAN.y.numpy().astype(np.uint8), 5))
    return made


def test_there_is_an_error_of_alexnet_for_each_corruption() -> None:
    assert list(ALEXNET) == list(CORRUPTIONS)


def test_every_release_has_the_benchmark_s_shifts() -> None:
    for name in RELEASES:
        shifts = find_shifts([name], INFO)
        assert [shift.key for shift in shifts] == [(name, c, float(s)) for c in CORRUPTIONS for s in range(1, 6)]
        x = torch.rand(2, 3, 4, 4)
        assert shifts[0].apply(nn.Identity(), x, torch.zeros(2), torch.arange(2)) is x


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_a_severity_is_a_block_of_the_array(arrays: np.ndarray, severity: int) -> None:
    found = stored("cifar10-c", "fog", severity)
    block = arrays[20 * (severity - 1) : 20 * severity]
    assert torch.equal(found.x, torch.from_numpy(block).permute(0, 3, 1, 2))
    assert torch.equal(found.y, CLEAN.y)
    assert found.split == "test"


def test_the_root_is_an_argument_or_a_variable(arrays: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLUTE_DATA", str(Path.cwd()))
    shift = next(s for s in shifts.SUITES["cifar10-c"](INFO) if s.name == "fog")
    assert shift.stored is not None
    assert torch.equal(shift.stored(CLEAN).x, stored("cifar10-c", "fog", 1).x)


def test_evaluation_shows_the_stored_images(arrays: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESOLUTE_DATA", str(Path.cwd()))
    for name in CORRUPTIONS:
        if name != "fog":
            np.save(f"CIFAR-10-C/{name}.npy", arrays)
    network = tiny_network(shape=(3, 32, 32))
    bits = measure(network, CLEAN, ["cifar10-c"], batch_size=7)
    network.eval()
    shown = torch.from_numpy(arrays[60:80]).permute(0, 3, 1, 2).float() / 255
    assert bits["cifar10-c", "fog", 4.0].tolist() == (network(shown).argmax(1) == CLEAN.y).tolist()


@pytest.fixture
def folders() -> Images:
    """Write an ImageNet-C of seven photographs in three classes, and give the clean images."""
    y = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    clean = Images(INFO, torch.zeros(7, 3, 32, 32, dtype=torch.uint8), y, "test")
    for i, label in enumerate(y.tolist()):
        file = Path(f"ImageNet-C/frost/2/n0{label}/ILSVRC2012_val_{i:08}.JPEG")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (30 * i, 30 * i, 30 * i)).save(file, quality=95)
    return clean


def test_imagenet_c_is_read_from_its_folders(folders: Images) -> None:
    found = stored("imagenet-c", "frost", 2, folders)
    assert found.stream is not None
    assert take(found, torch.arange(7))[:, 0, 0, 0].tolist() == pytest.approx([30 * i for i in range(7)], abs=1)
    assert torch.equal(found.y, folders.y)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("cifar10-c", "record 2535967, and unpack it so that CIFAR-10-C/fog.npy is there"),
        ("cifar100-c", "record 3555552, and unpack it so that CIFAR-100-C/fog.npy is there"),
        ("imagenet-c", "record 2235448, and unpack it so that ImageNet-C/fog/1/n01440764/ILSVRC2012"),
    ],
)
def test_what_is_not_there_is_named(name: str, place: str) -> None:
    with pytest.raises(InputError, match=re.escape(place)):
        stored(name, "fog", 1)


def test_shuffled_images_are_refused(arrays: np.ndarray) -> None:
    shuffled = dataclasses.replace(CLEAN, y=CLEAN.y.roll(1))
    with pytest.raises(InputError, match=r"the 20 labels of cifar10-c .* are not those of the 20 images of tiny"):
        stored("cifar10-c", "fog", 1, shuffled)


def test_fewer_images_are_refused(arrays: np.ndarray, folders: Images) -> None:
    few = Images(INFO, CLEAN.x[:10], CLEAN.y[:10], "test")
    with pytest.raises(InputError, match=r"the 20 labels of cifar10-c .* the 10 images"):
        stored("cifar10-c", "fog", 1, few)
    with pytest.raises(InputError, match=r"the 7 labels of imagenet-c .* the 10 images"):
        stored("imagenet-c", "frost", 2, few)


def test_an_array_of_another_shape_is_refused(arrays: np.ndarray) -> None:
    np.save("CIFAR-10-C/snow.npy", arrays.transpose(0, 3, 1, 2))
    with pytest.raises(InputError, match=r"snow.npy holds uint8 \(100, 3, 32, 32\) for 100 labels"):
        stored("cifar10-c", "snow", 1)


def test_a_broken_array_is_refused(arrays: np.ndarray) -> None:
    Path("CIFAR-10-C/snow.npy").write_bytes(b"nothing")
    with pytest.raises(InputError, match="cifar10-c cannot be read"):
        stored("cifar10-c", "snow", 1)
