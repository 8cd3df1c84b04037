"""Images for smoke runs: a few of scikit-learn's digits as an image folder, at any size. They measure nothing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from resolute.records import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = 2
COUNTS = {False: {"train": 6, "test": 2}, True: {"train": 1, "test": 1}}
"""Images of each class, by whether they are to be few. Of six, one is held out for validation where a recipe asks."""


def write_digits(folder: Path, channels: int, side: int, *, few: bool = False) -> Path:
    """Write an image folder of digits 0 and 1, unless it is there.

    Args:
        folder: The folder to write it in.
        channels: 1 or 3.
        side: Pixels a side.
        few: One image of each class in each part, instead of six and two.

    Returns:
        The image folder: ``train`` and ``test`` with PNG files by class.
    """
    from PIL import Image
    from sklearn.datasets import load_digits

    out = folder / f"smoke-digits-{channels}x{side}x{side}{'-few' if few else ''}"
    digits, mode = load_digits(), "L" if channels == 1 else "RGB"
    for label in range(CLASSES):
        images = iter(digits.images[digits.target == label])
        for part, count in COUNTS[few].items():
            for number in range(count):
                pixels = np.rint(next(images) * (255 / 16)).astype(np.uint8)
                file = out / part / str(label) / f"{number}.png"
                if not file.exists():
                    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR).convert(mode)
                    image.save(buffer := io.BytesIO(), "PNG")
                    write_atomic(file, buffer.getvalue())
    return out
