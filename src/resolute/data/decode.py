"""Decode images: one (its header, its pixels), many by threads, and a cache of decoded sets on the disk."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from resolute.safe_io import MOST_JSON, parse_json, read_array, read_file
from resolute.transforms import draw_crop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch
    from numpy.typing import NDArray
    from PIL.Image import Image

    from resolute.config import Interpolation


Blob = Path | bytes | None
"""A compressed image: its file, its content, or nothing where a row holds none."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is opened. Pillow knows more, and would call another program (Ghostscript) for some, whatever the suffix."""
MOST_PIXELS = 89_478_485
"""Pixels of an image: where Pillow begins to warn of decompression bombs, 256 MiB of RGB."""
MOST_SIDE = 65_535
"""Pixels of a side, as many as a JPEG may have: each row takes memory of its own, however short it is."""
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
    """Read an image's header."""
    with _opened(blob) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        grey = image.mode in {"1", "L", "LA", "La", "I"} or image.mode.startswith("I;16")
        return Header(grey, height, width)


def decode(
    blob: Blob, shape: tuple[int, int, int], resize: int | None = None, interpolation: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Decode an image, turn it upright, and bring it to a shape."""
    # Colours: 16-bit grey keeps its upper byte; CMYK and palettes become RGB; transparency is dropped, not blended.
    # Size: where it differs, the shorter side is resized (antialiased) and the centre is cut out, both as
    # torchvision's ``Resize`` and ``CenterCrop`` do. An animation gives its first frame.
    from PIL import Image

    channels, height, width = shape
    with _opened(blob) as opened:
        image = _upright(opened, channels)
    side, (w, h) = resize or min(height, width), image.size
    if (w, h) != (width, height) or side != min(w, h):
        larger = (side, int(side * h / w)) if w <= h else (int(side * w / h), side)
        left, top = round((larger[0] - width) / 2), round((larger[1] - height) / 2)
        if larger[0] * larger[1] > MOST_PIXELS:  # of a strip, the centre alone is enlarged
            across, down = w / larger[0], h / larger[1]
            box = (left * across, top * down, (left + width) * across, (top + height) * down)
            return _bytes(image.resize((width, height), Image.Resampling[interpolation.upper()], box))
        image = image.resize(larger, Image.Resampling[interpolation.upper()])
        image = image.crop((left, top, left + width, top + height))
    return _bytes(image)


def decode_crop(
    blob: Blob,
    shape: tuple[int, int, int],
    share: float,
    generator: torch.Generator,
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """Decode an image, cut out a random rectangle and bring it to a shape (antialiased)."""
    # A JPEG whose crop is at least twice as large as needed is decoded at a half, a quarter or an eighth of its size,
    # which its coding makes cheap, so that the crop still has at least as many pixels as the shape. Everything else is,
    # byte for byte, what torchvision's ``RandomResizedCrop`` makes of the same rectangle.
    from PIL import Image

    channels, height, width = shape
    with _opened(blob) as opened:
        turned = _orientation(opened) >= 5
        w, h = opened.size[::-1] if turned else opened.size
        top, left, crop_height, crop_width = draw_crop(share, h, w, generator)
        enough = (width * w // crop_width, height * h // crop_height)
        opened.draft(None, enough[::-1] if turned else enough)
        image = _upright(opened, channels)
    across, down = image.width / w, image.height / h
    box = (left * across, top * down, (left + crop_width) * across, (top + crop_height) * down)
    if image.size == (w, h):  # Without a cut, the filter would look over the rectangle's edge.
        image = image.crop((left, top, left + crop_width, top + crop_height))
        box = (0, 0, crop_width, crop_height)
    return _bytes(image.resize((width, height), Image.Resampling[interpolation.upper()], box))


def _upright(opened: Image, channels: int) -> Image:
    from PIL import ImageOps

    # Only the turn that the header announced: `peek` must have seen the same size.
    upright = ImageOps.exif_transpose(opened) if _orientation(opened) != 1 else opened
    image = _recoloured(upright, "L" if channels == 1 else "RGB")
    image.load()
    return image


def _bytes(image: Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _opened(blob: Blob) -> Image:
    from PIL import Image

    if not blob:
        raise ValueError("it holds no bytes")
    if isinstance(blob, Path) and blob.exists() and not blob.is_file():
        raise ValueError("it is no regular file")
    try:
        image = Image.open(io.BytesIO(blob) if isinstance(blob, bytes) else blob, formats=_formats())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"it announces too many pixels ({error})") from error
    if image.width * image.height > MOST_PIXELS or max(image.size) > MOST_SIDE:
        most = f"{MOST_PIXELS:,} are the most, and {MOST_SIDE:,} on a side"
        raise ValueError(f"it announces {image.width:,} x {image.height:,} pixels; {most}")
    return image


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


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


_VERSION = "2"
"""To be raised when the same files would give other pixels, or be split otherwise."""


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
    """Name what the pixels of a set depend on: its files with their sizes and times, settings, Pillow's version."""
    import PIL

    digest = hashlib.sha256(repr((_VERSION, PIL.__version__, *settings)).encode())
    for file in files:
        state = file.stat()
        times = f"{state.st_mtime_ns} {state.st_ctime_ns}"  # the first is kept by files that swap names
        digest.update(f"{file.absolute()}\0{state.st_size}\0{times}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:40]


def recall(folder: Path, name: str) -> Decoded | None:
    """Open a set that was kept."""
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
    """Keep a set, whole or not at all. A disk that is full or cannot be written is no error: it is decoded again."""
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


_PER_TASK = 32

_Task = list[tuple[int, Blob]]
T = TypeVar("T")


def peek_all(chunks: Iterable[Sequence[Blob]]) -> tuple[list[Header], dict[int, str]]:
    """Read the headers of images."""
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
    chunks: Iterable[Sequence[Blob]], n: int, shape: tuple[int, int, int], interpolation: Interpolation = "bilinear"
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """Decode images, each once."""
    x = np.empty((n, *shape), dtype=np.uint8)

    def work(task: _Task) -> dict[int, str]:
        broken: dict[int, str] = {}
        for i, blob in task:
            pixels = _attempt(lambda blob: decode(blob, shape, None, interpolation), blob)
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
    """Measure some images."""
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
