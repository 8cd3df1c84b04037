"""Image folders: which sub-folders are parts and classes; held in memory if they fit and streamed from the disk if not.

Read are ``class/file``, ``part/class/file`` and ``class/part/file``, with the customary names of parts. What looks one
level off is refused, and the folder that was probably meant is named.
"""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import torch

from resolute.data.dataset import Images, Stream, members, photographs, worker_count
from resolute.data.decode import Decoded, decode_all, keep, moments, peek_all, recall, stamp
from resolute.errors import InputError, visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from resolute.config import Interpolation
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


def load_encoded(
    encoded: Encoded, name: str, split: str, size: int | None, cache: Path, interpolation: Interpolation = "bilinear"
) -> Images:
    """Load a split of a set: into memory if the whole set fits, else as a stream."""
    # What is decoded is kept below ``cache``, so that another split, or another run, reads plain arrays.
    check_classes(encoded)
    wanted = _wanted(encoded, split)
    sample, shape = _sample(encoded, size)
    if _too_large(encoded, shape):
        return _streamed(encoded, sample, shape, name, split, interpolation)
    kept_as = stamp(encoded.blobs.files(), encoded.counts, size, interpolation)
    decoded = recall(cache, kept_as)
    if decoded is None:
        headers, bad = peek_all(encoded.blobs.chunks())
        if not headers:
            _refuse_unreadable(encoded, bad)
        shape = common_shape(headers, size)
        if _too_large(encoded, shape):
            return _streamed(encoded, sample, shape, name, split, interpolation)
        decoded = _decode(encoded, shape, bad, interpolation)
        keep(cache, kept_as, decoded)
    _, channels, height, width = decoded.x.shape
    shape = (channels, height, width)
    info = photographs(name, shape, decoded.mean, decoded.std, encoded.class_names, interpolation)
    x = torch.from_numpy(decoded.x[wanted.numpy()])
    return Images(info, x, encoded.y[wanted], split, passed_over=encoded.passed_over)


def stream(encoded: Encoded, info: DataInfo, split: str, resize: int) -> Images:
    """Load a split of a set as a stream: nothing is decoded before a batch needs it."""
    wanted = _wanted(encoded, split)
    blobs, workers = encoded.blobs, worker_count()
    pixels = Stream(blobs, wanted.numpy(), info.shape, resize, workers, encoded.place, info.interpolation)
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


def _streamed(
    encoded: Encoded,
    sample: Sequence[int],
    shape: tuple[int, int, int],
    name: str,
    split: str,
    interpolation: Interpolation,
) -> Images:
    sample = sample[:: math.ceil(len(sample) * math.prod(shape) / MEMORY_LIMIT)]
    x, bad = decode_all(_few(encoded, sample), len(sample), shape, interpolation)
    if bad:
        _refuse_unreadable(encoded, {sample[k]: reason for k, reason in bad.items()})
    info = photographs(name, shape, *moments(x, range(len(x))), encoded.class_names, interpolation)
    return stream(encoded, info, split, min(shape[1:]))


def _decode(
    encoded: Encoded, shape: tuple[int, int, int], bad: dict[int, str], interpolation: Interpolation
) -> Decoded:
    x, broken = decode_all(encoded.blobs.chunks(), len(encoded.y), shape, interpolation)
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


SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}
    | {".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".avif", ".avifs"}
)
"""Of images in the formats that are opened."""
ORDER = ("train", "validation", "test")
_NAMES = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""Words for a part of a set: those of Hugging Face's libraries."""
_PART = re.compile(
    rf"(?:.*[ _-])?({'|'.join(_NAMES)})(?:[ _-]?(?:set|data|dataset|images?|imgs?|split))?", re.IGNORECASE
)
_WANTED = "Wanted is a sub-folder for each class, with images inside: class/file.png"
_MOST_LIKELY = 3
_DEEP = 4
"""Levels below a folder at which the one that was meant is looked for."""
_SHOWN = 5

