"""What a data set is: its description, and its images, in memory or on the disk."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from resolute.data.augmentation import Augment
from resolute.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from resolute.data.streaming import Stream

SMALL = 64
"""Photographs of at most this many pixels a side get the customs of CIFAR, larger ones those of ImageNet."""


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a model, an augmentation and an attack need to know of a data set.

    Attributes:
        name: Name in ``DATASETS``, or the path as it was given.
        classes: Number of classes.
        shape: ``(C, H, W)`` of every image.
        mean: What is subtracted from each channel, in pixel units [0, 1]: its mean over the training images, or 0
            where the set's sources do not normalise (SVHN).
        std: What each channel is then divided by, in pixel units: its standard deviation over the training images, or
            1 where the set's sources do not normalise.
        class_names: One name a class.
        augment: The customary augmentation for training.
        radius: The customary FGSM radius for training, in pixel units.
        radii: The attack radii to report, in pixel units.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    augment: Augment
    radius: float
    radii: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A set of labelled images. Go through it with :func:`~resolute.data.batches`, wherever the pixels are.

    Attributes:
        info: Description of the data set that they belong to.
        x: uint8 [n, C, H, W]; [0, C, H, W] if the pixels stay on the disk.
        y: int64 [n] in 0..classes-1.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"train+validation"``.
        stream: What reads the pixels from the disk; None if they are in memory.

    Raises:
        InputError: If the tensors do not fit each other or the description.
    """

    info: DataInfo
    x: Tensor
    y: Tensor
    split: str
    stream: Stream | None = None

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or tuple(self.x.shape[1:]) != self.info.shape:
            raise InputError(
                f"x is {self.x.dtype} {tuple(self.x.shape)}: wanted torch.uint8 of shape (n, *{self.info.shape})"
            )
        n = len(self.x) if self.stream is None else len(self.stream.positions)
        if self.y.dtype != torch.int64 or self.y.shape != (n,):
            raise InputError(f"y is {self.y.dtype} {tuple(self.y.shape)}: wanted torch.int64 of shape ({n},)")

    def __len__(self) -> int:
        """Count the images."""
        return len(self.y)

    def part(self, index: Tensor) -> Images:
        """Take some of the images; their description, mean and deviation included, stays that of the whole set.

        Args:
            index: int64 [m], positions.

        Returns:
            Those images, in the order of the index.
        """
        if self.stream is None:
            return dataclasses.replace(self, x=self.x[index], y=self.y[index])
        stream = dataclasses.replace(self.stream, positions=self.stream.positions[index.numpy()])
        return dataclasses.replace(self, y=self.y[index], stream=stream)


def photographs(
    name: str,
    shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    class_names: tuple[str, ...],
) -> DataInfo:
    """Describe a set of photographs with the customs of CIFAR (up to 64 pixels a side) or of ImageNet (larger).

    Augmentation: a shift of 4 pixels with reflection for small images (Zagoruyko and Komodakis, 2016, "Wide Residual
    Networks"), of an eighth of the shorter side for larger ones (the 28 of 224 pixels by which a 256-pixel image
    exceeds its crop, nearly). Flips for colour images only: grey ones are often characters, which a flip turns into
    something else.

    Radius: 8/255 for small images (Madry et al., 2018, on CIFAR-10) and 4/255 for larger ones (Wong et al., 2020, on
    ImageNet). Reported are 2/255, 4/255 and 8/255: those two papers' values.

    Args:
        name: Path of the set, as it was given.
        shape: ``(C, H, W)``.
        mean: Mean of each channel, in pixel units.
        std: Standard deviation of each channel, in pixel units.
        class_names: One name a class.

    Returns:
        The description.
    """
    channels, height, width = shape
    small = max(height, width) <= SMALL
    shift = min(4 if small else min(height, width) // 8, min(height, width) - 1)
    return DataInfo(
        name=name,
        classes=len(class_names),
        shape=shape,
        mean=mean,
        std=std,
        class_names=class_names,
        augment=Augment(shift=shift, padding="reflect", flip=channels == 3),
        radius=8 / 255 if small else 4 / 255,
        radii=(2 / 255, 4 / 255, 8 / 255),
    )
