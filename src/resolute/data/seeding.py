"""What seeds everything random about data: pure functions of seed, epoch, step and position.

No function here reads or changes torch's global generator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from resolute.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_ORDER, _AUGMENT, _CROP, _PART = 0, 1, 2, 3
"""First word of the key: the kinds of draws never share a stream."""


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


def crop_generator(seed: int, epoch: int, position: int) -> torch.Generator:
    """Make the generator for the random crop of one image.

    Args:
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
        position: Where the image is in its set.

    Returns:
        A fresh generator on the CPU, a pure function of the arguments.
    """
    return _generator((_CROP, seed, epoch, position), "cpu")


def part_generator(seed: int) -> torch.Generator:
    """Make the generator that draws a part of each class.

    Args:
        seed: Seed of the run, 0 or more.

    Returns:
        A fresh generator on the CPU.
    """
    return _generator((_PART, seed), "cpu")


def _generator(key: tuple[int, ...], device: torch.device | str) -> torch.Generator:
    if min(key) < 0:
        raise InputError(f"seed, epoch, step and rank are 0 or more, and {min(key)} came")
    # SeedSequence mixes the words well and is promised to stay the same across NumPy's versions.
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)