Parts = dict[str, "dict[str, Folder]"]
"""The class folders of each part."""


@dataclass(slots=True)
class PassedOver:
    """What of a folder is not read: files by suffix, folders, images that one may miss, links that lead nowhere."""

    files: Counter[str] = field(default_factory=Counter)
    folders: int = 0
    missed: list[str] = field(default_factory=list)
    nowhere: list[str] = field(default_factory=list)

    def leave(self, folder: Folder, why: str = "") -> None:
        """Pass over a folder, and remember its name if it holds images."""
        self.folders += 1
        if images := sum(1 for _ in folder.every()):
            self.missed.append(f"{visible(folder.path)} ({images:,} images{why})")

    def __str__(self) -> str:
        """Count it, in words."""
        most = ", ".join(f"{n:,} {visible(suffix)}" for suffix, n in self.files.most_common(3))
        more = ", ..." if len(self.files) > 3 else ""
        folders = f"{self.folders:,} folder{'s' * (self.folders != 1)}"
        n = self.files.total()
        files = f"{n:,} file{'s' * (n != 1)} without the suffix of an image ({most}{more})"
        return " and ".join([folders] * bool(self.folders) + [files] * bool(n))


@dataclass(frozen=True, slots=True, eq=False)
class Folder:
    """A folder that was searched.

    Attributes:
        path: Its path.
        images: Paths of the images directly in it. Text, not Path objects: ImageNet has a million of them.
        folders: Its sub-folders by name, sorted, but for those that are passed over.
    """

    path: str
    images: list[str] = field(default_factory=list)
    folders: dict[str, Folder] = field(default_factory=dict)

    def every(self) -> Iterator[str]:
        """List the images in it and below."""
        yield from self.images
        for folder in self.folders.values():
            yield from folder.every()

    def full(self) -> dict[str, Folder]:
        """Choose the sub-folders that hold images, at whatever depth."""
        return {name: folder for name, folder in self.folders.items() if any(folder.every())}

    def parts(self) -> dict[str, Folder]:
        """Choose the sub-folders that hold images and have the name of a part."""
        return {name: folder for name, folder in self.full().items() if part_of(name)}


def part_of(name: str) -> str | None:
    """Say which part of a set the name of a folder or a file stands for: ``Training_Set`` for ``train``."""
    found = _PART.fullmatch(name)
    return _NAMES[found[1].lower()] if found else None


