"""Compressed images to pixels, many at a time, by threads; what cannot be read is collected, not raised."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from resolute.data.pixels import Blob, decode, peek

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from resolute.data.pixels import Header

_PER_TASK = 32

_Task = list[tuple[int, Blob]]
T = TypeVar("T")


def peek_all(chunks: Iterable[Sequence[Blob]]) -> tuple[list[Header], dict[int, str]]:
    """Read the headers of images.

    Args:
        chunks: The compressed images, a few at a time.

    Returns:
        The headers that can be read, in order; and by position, why each other one cannot.
    """
    headers: list[Header] = []
    bad: dict[int, str] = {}
    for task in _in_tasks(chunks, lambda task: [(i, _attempt(peek, blob)) for i, blob in task]):
        for i, header in task:
            if isinstance(header, Exception):
                bad[i] = _reason(header)
            else:
                headers.append(header)
    return headers, bad


def decode_all(
    chunks: Iterable[Sequence[Blob]], n: int, shape: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode images, each once.

    Args:
        chunks: The compressed images, a few at a time.
        n: How many there are.
        shape: ``(C, H, W)`` to bring them to.

    Returns:
        uint8 [n, C, H, W]; and by position, why an image cannot be read.
    """
    x = np.empty((n, *shape), dtype=np.uint8)

    def work(task: _Task) -> dict[int, str]:
        broken: dict[int, str] = {}
        for i, blob in task:
            pixels = _attempt(lambda blob: decode(blob, shape), blob)
            if isinstance(pixels, Exception):
                broken[i] = _reason(pixels)
            else:
                x[i] = pixels
        return broken

    bad: dict[int, str] = {}
    for broken in _in_tasks(chunks, work):
        bad |= broken
    return x, bad


def moments(x: NDArray[np.uint8], index: Iterable[int]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure some images.

    Args:
        x: uint8 [n, C, H, W].
        index: The images to take.

    Returns:
        Mean and standard deviation of each channel in pixel units, to four digits; the latter is at least one grey
        level, to divide by.
    """
    histogram = np.zeros((x.shape[1], 256), dtype=np.int64)
    for i in index:
        histogram += [np.bincount(channel.ravel(), minlength=256) for channel in x[i]]
    level = np.arange(256) / 255
    share = histogram / histogram.sum(1, keepdims=True).clip(min=1)
    mean = share @ level
    std = np.sqrt((share * np.square(level - mean[:, None])).sum(1)).clip(min=1 / 255)
    return tuple(round(m, 4) for m in mean.tolist()), tuple(round(s, 4) for s in std.tolist())


def _in_tasks(chunks: Iterable[Sequence[Blob]], work: Callable[[_Task], T]) -> Iterator[T]:
    """Give what ``work`` makes of a few images at a time."""
    start = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for chunk in chunks:
            todo = list(enumerate(chunk, start))
            start += len(chunk)
            yield from pool.map(work, [todo[k : k + _PER_TASK] for k in range(0, len(todo), _PER_TASK)])


def _attempt(read: Callable[[Blob], T], blob: Blob) -> T | Exception:
    try:
        return read(blob)
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types for a broken file
        return error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
