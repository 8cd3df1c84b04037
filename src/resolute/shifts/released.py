"""Corruptions as released: CIFAR-10-C, CIFAR-100-C and ImageNet-C beside the clean test images."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from resolute.data.dataset import Images, Stream, data_root, hash_file, worker_count
from resolute.data.folders import open_folder
from resolute.errors import InputError
from resolute.safe_io import read_array
from resolute.shifts.imagenet_c import CORRUPTIONS
from resolute.shifts.shift import Shift

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.data.dataset import DataInfo


SEVERITIES = (1, 2, 3, 4, 5)


class Release(NamedTuple):
    """One released set.

    Attributes:
        folder: Its folder below the data root.
        record: Its number at Zenodo.
        example: A file that it holds, for messages.
        read: ``(folder, corruption, severity, images) -> Images``, described as the clean images are.
    """

    folder: str
    record: int
    example: str
    read: Callable[[Path, str, int, Images], Images]


def _read_arrays(folder: Path, corruption: str, severity: int, images: Images) -> Images:
    stored, labels = read_array(folder / f"{corruption}.npy"), read_array(folder / "labels.npy")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels.npy holds {labels.dtype} {labels.shape}; wanted are integers in one dimension")
    n = len(labels) // len(SEVERITIES)
    if stored.shape[0] != len(labels) or stored.shape[1:] != (32, 32, 3) or stored.dtype != np.uint8:
        raise InputError(
            f"{folder / corruption}.npy holds {stored.dtype} {stored.shape} for {len(labels)} labels; wanted is uint8 "
            "(n, 32, 32, 3). Unpack the released archive anew."
        )
    part = slice((severity - 1) * n, severity * n)
    x, y = torch.from_numpy(np.moveaxis(stored[part], -1, 1).copy()), torch.from_numpy(labels[part].astype(np.int64))
    return Images(images.info, x, y, images.split)


def _read_files(folder: Path, corruption: str, severity: int, images: Images) -> Images:
    """Leave 50,000 photographs on the disk; they are 224 pixels wide already."""
    encoded = open_folder(folder / corruption / str(severity))
    shape = images.info.shape
    pixels = Stream(encoded.blobs, np.arange(len(encoded.y)), shape, min(shape[1:]), worker_count(), encoded.place)
    return Images(images.info, torch.empty((0, *shape), dtype=torch.uint8), encoded.y, images.split, pixels)


RELEASES: dict[str, Release] = {
    "cifar10-c": Release("CIFAR-10-C", 2535967, "fog.npy", _read_arrays),
    "cifar100-c": Release("CIFAR-100-C", 3555552, "fog.npy", _read_arrays),
    "imagenet-c": Release("ImageNet-C", 2235448, "fog/1/n01440764/ILSVRC2012_val_00000293.JPEG", _read_files),
}
"""By the name of the suite."""


def released(name: str, root: str | Path | None = None) -> list[Shift]:
    """List the shifts of a released set; nothing is read before a shift is used."""
    return [
        Shift(
            name,
            corruption,
            float(severity),
            lambda _model, x, _y, _seeds: x,
            functools.partial(load_released, name, corruption, severity, root),
        )
        for corruption in CORRUPTIONS
        for severity in SEVERITIES
    ]


def cifar10_c(info: DataInfo) -> list[Shift]:  # noqa: ARG001 every suite takes the data's description
    """Show the released CIFAR-10-C in place of the test images of CIFAR-10."""
    return released("cifar10-c")


def cifar100_c(info: DataInfo) -> list[Shift]:  # noqa: ARG001 every suite takes the data's description
    """Show the released CIFAR-100-C in place of the test images of CIFAR-100."""
    return released("cifar100-c")


def imagenet_c(info: DataInfo) -> list[Shift]:  # noqa: ARG001 every suite takes the data's description
    """Show the released ImageNet-C in place of the validation images of ImageNet."""
    return released("imagenet-c")


def released_sha256(name: str, root: str | Path | None) -> dict[str, str]:
    """Identify the arrays of a released set; of ImageNet-C's millions of photographs nothing is read for it."""
    return {file.name: hash_file(file) for file in sorted((data_root(root) / RELEASES[name].folder).glob("*.npy"))}


def load_released(name: str, corruption: str, severity: int, root: str | Path | None, images: Images) -> Images:
    """Read one corruption at one severity, in the order of the clean images."""
    release = RELEASES[name]
    folder = data_root(root) / release.folder
    place = f"{folder}/{release.example}"
    try:
        found = release.read(folder, corruption, severity, images)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name} cannot be read ({error}). Fetch it from Zenodo, record {release.record}, and unpack it so that "
            f"{place} is there; or say where it is: the variable RESOLUTE_DATA names the folder that holds "
            f"{release.folder}."
        ) from error
    if not torch.equal(found.y, images.y):
        raise InputError(
            f"the {len(found):,} labels of {name} ({corruption}, severity {severity}) are not those of the "
            f"{len(images):,} images of {images.info.name} ({images.split}): the official test images in their "
            "official order belong to it. Sets that were shuffled or cut cannot be matched."
        )
    return found


ALEXNET: dict[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
"""AlexNet's errors on the released ImageNet-C, each the mean over the severities (Hendrycks and Dietterich, 2019)."""
ALEXNET_CLEAN = 1 - 0.56522
"""AlexNet's error on ImageNet: torchvision's figure for its weights."""
