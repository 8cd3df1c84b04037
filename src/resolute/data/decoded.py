"""Sets that were decoded once are kept on the disk as plain arrays, and read from there the next time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resolute.untrusted import MOST_JSON, parse_json, read_array, read_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_VERSION = "1"
"""To be raised when the same files would be decoded to other pixels."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """The pixels of a set.

    Attributes:
        x: uint8 [n, C, H, W], all images in order.
        mean: Mean of each channel over the official training images, to four digits.
        std: Their standard deviation, to four digits, at least one grey level.
    """

    x: NDArray[np.uint8]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def stamp(files: Iterable[Path], *settings: object) -> str:
    """Name what the pixels of a set depend on: its files with their sizes and times, settings, Pillow's version.

    Args:
        files: The set's files.
        settings: Anything else that matters.

    Returns:
        40 hexadecimal digits.
    """
    import PIL

    digest = hashlib.sha256(repr((_VERSION, PIL.__version__, *settings)).encode())
    for file in files:
        state = file.stat()
        digest.update(f"{file.absolute()}\0{state.st_size}\0{state.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:40]


def recall(folder: Path, name: str) -> Decoded | None:
    """Open a set that was kept.

    Args:
        folder: Where decoded sets lie.
        name: As :func:`stamp` gives it.

    Returns:
        The set, its pixels mapped into memory; None if it was not kept, or not whole.
    """
    try:
        about = parse_json(read_file(folder / name / "about.json", MOST_JSON))
        x = read_array(folder / name / "x.npy")
        if x.dtype != np.uint8 or x.ndim != 4:
            return None
        mean, std = (tuple(map(float, about[key])) for key in ("mean", "std"))
        return Decoded(x, mean, std) if len(mean) == len(std) == x.shape[1] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def keep(folder: Path, name: str, decoded: Decoded) -> None:
    """Keep a set, whole or not at all. A disk that is full or cannot be written is no error: it is decoded again.

    Args:
        folder: Where decoded sets lie.
        name: As :func:`stamp` gives it.
        decoded: The set.
    """
    scratch = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".", dir=folder))
        np.save(scratch / "x.npy", decoded.x, allow_pickle=False)
        about = json.dumps({"mean": decoded.mean, "std": decoded.std})
        (scratch / "about.json").write_text(about, encoding="utf-8")
        shutil.rmtree(folder / name, ignore_errors=True)
        os.replace(scratch, folder / name)  # noqa: PTH105 Path.replace takes no folders on Windows
    except OSError:
        if scratch:
            shutil.rmtree(scratch, ignore_errors=True)
