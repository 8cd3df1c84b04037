"""Image folders: a sub-folder for each class, perhaps below train/ and test/."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from resolute.data.encoded import CHUNK, Encoded, listed
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.data.pixels import Blob

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif"}
)
PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of sub-folders (and beginnings of parquet files' names) that stand for a part of the set."""
ORDER = ("train", "validation", "test")


def open_folder(path: Path, parts: Sequence[str] = ORDER) -> Encoded:
    """Find the images of a folder ``class/file.jpg``, or ``train/class/file.jpg`` with ``test`` or ``val`` beside it.

    Sub-folders are parts if all their names are names of parts; otherwise they are classes. Classes, and the files of
    a class, are sorted by name (files at any depth, by their path). Hidden files and files without an image's suffix
    are passed over.

    Args:
        path: The folder.
        parts: The parts to open.

    Returns:
        The images, still compressed.

    Raises:
        InputError: If there are no images, images outside class folders, a class folder without images, two folders
            for one part, or parts without ``train``.
    """
    classes = {part: _classes(folder) for part, folder in _parts(path).items() if part in parts}
    names = tuple(sorted({name for found in classes.values() for name in found}))
    number = {name: k for k, name in enumerate(names)}
    files = [file for found in classes.values() for of_class in found.values() for file in of_class]
    labels = [number[name] for found in classes.values() for name, of_class in found.items() for _ in of_class]
    return Encoded(
        place=str(path),
        counts={part: sum(map(len, found.values())) for part, found in classes.items()},
        y=torch.tensor(labels),
        class_names=names,
        blobs=Files(path, np.array([os.fsencode(os.path.relpath(file, path)) for file in files])),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Files:
    """Compressed images that are files of their own; see :class:`~resolute.data.encoded.Blobs`.

    Attributes:
        folder: The folder that they are below.
        names: Their paths below it, as bytes in one array: a million paths as objects would be copied into every
            worker process as their reference counts change.
    """

    folder: Path
    names: NDArray[np.bytes_]

    def read(self, i: int) -> Path:
        """Give the path of an image.

        Args:
            i: Its position.

        Returns:
            The path.
        """
        return self.folder / os.fsdecode(self.names[i])

    def chunks(self) -> Iterator[list[Blob]]:
        """Go through all images in order.

        Yields:
            At most ``CHUNK`` at a time.
        """
        for start in range(0, len(self.names), CHUNK):
            yield [self.read(i) for i in range(start, min(start + CHUNK, len(self.names)))]

    def describe(self, i: int) -> str:
        """Name an image, for messages.

        Args:
            i: Its position.

        Returns:
            Its path below the folder.
        """
        return self.read(i).relative_to(self.folder).as_posix()

    def files(self) -> Iterator[Path]:
        """List the files that the images are in.

        Yields:
            Each once.
        """
        yield from map(self.read, range(len(self.names)))


def check_parts(place: Path, parts: Sequence[str]) -> None:
    """Refuse a set that has a test part but nothing to train on.

    Args:
        place: Where the set is.
        parts: The parts that it has.

    Raises:
        InputError: If there are several parts and none is ``"train"``.
    """
    if len(parts) > 1 and "train" not in parts:
        raise InputError(f"{place} has {' and '.join(parts)} but no train: add it, or give the path of one part alone")


def _parts(path: Path) -> dict[str, Path]:
    folders = _folders(path)
    if not folders or any(folder.name.lower() not in PARTS for folder in folders):
        return {"train": path}
    found: dict[str, Path] = {}
    for folder in folders:
        part = PARTS[folder.name.lower()]
        if part in found:
            raise InputError(f"{path} has two folders for {part}: {found[part].name} and {folder.name}. Keep one")
        found[part] = folder
    check_parts(path, list(found))
    return {part: found[part] for part in ORDER if part in found}


def _classes(path: Path) -> dict[str, list[str]]:
    classes = {folder.name: _images(folder) for folder in _folders(path)}
    empty = [name for name, files in classes.items() if not files]
    if any(classes.values()) and empty:
        raise InputError(f"{path} has class folders without images: {listed(empty)}. Fill or delete them")
    if classes and not empty:
        return classes
    loose = any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    found = "its images are in no class folder" if loose else "there are no images in it"
    raise InputError(f"{path}: {found}. Wanted is a sub-folder for each class, with images inside: class/file.png")


def _folders(path: Path) -> list[Path]:
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith((".", "__")))


def _images(folder: Path) -> list[str]:
    # Text, not Path objects: ImageNet has a million of them.
    found = (f"{place}{os.sep}{name}" for place, _, names in os.walk(folder) for name in names if name[0] != ".")
    images = (file for file in found if file[file.rfind(".") :].lower() in SUFFIXES)
    return sorted(images, key=lambda file: file.replace(os.sep, "\0"))