def is_utf8(text: str) -> bool:
    """Tell whether a name can be written into a report."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)  # what stands for bytes that are none


def search(path: str, left: PassedOver, above: frozenset[tuple[int, int]] = frozenset()) -> Folder:
    """Search a folder and all below it; links are followed, but for those that lead back."""
    state = os.stat(path)  # noqa: PTH116 text
    above |= {(state.st_dev, state.st_ino)}
    found = Folder(path)
    with os.scandir(path) as listed:
        entries = sorted(listed, key=lambda entry: entry.name)
    for entry in entries:
        suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122
        if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
            left.nowhere.append(entry.path)
        elif entry.is_dir():
            state = entry.stat()
            if (state.st_dev, state.st_ino) in above:
                left.folders += 1
                left.missed.append(f"{visible(entry.path)} (a link to a folder that it is in)")
            elif entry.name.startswith((".", "__")):
                left.leave(search(entry.path, PassedOver(), above))
            else:
                found.folders[entry.name] = search(entry.path, left, above)
        elif suffix in SUFFIXES and entry.name[0] != ".":
            found.images.append(entry.path)
        else:
            left.files[suffix or "without suffix"] += 1
    return found


def read_layout(root: Folder, left: PassedOver, wanted: Sequence[str] = ORDER) -> Parts:
    """Find the parts of a set and their classes; refuse what can be read in two ways, and name what was meant."""
    try:
        return _parts(root, left, wanted)
    except InputError as error:
        likely = (
            [] if root.parts() else [f"{visible(at.path)}, which holds {what}" for at, what in _likely(root, _DEEP)]
        )
        hint = f". Did you mean {' or '.join(likely[:_MOST_LIKELY])}?" if likely else ""
        raise InputError(f"{error}{hint}") from None


def _likely(root: Folder, deep: int) -> Iterator[tuple[Folder, str]]:
    """Look below a folder for sets."""
    for folder in root.full().values():
        try:
            parts = _parts(folder, PassedOver(), ORDER)
        except InputError:
            yield from _likely(folder, deep - 1) if deep else ()
            continue
        names = sorted({name for classes in parts.values() for name in classes})
        if len(names) > 1:
            within = f" in {' and '.join(parts)}" if len(parts) > 1 else ""
            yield folder, f"{len(names):,} classes{within} ({first_names(names)})"


def _parts(root: Folder, left: PassedOver, wanted: Sequence[str]) -> Parts:
    named = {name: folder for name, folder in root.folders.items() if part_of(name)}
    divided = [name for name, folder in root.parts().items() if folder.full()]
    kinds = {part_of(name) for name in root.parts()}
    others = root.full().keys() - named.keys()
    sure = len(divided) > 1 or (divided and not others) or ("train" in kinds and len(kinds) > 1)
    if divided and not sure:
        raise InputError(
            f"{visible(root.path)}: is {visible(divided[0])}, which is full of folders, a part of the set or a class "
            f"as {first_names(sorted(others))}? A part stands beside other parts, such as train and test"
        )
    if not sure and not (named and len(named) == len(root.folders)):
        return _by_class(root, left, wanted) or {"train": _classes(root, left)}
    found = _numbered_once(root, named)
    for name in root.folders.keys() - named.keys():
        left.leave(root.folders[name])
    return {part: _classes(found[part], left) for part in ORDER if part in found and part in wanted}


def _numbered_once(root: Folder, named: Mapping[str, Folder]) -> dict[str, Folder]:
    found: dict[str, Folder] = {}
    for name, folder in named.items():
        part = str(part_of(name))
        if part in found:
            own = " and ".join(visible(name) for name in named if part_of(name) == part)
            raise InputError(f"{visible(root.path)} has two folders for {part}: {own}. Which one is meant?")
        found[part] = _unwrapped(folder, part)
    check_parts(visible(root.path), list(found))
    return found


def _unwrapped(folder: Folder, part: str) -> Folder:
    """Go down where an archive was unpacked into a folder of its own name, as in ``train/train/class``."""
    full = folder.full()
    name = next(iter(full), "")
    within = len(full) == 1 and not folder.images and part_of(name) == part and full[name].full()
    return _unwrapped(full[name], part) if within else folder


def check_parts(place: object, parts: Sequence[str]) -> None:
    """Refuse a set that has a test part but nothing to train on."""
    if len(parts) > 1 and "train" not in parts:
        raise InputError(f"{place} has {' and '.join(parts)} but no train: add it, or give the path of one part alone")


def _by_class(root: Folder, left: PassedOver, wanted: Sequence[str]) -> Parts:
    """Read ``class/part/file``, if that is how the classes are divided."""
    full = root.full()
    own = {
        name: folder.parts()
        for name, folder in full.items()
        if not folder.images and folder.parts().keys() == folder.full().keys()
    }
    if len(full) < 2 or not own or any(part.full() for parts in own.values() for part in parts.values()):
        return {}
    if whole := full.keys() - own.keys():
        raise InputError(
            f"{visible(root.path)}: {first_names(own)} are divided into parts "
            f"({first_names(next(iter(own.values())))}), and {first_names(sorted(whole))} are not"
        )
    _check_classes(root, left)
    parts = {name: _numbered_once(full[name], divided) for name, divided in own.items()}
    found = {part: {name: of[part] for name, of in parts.items() if part in of} for part in ORDER if part in wanted}
    return {part: classes for part, classes in found.items() if classes}


def _classes(folder: Folder, left: PassedOver) -> dict[str, Folder]:
    full, place = folder.full(), visible(folder.path)
    if not full:
        found = "its images are in no class folder" if folder.images else "there are no images in it"
        raise InputError(f"{place}: {found}. {_WANTED}")
    if divided := next((name for name, own in full.items() if own.parts()), None):
        raise InputError(
            f"{place}: {visible(divided)} holds {first_names(full[divided].parts())}, as a set does and no class"
        )
    inner = {name: below for name, own in full.items() if not own.images and (below := _inner(own))}
    deep = [name for name, below in inner.items() if len(below) > 1]
    names = Counter(name for below in inner.values() for name in below)
    if len(full) == 1 and inner:
        raise InputError(f"{place}: the only folder with images in it, {first_names(inner)}, holds folders of images")
    unclear = "so it is not clear what a class is"
    if deep and len(inner) < len(full):
        flat = first_names(sorted(full.keys() - inner.keys()))
        raise InputError(f"{place}: {first_names(deep)} is full of folders, and {flat} of images, {unclear}")
    if deep and 2 * sum(n > 1 for n in names.values()) > len(names):
        raise InputError(
            f"{place}: {first_names(deep)} hold the same folders ({first_names(sorted(names))}), {unclear}"
        )
    _check_classes(folder, left)
    if folder.images:
        left.missed.append(f"{len(folder.images):,} images beside the class folders of {place}")
    return full


def _inner(folder: Folder) -> set[str]:
    """Name the folders below one that hold images, by their paths."""
    return {os.path.relpath(os.path.dirname(file), folder.path) for file in folder.every()} - {"."}  # noqa: PTH120


def _check_classes(folder: Folder, left: PassedOver) -> None:
    """Refuse folders that hold no images, links that lead nowhere, and names that no report could be written with."""
    place, full = visible(folder.path), folder.full()
    if links := [visible(link) for link in left.nowhere if link.startswith(folder.path + os.sep)]:
        raise InputError(f"{place} has links that lead nowhere: {first_names(links)}. Mend them")
    if empty := [name for name in folder.folders if name not in full]:
        raise InputError(f"{place}: {first_names(empty)} hold no images, and here every folder is a class. {_WANTED}")
    if foreign := [name for name in full if not is_utf8(name)]:
        raise InputError(f"{place}: the name of a class is no UTF-8: {first_names(foreign)}. Rename the folder")


def first_names(names: Iterable[str]) -> str:
    """Write the first five of some names, and how many more there are."""
    listed = list(names)
    more = len(listed) - _SHOWN
    return ", ".join(map(visible, listed[:_SHOWN])) + (f" and {more} more" if more > 0 else "")


def open_folder(path: Path, parts: Sequence[str] = ORDER) -> Encoded:
    """Find the images of a folder."""
    # Classes, and the files of a class, are sorted by name (files at any depth, by their path).
    left = PassedOver()
    try:
        layout = read_layout(search(str(path), left), left, parts)
    except OSError as error:
        raise InputError(f"{visible(str(path))} cannot be searched: {error}") from error
    if left.missed:
        warnings.warn(f"{visible(str(path))}: passed over {first_names(left.missed)}", stacklevel=2)
    names = tuple(sorted({name for classes in layout.values() for name in classes}))
    number = {name: k for k, name in enumerate(names)}
    images = {
        part: [(file, number[name]) for name, folder in classes.items() for file in sorted(folder.every(), key=_path)]
        for part, classes in layout.items()
    }
    found = [image for of_part in images.values() for image in of_part]
    return Encoded(
        place=visible(str(path)),
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
        return visible(os.fsdecode(self.names[i])).replace(os.sep, "/")

    def files(self) -> Iterator[Path]:
        """List the files that the images are in."""
        yield from map(self.read, range(len(self.names)))
