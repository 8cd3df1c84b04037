"""One image of every kind, against Pillow's and torchvision's own conversions; what is kept is found again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.transforms import v2

from resolute.data.decode import Decoded, Header, decode, keep, peek, recall, stamp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Picture = Callable[..., Image.Image]
    Compressed = Callable[..., bytes]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGB", "PNG"), ("RGB", "JPEG"), ("RGB", "WEBP"), ("RGB", "BMP"), ("CMYK", "JPEG"), ("CMYK", "TIFF")],
)
def test_colour_images(picture: Picture, compressed: Compressed, tmp_path: Path, mode: str, kind: str) -> None:
    blob = compressed(picture(1, 9, 7, mode), kind)
    assert peek(blob) == Header(grey=False, height=9, width=7)
    (tmp_path / "image").write_bytes(blob)
    with Image.open(tmp_path / "image") as image:
        wanted = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    for source in (blob, tmp_path / "image"):
        assert np.array_equal(decode(source, (3, 9, 7)), wanted)


def test_grey_images(picture: Picture, compressed: Compressed) -> None:
    blob = compressed(picture(2, 5, 6, "L"))
    grey = np.asarray(picture(2, 5, 6, "L"))
    assert peek(blob) == Header(grey=True, height=5, width=6)
    assert np.array_equal(decode(blob, (1, 5, 6)), grey[None])
    assert np.array_equal(decode(blob, (3, 5, 6)), np.stack([grey] * 3))


def test_black_and_white_images(compressed: Compressed) -> None:
    bits = np.random.default_rng(0).random((5, 6)) < 0.5
    blob = compressed(Image.fromarray(bits))
    assert peek(blob).grey
    assert np.array_equal(decode(blob, (1, 5, 6))[0], bits * 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_keep_the_upper_byte(compressed: Compressed, kind: str) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 6)).astype(np.uint16)
    blob = compressed(Image.fromarray(values), kind)
    assert peek(blob).grey
    assert np.array_equal(decode(blob, (1, 5, 6))[0], values >> 8)
    assert np.array_equal(decode(blob, (3, 5, 6))[1], values >> 8)


def test_transparency_is_dropped_not_blended(picture: Picture, compressed: Compressed) -> None:
    image = picture(3, 5, 6, "RGBA")
    assert np.array_equal(decode(compressed(image), (3, 5, 6)), np.asarray(image)[:, :, :3].transpose(2, 0, 1))
    grey = picture(3, 5, 6, "LA")
    assert peek(compressed(grey)).grey
    assert np.array_equal(decode(compressed(grey), (1, 5, 6))[0], np.asarray(grey)[:, :, 0])


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palettes_become_rgb(picture: Picture, compressed: Compressed, transparency: int | bytes | None) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (256, 3), dtype=np.uint8)
    image = picture(4, 5, 6, "P")
    image.putpalette(colours.tobytes())
    if transparency is not None:
        image.info["transparency"] = transparency
    blob = compressed(image)
    assert not peek(blob).grey
    assert np.array_equal(decode(blob, (3, 5, 6)), colours[np.asarray(image)].transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_camera(picture: Picture, tmp_path: Path, orientation: int, kind: str) -> None:
    image = picture(5, 6, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "image", kind, exif=exif)
    with Image.open(tmp_path / "image") as opened:
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    header = peek(tmp_path / "image")
    assert (header.width, header.height) == upright.size
    shape = (3, header.height, header.width)
    assert np.array_equal(decode(tmp_path / "image", shape), np.asarray(upright).transpose(2, 0, 1))
    assert upright.size == ((6, 9) if orientation >= 5 else (9, 6))


@pytest.mark.parametrize(("height", "width"), [(40, 61), (61, 40), (17, 17), (16, 50), (33, 16), (5, 11)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_resizing_is_torchvisions(picture: Picture, compressed: Compressed, height: int, width: int, mode: str) -> None:
    image = picture(6, height, width, mode)
    wanted = np.asarray(v2.CenterCrop(16)(v2.Resize(16)(image)))
    got = decode(compressed(image), (len(mode), 16, 16))
    assert np.array_equal(got, wanted.transpose(2, 0, 1) if mode == "RGB" else wanted[None])


@pytest.mark.parametrize(("height", "width"), [(65_535, 1), (1, 65_535), (50_000, 3), (3, 50_000)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_strip_is_resized_where_it_is_looked_at(
    picture: Picture, compressed: Compressed, height: int, width: int, mode: str
) -> None:
    """Enlarged as a whole it would take gigabytes; the slow truth is that of the middle alone."""
    image = picture(6, height, width, mode)
    got = decode(compressed(image), (len(mode), 224, 224))
    left, top = ((size - 1) // 2 - 8 if size > 9 else 0 for size in (width, height))
    middle = image.crop((left, top, width - left, height - top))
    wanted = np.asarray(v2.CenterCrop(224)(v2.Resize(224)(middle)))
    wanted = wanted.transpose(2, 0, 1) if mode == "RGB" else wanted[None]
    # The centre lies up to half a pixel of the enlarged strip elsewhere.
    assert np.abs(got.astype(int) - wanted).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
def test_a_side_has_an_end(compressed: Compressed, kind: str) -> None:
    """In memory each row has 8 bytes beside its pixels: 80 million rows of one pixel took 1.5 GB."""
    if kind == "GIF":
        blob = b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"
    else:
        blob = compressed(Image.new("L", (65_536, 1)), kind)
    for read in (peek, lambda blob: decode(blob, (1, 8, 8))):
        with pytest.raises(ValueError, match=r"announces .*pixels"):
            read(blob)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_raises(picture: Picture, compressed: Compressed, kind: str) -> None:
    blob = compressed(picture(7, 64, 64), kind)
    with pytest.raises(OSError, match="truncated"):
        decode(blob[: len(blob) // 2], (3, 64, 64))


@pytest.mark.parametrize("blob", [b"", None])
def test_no_bytes_raise(blob: bytes | None) -> None:
    with pytest.raises(ValueError, match="it holds no bytes"):
        peek(blob)


def test_floating_point_pixels_are_refused(compressed: Compressed) -> None:
    blob = compressed(Image.fromarray(np.ones((4, 4), dtype=np.float32)), "TIFF")
    with pytest.raises(ValueError, match="floating-point"):
        decode(blob, (1, 4, 4))


SET = Decoded(np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_kept_and_recalled(tmp_path: Path) -> None:
    assert recall(tmp_path / "cache", "a") is None
    for _ in range(2):
        keep(tmp_path / "cache", "a", SET)
        found = recall(tmp_path / "cache", "a")
        assert found is not None
        assert np.array_equal(found.x, SET.x)
        assert (found.mean, found.std) == (SET.mean, SET.std)
    assert recall(tmp_path / "cache", "b") is None
    assert [f.name for f in (tmp_path / "cache").iterdir()] == ["a"]


def test_a_broken_one_counts_for_nothing(tmp_path: Path) -> None:
    keep(tmp_path, "a", SET)
    content = (tmp_path / "a" / "x.npy").read_bytes()
    for damaged in (b"", content[:50], content[:-1]):
        (tmp_path / "a" / "x.npy").write_bytes(damaged)
        assert recall(tmp_path, "a") is None
    (tmp_path / "a" / "x.npy").write_bytes(content)
    for text in ("", "{}"):
        (tmp_path / "a" / "about.json").write_text(text)
        assert recall(tmp_path, "a") is None


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    keep(tmp_path / "cache", "a", SET)
    assert recall(tmp_path / "cache", "a") is None


def test_a_stamp_changes_with_files_and_settings(tmp_path: Path) -> None:
    file, other = tmp_path / "x", tmp_path / "y"
    file.write_bytes(b"123")
    other.write_bytes(b"123")
    os.utime(file, ns=(1, 1))
    os.utime(other, ns=(1, 1))
    first = stamp([file], 32)
    assert stamp([file], 32) == first
    assert len({first, stamp([other], 32), stamp([file], 33), stamp([file, other], 32), stamp([], 32)}) == 5
    os.utime(file, ns=(2, 2))
    assert stamp([file], 32) != first
    file.write_bytes(b"1234")
    os.utime(file, ns=(1, 1))
    assert stamp([file], 32) != first
