"""The published rule that says which image is for training, for validation and for the test. There is no randomness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from resolute.data.seeding import part_generator
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

SPLITS = ("train", "validation", "test", "train+validation")


def of_training(training: Tensor, split: str) -> Tensor:
    """Take a split's part of the official training images: image i is for validation if ``i % 10 == 9``.

    Args:
        training: int64 [n], where the official training images are, in file order.
        split: ``"train"``, ``"validation"``, or ``"train+validation"`` for all of them.

    Returns:
        int64, the part of ``training`` that belongs to the split, in order.

    Examples:
        >>> of_training(torch.arange(20), "validation").tolist()
        [9, 19]
    """
    if split == "train+validation":
        return training
    held_out = torch.arange(len(training)) % 10 == 9
    return training[held_out if split == "validation" else ~held_out]


def members(counts: Mapping[str, int], split: str) -> Tensor:
    """Find a split's images in a folder or in parquet files, whose parts lie one after the other.

    A set with a training part and a test part keeps them; a validation part plays the test set if there is none, as
    ImageNet's does, and is the validation set if there are all three. Anything else is a set that nobody has split:
    image i is for the test if ``i % 5 == 4``, and the rest are the official training images.

    Args:
        counts: Number of images of each part, in order; the parts are named ``"train"``, ``"validation"``, ``"test"``.
        split: One of ``SPLITS``.

    Returns:
        int64, the positions of the split's images.

    Examples:
        >>> members({"train": 10}, "test").tolist()
        [4, 9]
        >>> members({"train": 10, "test": 2}, "test").tolist()
        [10, 11]
    """
    ends = torch.tensor(list(counts.values())).cumsum(0).tolist()
    parts = {name: torch.arange(end - counts[name], end) for name, end in zip(counts, ends, strict=True)}
    if len(parts) == 1:
        everything = torch.arange(sum(counts.values()))
        in_test = everything % 5 == 4
        return everything[in_test] if split == "test" else of_training(everything[~in_test], split)
    if split == "test":
        return parts["test"] if "test" in parts else parts["validation"]
    if len(parts) == 3:
        return torch.cat([parts[name] for name in split.split("+")])
    return of_training(parts["train"], split)


def balanced_part(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Draw a share of each class, for training on less.

    With one seed a smaller fraction draws a part of what a larger one draws.

    Args:
        labels: int64 [n].
        fraction: Share of each class that is kept, above 0 and up to 1; rounded, and at least one image.
        seed: Seed of the draw, 0 or more.

    Returns:
        int64 [m], positions in order.

    Raises:
        InputError: If the fraction is out of range.

    Examples:
        >>> labels = torch.arange(40) % 2
        >>> labels[balanced_part(labels, 0.1, seed=0)].bincount().tolist()
        [2, 2]
    """
    if not 0 < fraction <= 1:
        raise InputError(f"train fraction is {fraction}: it is a share of the training images, above 0 and up to 1")
    kept = []
    for members_of_class in (torch.nonzero(labels == label)[:, 0] for label in labels.unique()):
        n = len(members_of_class)
        order = torch.randperm(n, generator=part_generator(seed))
        kept.append(members_of_class[order[: max(1, round(fraction * n))]])
    return torch.cat(kept).sort().values


def last_of_each_class(labels: Tensor, n: int) -> Tensor:
    """Mark the last ``n`` images of each class.

    Args:
        labels: int64 [m].
        n: Images of each class; a class with fewer is marked as a whole.

    Returns:
        bool [m].

    Examples:
        >>> last_of_each_class(torch.tensor([0, 1, 0, 0, 1]), 2).tolist()
        [False, True, True, True, True]
    """
    by_class = labels.argsort(stable=True)
    ends = labels.bincount().cumsum(0)
    from_end = ends[labels[by_class]] - torch.arange(len(labels))
    return torch.zeros(len(labels), dtype=torch.bool).scatter_(0, by_class, from_end <= n)
