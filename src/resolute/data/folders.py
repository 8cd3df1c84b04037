"""Image folders: a sub-folder for each class, held in memory if they fit and streamed from the disk if not."""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from resolute.data.dataset import Images, Stream, members, photographs, worker_count
from resolute.data.decode import Decoded, decode_all, keep, moments, peek_all, recall, stamp
from resolute.data.layouts import ORDER, PassedOver, first_names, read_layout, search, shown
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from resolute.data.dataset import Blobs, DataInfo
    from resolute.data.decode import Blob, Header


CHUNK = 256
"""Compressed images in memory at a time."""
MEMORY_LIMIT = 4 * 2**30
"""Largest set in bytes that is held in memory; larger ones stay on the disk."""
SAMPLE = 512
"""Images, evenly spaced over a set that stays on the disk, that its shape, mean and std are taken from."""
SIDES = (32, 64, 128, 224)
"""Sides to choose from where the images' sizes differ and none is given."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Labelled images that are still compressed.

    Attributes:
        place: The folder, for messages.
        counts: Images in each part (``"train"``, ``"validation"``, ``"test"``), in the order in which they lie.
        y: int64 [n], all labels in that order.
        class_names: One name a class.
        blobs: The images.
        passed_over: What else lies there, counted, in words.
    """

    place: str
    counts: dict[str, int]
    y: Tensor
    class_names: tuple[str, ...]
    blobs: Blobs
    passed_over: str = ""


def load_encoded(encoded: Encoded, name: str, split: str, size: int | None, cache: Path) -> Images:
    """Load a split of a set: into memory if the whole set fits, else as a stream."""
    # What is decoded is kept below ``cache``, so that another split, or another run, reads plain arrays.
    check_classes(encoded)
    wanted = _wanted(encoded, split)
    sample, shape = _sample(encoded, size)
    if _too_large(encoded, shape):
        return _streamed(encoded, sample, shape, name, split)
    kept_as = stamp(encoded.blobs.files(), encoded.counts, size)
    decoded = recall(cache, kept_as)
    if decoded is None:
        headers, bad = peek_all(encoded.blobs.chunks())
        if not headers:
            _refuse_unreadable(encoded, bad)
        shape = common_shape(headers, size)
        if _too_large(encoded, shape):
            return _streamed(encoded, sample, shape, name, split)
        decoded = _decode(encoded, shape, bad)
        keep(cache, kept_as, decoded)
    _, channels, height, width = decoded.x.shape
    info = photographs(name, (channels, height, width), decoded.mean, decoded.std, encoded.class_names)
    x = torch.from_numpy(decoded.x[wanted.numpy()])
    return Images(info, x, encoded.y[wanted], split, passed_over=encoded.passed_over)


def stream(encoded: Encoded, info: DataInfo, split: str, resize: int) -> Images:
    """Load a split of a set as a stream: nothing is decoded before a batch needs it."""
    wanted = _wanted(encoded, split)
    pixels = Stream(encoded.blobs, wanted.numpy(), info.shape, resize, worker_count(), encoded.place)
    return Images(
        info, torch.empty((0, *info.shape), dtype=torch.uint8), encoded.y[wanted], split, pixels, encoded.passed_over
    )


def common_shape(headers: Sequence[Header], size: int | None) -> tuple[int, int, int]:
    """Choose the shape that all images of a set are brought to."""
    # One channel if every image has one, else three. A size that is given makes a square. Otherwise images that
    # all have one size keep it; if sizes differ, the side is the largest of 32, 64, 128 and 224 that the median image's
    # shorter side reaches (32 if it reaches none).
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = {(header.height, header.width) for header in headers}
    if size is None and len(sizes) == 1:
        return (channels, *sizes.pop())
    if size is None:
        typical = median(min(header.height, header.width) for header in headers)
        size = max((side for side in SIDES if side <= typical), default=SIDES[0])
    return (channels, size, size)


def _wanted(encoded: Encoded, split: str) -> Tensor:
    _check_twos(encoded, split)
    wanted = members(encoded.counts, encoded.y, split)
    if not len(wanted):
        raise InputError(
            f"the split {split!r} of {encoded.place} is empty: {len(encoded.y)} images are too few to be split"
        )
    return wanted


def _check_twos(encoded: Encoded, split: str) -> None:
    """Refuse to split a class of a single image."""
    found = encoded.y.bincount(minlength=len(encoded.class_names))
    if few := torch.nonzero(found < 2).flatten().tolist() if len(encoded.counts) == 1 and split != "test" else []:
        named = first_names(f"{encoded.class_names[k]!r} ({found[k]})" for k in few)
        raise InputError(
            f"{encoded.place} is to be split into training and test images, and classes have fewer than two: {named}. "
            "Add images to them, or leave them out"
        )


