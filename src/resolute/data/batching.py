"""Batches of a set, in memory or on the disk, in an order that anyone can work out again from seed and epoch.

No function here reads or changes torch's global generator: what a training step saw depends on ``(seed, epoch, step)``
alone, so that a resumed run meets the same batches and all methods meet the same data.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import torch

from resolute.data.augmentation import Augment, augment
from resolute.data.seeding import augment_generator
from resolute.data.streaming import Crop, decode_batches
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from resolute.data.info import Images


def batches(
    images: Images,
    batch_size: int,
    *,
    order: Tensor | None = None,
    device: torch.device | str = "cpu",
    crop: Crop | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a set once.

    Args:
        images: The set.
        batch_size: Images a batch; the last batch holds the rest.
        order: int64 [m], the indices to visit; file order if None. See :func:`epoch_order`.
        device: Where the batches are wanted. The bytes travel as uint8 and become float there.
        crop: Random crops of photographs that are streamed, made as they are decoded; None for their centres.

    Yields:
        ``(x, y)``: float32 [b, C, H, W] in [0, 1], exactly byte/255, and int64 [b].

    Raises:
        InputError: If the batch size is below 1, or an image that is streamed cannot be read.
    """
    for x, y in _bytes(images, batch_size, order, device, crop):
        yield _as_float(x), y


def take(images: Images, index: Tensor) -> Tensor:
    """Fetch some images, decoded here and now if they are on the disk.

    Args:
        images: The set.
        index: int64 [b], positions in it.

    Returns:
        uint8 [b, C, H, W].

    Raises:
        InputError: If an image cannot be read.
    """
    if images.stream is None:
        return images.x[index]
    pixels = [images.stream.pixels(i, None) for i in index.tolist()]
    return torch.from_numpy(np.stack(pixels)) if pixels else images.x


def training_batches(
    images: Images,
    batch_size: int,
    policy: Augment,
    *,
    seed: int,
    epoch: int,
    order: Tensor,
    device: torch.device | str = "cpu",
    rank: int = 0,
    first_step: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a set once and augment each batch.

    Args:
        images: The set. Photographs that are streamed get their random crop as they are decoded, a function of
            ``(seed, epoch, position)``; everything else is drawn from :func:`augment_generator`.
        batch_size: Images a batch; the last batch holds the rest.
        policy: What may be done to the images.
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
        order: int64 [m], the indices to visit. See :func:`epoch_order`.
        device: Where the batches are wanted, and augmented.
        rank: Rank of the process in distributed training, so that ranks draw independently.
        first_step: Step to begin with: the batches before it are neither read nor decoded.

    Yields:
        ``(x, y)``: float32 [b, C, H, W] in [0, 1] and int64 [b].
    """
    crop = Crop(policy.crop, seed, epoch) if images.stream is not None and policy.crop < 1 else None
    after = dataclasses.replace(policy, crop=1.0) if crop else policy
    rest = order[first_step * batch_size :]
    for step, (x, y) in enumerate(_bytes(images, batch_size, rest, device, crop), first_step):
        # As bytes, a quarter of the memory is moved; only an enlarged crop is rounded by it.
        yield _as_float(augment(x, after, augment_generator(seed, epoch, step, x.device, rank=rank))), y


def _bytes(
    images: Images, batch_size: int, order: Tensor | None, device: torch.device | str, crop: Crop | None
) -> Iterator[tuple[Tensor, Tensor]]:
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}: it must be 1 or more")
    visited = torch.arange(len(images)) if order is None else order
    parts = visited.split(batch_size) if len(visited) else ()
    pin = torch.device(device).type == "cuda"
    decoded: Iterator[Tensor]
    if images.stream is None:
        decoded = (images.x.index_select(0, index) for index in parts)
    else:
        decoded = decode_batches(images.stream, visited, batch_size, crop, pin)
    for index, pixels in zip(parts, decoded, strict=True):
        y = images.y.index_select(0, index)
        yield pixels.to(device, non_blocking=True), y.to(device, non_blocking=True)


def _as_float(x: Tensor) -> Tensor:
    return x.to(torch.float32).div_(255)
