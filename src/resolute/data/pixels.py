"""One compressed image: what its header says, and its pixels as bytes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

Blob = Path | bytes | None
"""A compressed image: its file, its content, or nothing where a row holds none."""

_ORIENTATION = 0x0112
"""The EXIF tag that says how the camera was held; 5 to 8 swap width and height."""


class Header(NamedTuple):
    """What is known of an image before it is decoded.

    Attributes:
        grey: Whether it has one channel (and perhaps transparency).
        height: Height in pixels, upright.
        width: Width in pixels, upright.
    """

    grey: bool
    height: int
    width: int


def peek(blob: Blob) -> Header:
    """Read an image's header.

    Args:
        blob: The compressed image.

    Returns:
        Its mode and size.
    """
    with _opened(blob) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        grey = image.mode in {"1", "L", "LA", "La", "I"} or image.mode.startswith("I;16")
        return Header(grey, height, width)


def decode(blob: Blob, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode an image, turn it upright, and bring it to a shape.

    Colours: 16-bit grey keeps its upper byte; CMYK and palettes become RGB; transparency is dropped, not blended.
    Size: where it differs, the shorter side is resized to the target's shorter side (antialiased bilinear) and the
    centre is cut out, both as torchvision's ``Resize`` and ``CenterCrop`` do. An animation gives its first frame.

    Args:
        blob: The compressed image.
        shape: ``(C, H, W)`` wanted; C is 1 or 3.

    Returns:
        uint8 [C, H, W].
    """
    from PIL import Image, ImageOps

    channels, height, width = shape
    with _opened(blob) as opened:
        # Only the turn that the header announced: `peek` must have seen the same size.
        upright = ImageOps.exif_transpose(opened) if _orientation(opened) != 1 else opened
        image = _recoloured(upright, "L" if channels == 1 else "RGB")
        image.load()
    if image.size != (width, height):
        side, (w, h) = min(height, width), image.size
        larger = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
        image = image.resize(larger, Image.Resampling.BILINEAR)
        left, top = round((larger[0] - width) / 2), round((larger[1] - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _opened(blob: Blob) -> Image:
    from PIL import Image

    if not blob:
        raise ValueError("it holds no bytes")
    return Image.open(io.BytesIO(blob) if isinstance(blob, bytes) else blob)


def _orientation(image: Image) -> int:
    # Without this test, a PNG's whole file would be decoded in search of a tag that it rarely has.
    return int(image.getexif().get(_ORIENTATION, 1)) if "exif" in image.info else 1


def _recoloured(image: Image, mode: str) -> Image:
    from PIL import Image

    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers of unknown range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
