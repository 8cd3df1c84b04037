"""Images refuses tensors that do not fit; photographs follow the customs of their size."""

from __future__ import annotations

import pytest
import torch

from cases import tiny_images
from resolute.data.dataset import DataInfo, Images, photographs
from resolute.errors import InputError


def described(*shape: int) -> DataInfo:
    channels, height, width = shape
    return photographs("p", (channels, height, width), (0.5,) * channels, (0.2,) * channels, ("a", "b"))


@pytest.mark.parametrize(
    ("shape", "shift", "flip", "radius"),
    [
        ((3, 32, 32), 4, True, 8 / 255),
        ((3, 64, 64), 4, True, 8 / 255),
        ((3, 64, 65), 8, True, 4 / 255),
        ((3, 224, 224), 28, True, 4 / 255),
        ((1, 32, 32), 4, False, 8 / 255),
        ((3, 3, 40), 2, True, 8 / 255),
    ],
)
def test_customs_of_photographs(shape: tuple[int, ...], shift: int, flip: bool, radius: float) -> None:
    info = described(*shape)
    assert (info.augment.shift, info.augment.padding, info.augment.flip) == (shift, "reflect", flip)
    assert info.radius == radius
    assert info.radii == (2 / 255, 4 / 255, 8 / 255)
    assert info.classes == 2


def test_images_hold_only_what_fits_their_description() -> None:
    info = described(3, 4, 4)
    x, y = torch.zeros(5, 3, 4, 4, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64)
    assert len(Images(info, x, y, "test")) == 5
    with pytest.raises(InputError, match=r"x is torch\.float32"):
        Images(info, x.float(), y, "test")
    with pytest.raises(InputError, match=r"wanted torch\.uint8 of shape \(n, \*\(3, 4, 4\)\)"):
        Images(info, x[:, :1], y, "test")
    with pytest.raises(InputError, match=r"y is torch\.int32"):
        Images(info, x, y.int(), "test")
    with pytest.raises(InputError, match=r"shape \(5,\)"):
        Images(info, x, y[:4], "test")


def test_a_part_in_memory() -> None:
    whole = tiny_images(20)
    part = whole.part(torch.tensor([3, 7]))
    assert torch.equal(part.x, whole.x[[3, 7]])
    assert torch.equal(part.y, whole.y[[3, 7]])
    assert (part.info, part.split, len(part)) == (whole.info, "train", 2)
