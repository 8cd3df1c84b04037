"""A folder of pictures, and what may be done to it behind a run's back without a change in numbers or names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIDE, EACH = 8, 6


def make_pictures(folder: Path, seed: int = 0) -> Path:
    """Draw two classes in a training and a test part: BMP, so that all have one size, and one time of writing."""
    rng = np.random.default_rng(seed)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            for i in range(EACH * (2 if part == "train" else 1)):
                draw(folder / part / name / f"{i:02}.bmp", rng, dark=name == "cat")
    return folder


def draw(file: Path, rng: np.random.Generator, *, dark: bool) -> None:
    """Draw one picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (SIDE, SIDE, 3)) // 2 + (0 if dark else 127)
    Image.fromarray(pixels.astype(np.uint8)).save(file)
    os.utime(file, (1, 1))


def _new_pictures(part: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        rng = np.random.default_rng(99)
        for file in sorted((folder / part).rglob("*.bmp")):
            draw(file, rng, dark=file.parent.name == "cat")

    return change


def _swap(a: Path, b: Path) -> None:
    between = a.with_name("between")
    a.rename(between)
    b.rename(a)
    between.rename(b)


def _swap_classes(part: str) -> Callable[[Path], None]:
    return lambda folder: _swap(folder / part / "cat", folder / part / "dog")


def _swap_files(part: str) -> Callable[[Path], None]:
    """Two pictures of two classes swap their names; size and time of writing are equal."""
    return lambda folder: _swap(folder / part / "cat/00.bmp", folder / part / "dog/00.bmp")


def _one_pixel(folder: Path) -> None:
    file = folder / "train/dog/01.bmp"
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 1
    file.write_bytes(raw)
    os.utime(file, (1, 1))


def _elsewhere(folder: Path) -> None:
    """Another folder of the same name."""
    folder.rename(folder.with_name("before"))
    make_pictures(folder, seed=5)


CHANGES: dict[str, Callable[[Path], None]] = {
    "test images replaced": _new_pictures("test"),
    "test labels swapped": _swap_classes("test"),
    "two test images swapped": _swap_files("test"),
    "training images replaced": _new_pictures("train"),
    "training labels swapped": _swap_classes("train"),
    "two training images swapped": _swap_files("train"),
    "one pixel of a training image": _one_pixel,
    "another folder of this name": _elsewhere,
}
OF_TRAINING = [name for name in CHANGES if "test" not in name]


LEGAL = (
    "plain", "two words", " ", "a?b", "st?a=1", "x.db?mode=memory", "a#b", "a%20b", "100%", "a&b;c", "a[b]", "[bold]x",
    "[link]y", "a*b", "it's \"so\"", "\u00fcn\u00efcode \u6587\u5b57", "a:b", "-x", "~", "back\\slash", "a\nb",
    200 * "x",
)  # fmt: skip
"""Names that a folder may have."""


def flipped(content: bytes, place: int, bit: int) -> bytes:
    """Flip one bit."""
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