def _sample(encoded: Encoded, size: int | None) -> tuple[list[int], tuple[int, int, int]]:
    """Choose some official training images, and the shape that they would be brought to."""
    training = members(encoded.counts, encoded.y, "train+validation")
    chosen = training[:: max(1, len(training) // SAMPLE)].tolist()
    largest = math.isqrt(MEMORY_LIMIT // (3 * SAMPLE))
    if size is not None and size > largest:
        raise InputError(f"size is {size}: it is a number of pixels, {largest:,} at most")
    headers, bad = peek_all(_few(encoded, chosen))
    if not headers:
        _refuse_unreadable(encoded, {chosen[k]: reason for k, reason in bad.items()})
    return chosen, common_shape(headers, size)


def _few(encoded: Encoded, positions: Sequence[int]) -> Iterator[list[Blob]]:
    for start in range(0, len(positions), CHUNK):
        yield [encoded.blobs.read(i) for i in positions[start : start + CHUNK]]


def _too_large(encoded: Encoded, shape: tuple[int, int, int]) -> bool:
    return len(encoded.y) * math.prod(shape) > MEMORY_LIMIT


def _streamed(encoded: Encoded, sample: Sequence[int], shape: tuple[int, int, int], name: str, split: str) -> Images:
    sample = sample[:: math.ceil(len(sample) * math.prod(shape) / MEMORY_LIMIT)]
    x, bad = decode_all(_few(encoded, sample), len(sample), shape)
    if bad:
        _refuse_unreadable(encoded, {sample[k]: reason for k, reason in bad.items()})
    info = photographs(name, shape, *moments(x, range(len(x))), encoded.class_names)
    return stream(encoded, info, split, min(shape[1:]))


def _decode(encoded: Encoded, shape: tuple[int, int, int], bad: dict[int, str]) -> Decoded:
    x, broken = decode_all(encoded.blobs.chunks(), len(encoded.y), shape)
    if bad or broken:
        _refuse_unreadable(encoded, broken | bad)
    return Decoded(x, *moments(x, members(encoded.counts, encoded.y, "train+validation").tolist()))


def check_classes(encoded: Encoded) -> None:
    """Refuse a set that no classifier can be trained and tested on."""
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
    everywhere = frozenset().union(*present.values())
    _complain(encoded, "without an image", frozenset(range(len(encoded.class_names))) - everywhere)
    test = "test" if "test" in present else "validation"
    for part, found in present.items():
        _complain(encoded, f"in {part} but not in train", found - present["train"])
    _complain(encoded, f"in train but not in {test}", present["train"] - present[test])


def _complain(encoded: Encoded, where: str, labels: frozenset[int]) -> None:
    if labels:
        names = first_names([repr(encoded.class_names[k]) for k in sorted(labels)])
        raise InputError(f"{encoded.place} has classes {where}: {names}. Every part needs images of the same classes")


def _refuse_unreadable(encoded: Encoded, bad: dict[int, str]) -> NoReturn:
    named = first_names([f"{encoded.blobs.describe(i)} ({bad[i]})" for i in sorted(bad)])
    raise InputError(
        f"{len(bad)} of {len(encoded.y)} images in {encoded.place} cannot be read: {named}. Delete or replace them"
    )


def open_folder(path: Path, parts: Sequence[str] = ORDER) -> Encoded:
    """Find the images of a folder in one of the layouts of :mod:`~resolute.data.layouts`."""
    # Classes, and the files of a class, are sorted by name (files at any depth, by their path).
    left = PassedOver()
    try:
        layout = read_layout(search(str(path), left), left, parts)
    except OSError as error:
        raise InputError(f"{shown(str(path))} cannot be searched: {error}") from error
    if left.missed:
        warnings.warn(f"{shown(str(path))}: passed over {first_names(left.missed)}", stacklevel=2)
    names = tuple(sorted({name for classes in layout.values() for name in classes}))
    number = {name: k for k, name in enumerate(names)}
    images = {
        part: [(file, number[name]) for name, folder in classes.items() for file in sorted(folder.every(), key=_path)]
        for part, classes in layout.items()
    }
    found = [image for of_part in images.values() for image in of_part]
    return Encoded(
        place=shown(str(path)),
        counts={part: len(of_part) for part, of_part in images.items()},
        y=torch.tensor([label for _, label in found]),
        class_names=names,
        blobs=Files(path, np.array([os.fsencode(os.path.relpath(file, path)) for file, _ in found])),
        passed_over=str(left),
    )


def _path(file: str) -> str:
    return file.replace(os.sep, "\0")


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Compressed images that are files of their own; see :class:`~resolute.data.folders.Blobs`.

    Attributes:
        folder: The folder that they are below.
        names: Their paths below it, as bytes in one array: a million paths as objects would be copied into every
            worker process as their reference counts change.
    """

    folder: Path
    names: NDArray[np.bytes_]

    def read(self, i: int) -> Path:
        """Give the path of an image."""
        return self.folder / os.fsdecode(self.names[i])

    def chunks(self) -> Iterator[list[Blob]]:
        """Go through all images in order."""
        for start in range(0, len(self.names), CHUNK):
            yield [self.read(i) for i in range(start, min(start + CHUNK, len(self.names)))]

    def describe(self, i: int) -> str:
        """Name an image, for messages."""
        return self.names[i].decode(errors="backslashreplace").replace(os.sep, "/")

    def files(self) -> Iterator[Path]:
        """List the files that the images are in."""
        yield from map(self.read, range(len(self.names)))
