"""From compressed images, wherever they lie, to a set in memory: sizes, limits, moments, and what cannot be read."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NoReturn, TypeVar

import numpy as np
import torch

from resolute.data.info import Images, photographs
from resolute.data.pixels import Blob, decode, peek
from resolute.data.splits import members
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from resolute.data.pixels import Header

CHUNK = 256
"""Compressed images in memory at a time."""
MEMORY_LIMIT = 4 * 2**30
"""Largest set in bytes that is held in memory."""
SIDES = (32, 64, 128, 224)
"""Sides to choose from where the images' sizes differ and none was asked for."""
_SHOWN = 5
_PER_TASK = 32

_Task = list[tuple[int, Blob]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Labelled images that are still compressed.

    Attributes:
        place: The folder, for messages.
        counts: Images in each part (``"train"``, ``"validation"``, ``"test"``), in the order in which they lie.
        y: int64 [n], all labels in that order.
        class_names: One name a class.
        chunks: Goes through all images in order, at most ``CHUNK`` at a time.
        describe: Names the image at a position, for messages.
    """

    place: str
    counts: dict[str, int]
    y: Tensor
    class_names: tuple[str, ...]
    chunks: Callable[[], Iterator[Sequence[Blob]]]
    describe: Callable[[int], str]


def load_encoded(encoded: Encoded, name: str, split: str, size: int | None) -> Images:
    """Decode a split, and measure mean and std on the official training images in the same pass.

    Args:
        encoded: The compressed set.
        name: What the set is called.
        split: One of ``SPLITS``.
        size: Side of the square that images are brought to, or None: see :func:`common_shape`.

    Returns:
        The split in memory.

    Raises:
        InputError: If the split is empty, too large for memory, or holds images that cannot be read.
    """
    _check_classes(encoded)
    wanted, training = members(encoded.counts, split), members(encoded.counts, "train+validation")
    if not len(wanted):
        raise InputError(
            f"the split {split!r} of {encoded.place} is empty: {len(encoded.y)} images are too few to be split"
        )
    # A lower bound that costs nothing, before any file is opened.
    _check_memory(encoded.place, len(wanted), (1, size or 1, size or 1))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        headers, bad = _peek_all(encoded, pool)
        if not headers:
            _refuse_unreadable(encoded, bad)
        shape = common_shape(headers, size)
        _check_memory(encoded.place, len(wanted), shape)
        x, histogram, broken = _decode_all(encoded, wanted, training, shape, pool)
    if bad or broken:
        _refuse_unreadable(encoded, bad | broken)
    info = photographs(name, shape, *_moments(histogram), encoded.class_names)
    return Images(info, torch.from_numpy(x), encoded.y[wanted], split)


def common_shape(headers: Sequence[Header], size: int | None) -> tuple[int, int, int]:
    """Choose the shape that all images of a set are brought to.

    One channel if every image has one, else three. A size that was asked for gives a square. Otherwise images that
    all have one size keep it; if sizes differ, the side is the largest of 32, 64, 128 and 224 that the median image's
    shorter side reaches (32 if it reaches none).

    Args:
        headers: The headers of all images of the set, of whatever split, so that the splits agree.
        size: Side in pixels, or None.

    Returns:
        ``(C, H, W)``.

    Examples:
        >>> from resolute.data.pixels import Header
        >>> common_shape([Header(True, 20, 30), Header(True, 20, 30)], size=None)
        (1, 20, 30)
        >>> common_shape([Header(True, 160, 120), Header(False, 200, 300)], size=None)
        (3, 128, 128)
    """
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = {(header.height, header.width) for header in headers}
    if size is None and len(sizes) == 1:
        return (channels, *sizes.pop())
    if size is None:
        typical = median(min(header.height, header.width) for header in headers)
        size = max((side for side in SIDES if side <= typical), default=SIDES[0])
    return (channels, size, size)


def _peek_all(encoded: Encoded, pool: ThreadPoolExecutor) -> tuple[list[Header], dict[int, str]]:
    headers: list[Header] = []
    bad: dict[int, str] = {}
    for task in _in_tasks(encoded, range(len(encoded.y)), lambda task: _attempt_each(task, peek), pool):
        for i, header in task:
            if isinstance(header, Exception):
                bad[i] = _reason(header)
            else:
                headers.append(header)
    return headers, bad


def _decode_all(
    encoded: Encoded, wanted: Tensor, training: Tensor, shape: tuple[int, int, int], pool: ThreadPoolExecutor
) -> tuple[NDArray[np.uint8], NDArray[np.int64], dict[int, str]]:
    """Decode each image that is wanted or measured, once: the images, the training bytes' counts [C, 256], the bad."""
    x = np.empty((len(wanted), *shape), dtype=np.uint8)
    slots = {i: slot for slot, i in enumerate(wanted.tolist())}
    measured = frozenset(training.tolist())

    def work(task: _Task) -> tuple[NDArray[np.int64], dict[int, str]]:
        counts = np.zeros((shape[0], 256), dtype=np.int64)
        broken: dict[int, str] = {}
        for i, pixels in _attempt_each(task, lambda blob: decode(blob, shape)):
            if isinstance(pixels, Exception):
                broken[i] = _reason(pixels)
                continue
            if i in slots:
                x[slots[i]] = pixels
            if i in measured:
                counts += [np.bincount(channel.ravel(), minlength=256) for channel in pixels]
        return counts, broken

    histogram = np.zeros((shape[0], 256), dtype=np.int64)
    bad: dict[int, str] = {}
    for counts, broken in _in_tasks(encoded, slots.keys() | measured, work, pool):
        histogram += counts
        bad |= broken
    return x, histogram, bad


def _in_tasks(
    encoded: Encoded, positions: Collection[int], work: Callable[[_Task], T], pool: ThreadPoolExecutor
) -> Iterator[T]:
    """Give what ``work`` makes of a few images at a time, for the images at these positions."""
    start = 0
    for chunk in encoded.chunks():
        todo = [(i, blob) for i, blob in enumerate(chunk, start) if i in positions]
        start += len(chunk)
        yield from pool.map(work, [todo[k : k + _PER_TASK] for k in range(0, len(todo), _PER_TASK)])


def _attempt_each(task: _Task, read: Callable[[Blob], T]) -> list[tuple[int, T | Exception]]:
    return [(i, _attempt(read, blob)) for i, blob in task]


def _attempt(read: Callable[[Blob], T], blob: Blob) -> T | Exception:
    try:
        return read(blob)
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types for a broken file
        return error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _moments(histogram: NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std in pixel units, to four digits; std is at least one grey level, to divide by."""
    level = np.arange(256) / 255
    share = histogram / histogram.sum(1, keepdims=True).clip(min=1)
    mean = share @ level
    std = np.sqrt((share * np.square(level - mean[:, None])).sum(1)).clip(min=1 / 255)
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())


def _check_memory(place: str, n: int, shape: tuple[int, int, int]) -> None:
    if n * math.prod(shape) <= MEMORY_LIMIT:
        return
    side = math.isqrt(MEMORY_LIMIT // (n * shape[0]))
    needed = f"{n:,} images of {'x'.join(map(str, shape))} from {place} take {n * math.prod(shape) / 2**30:.1f} GiB"
    raise InputError(
        f"{needed}, and at most {MEMORY_LIMIT / 2**30:g} GiB are held in memory: give a smaller size (up to {side} "
        "fits), or fewer images"
    )


def _check_classes(encoded: Encoded) -> None:
    if len(encoded.class_names) < 2:
        raise InputError(
            f"{encoded.place} has one class, {encoded.class_names[0]!r}: a classifier needs two or more. A folder of "
            "images has a sub-folder for each class"
        )
    if len(encoded.counts) == 1:
        return
    present: dict[str, frozenset[int]] = {}
    start = 0
    for part, count in encoded.counts.items():
        present[part] = frozenset(encoded.y[start : start + count].tolist())
        start += count
    test = "test" if "test" in present else "validation"
    for part, found in present.items():
        _complain(encoded, f"in {part} but not in train", found - present["train"])
    _complain(encoded, f"in train but not in {test}", present["train"] - present[test])


def _complain(encoded: Encoded, where: str, labels: frozenset[int]) -> None:
    if labels:
        names = listed([repr(encoded.class_names[k]) for k in sorted(labels)])
        raise InputError(f"{encoded.place} has classes {where}: {names}. Every part needs images of the same classes")


def _refuse_unreadable(encoded: Encoded, bad: dict[int, str]) -> NoReturn:
    named = listed([f"{encoded.describe(i)} ({bad[i]})" for i in sorted(bad)])
    raise InputError(
        f"{len(bad)} of {len(encoded.y)} images in {encoded.place} cannot be read: {named}. Delete or replace them"
    )


def listed(names: Sequence[str]) -> str:
    """Write the first five of some names, and how many more there are.

    Args:
        names: The names.

    Returns:
        One line.

    Examples:
        >>> listed(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
