"""Batches from a set in memory, in an order that anyone can work out again from seed and epoch.

No function here reads or changes torch's global generator: what a training step saw depends on ``(seed, epoch, step)``
alone, so that a resumed run meets the same batches and all methods meet the same data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from resolute.data.info import Images

_ORDER, _AUGMENT = 0, 1
"""First word of the key: the two kinds of draws never share a stream."""


def batches(
    images: Images, batch_size: int, *, order: Tensor | None = None, device: torch.device | str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a set once.

    Args:
        images: The set.
        batch_size: Images a batch; the last batch holds the rest.
        order: int64 [m], the indices to visit; file order if None. See :func:`epoch_order`.
        device: Where the batches are wanted. The bytes travel as uint8 and become float there.

    Yields:
        ``(x, y)``: float32 [b, C, H, W] in [0, 1], exactly byte/255, and int64 [b].

    Raises:
        InputError: If the batch size is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}: it must be 1 or more")
    visited = torch.arange(len(images)) if order is None else order
    for start in range(0, len(visited), batch_size):
        index = visited[start : start + batch_size]
        x = images.x.index_select(0, index).to(device, non_blocking=True)
        y = images.y.index_select(0, index).to(device, non_blocking=True)
        yield x.to(torch.float32).div_(255), y


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Shuffle ``n`` images for one epoch.

    Args:
        n: Number of images.
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.

    Returns:
        int64 [n] on the CPU: a permutation that depends on ``(n, seed, epoch)`` and on nothing else.

    Examples:
        >>> bool(torch.equal(epoch_order(5, seed=1, epoch=2), epoch_order(5, seed=1, epoch=2)))
        True
        >>> sorted(epoch_order(5, seed=1, epoch=3).tolist())
        [0, 1, 2, 3, 4]
    """
    return torch.randperm(n, generator=_generator((_ORDER, seed, epoch), "cpu"))


def augment_generator(
    seed: int, epoch: int, step: int, device: torch.device | str = "cpu", *, rank: int = 0
) -> torch.Generator:
    """Make the generator for the augmentation of one training step.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
        step: Step within the epoch, from 0.
        device: Device of the batch. CPU and GPU draw different numbers from the same seed.
        rank: Rank of the process in distributed training, so that ranks draw independently.

    Returns:
        A fresh generator, a pure function of the arguments.
    """
    return _generator((_AUGMENT, seed, epoch, step, rank), device)


def _generator(key: tuple[int, ...], device: torch.device | str) -> torch.Generator:
    if min(key) < 0:
        raise InputError(f"seed, epoch, step and rank are 0 or more, and {min(key)} came")
    # SeedSequence mixes the words well and is promised to stay the same across NumPy's versions.
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)
