"""Every function beside torchvision's own, image by image with the same parameters."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as V

from resolute import transforms

BILINEAR = V.InterpolationMode.BILINEAR


def difference(ours: torch.Tensor, theirs: list[torch.Tensor]) -> float:
    return float((ours - torch.stack(theirs)).abs().max())


@pytest.fixture
def x(photographs: torch.Tensor) -> torch.Tensor:
    """Not square, so that rows and columns cannot be mixed up."""
    return photographs[:, :, :64, :49].float() / 255


def test_flip(x: torch.Tensor) -> None:
    which = torch.tensor([True, False, True, True, False, False])
    assert difference(transforms.flip(x, which), [V.hflip(i) if w else i for i, w in zip(x, which, strict=True)]) == 0


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_window(x: torch.Tensor, padding: str) -> None:
    top, left = torch.tensor([-8, 0, 3, 8, -1, 5]), torch.tensor([0, 8, -8, 2, 7, -3])
    mode = {"zeros": "constant", "reflect": "reflect"}[padding]
    theirs = [
        V.crop(V.pad(i, [8], padding_mode=mode), 8 + int(t), 8 + int(c), 64, 49)
        for i, t, c in zip(x, top, left, strict=True)
    ]
    assert difference(transforms.window(x, top, left, padding), theirs) == 0  # type: ignore[arg-type]


def test_a_window_far_outside_is_black_or_mirrored_again() -> None:
    x = torch.arange(3.0).view(1, 1, 1, 3)
    far = torch.tensor([7])
    assert transforms.window(x, torch.tensor([0]), far).sum() == 0
    assert transforms.window(x, torch.tensor([0]), far, "reflect").flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize("size", [(56, 43), (32, 24), (64, 49), (1, 1)])
def test_resized_crop(x: torch.Tensor, size: tuple[int, int]) -> None:
    high, wide = size
    top, left = torch.arange(6) % (65 - high), torch.arange(6).flip(0) % (50 - wide)
    theirs = [
        V.resized_crop(i, int(t), int(c), high, wide, [64, 49], interpolation=BILINEAR)
        for i, t, c in zip(x, top, left, strict=True)
    ]
    assert difference(transforms.resized_crop(x, top, left, high, wide), theirs) < 1e-5


def test_affine(x: torch.Tensor) -> None:
    angle, scale = torch.linspace(-180, 170, 6), torch.tensor([0.5, 0.8, 1.0, 1.3, 2.0, 1.0])
    right, down = torch.linspace(-6.5, 8, 6), torch.linspace(5, -7.25, 6)
    theirs = [
        V.affine(i, float(a), [float(r), float(d)], float(s), [0.0], interpolation=BILINEAR, fill=None, center=None)
        for i, a, s, r, d in zip(x, angle, scale, right, down, strict=True)
    ]
    assert difference(transforms.affine(x, angle=angle, scale=scale, right=right, down=down), theirs) < 1 / 255


def test_rotation(x: torch.Tensor) -> None:
    angle = torch.linspace(-30, 30, 6)
    theirs = [V.rotate(i, -float(a), interpolation=BILINEAR) for i, a in zip(x, angle, strict=True)]
    assert difference(transforms.affine(x, angle=angle), theirs) < 1 / 255


@pytest.mark.parametrize(("outside", "mode"), [("zeros", "constant"), ("mirror", "mirror"), ("symmetric", "reflect")])
def test_sample(x: torch.Tensor, outside: str, mode: str) -> None:
    from scipy.ndimage import map_coordinates

    reach = 0.0 if outside == "zeros" else 60.0
    rows = torch.rand(6, 20, 30, dtype=torch.float64) * (63 + 2 * reach) - reach
    columns = torch.rand(6, 20, 30, dtype=torch.float64) * (48 + 2 * reach) - reach

    def looked_up(image: torch.Tensor, *place: torch.Tensor) -> torch.Tensor:
        at = torch.stack(place).numpy()
        return torch.stack([torch.from_numpy(map_coordinates(c.numpy(), at, order=1, mode=mode)) for c in image])  # type: ignore[call-overload]

    theirs = [looked_up(*parts) for parts in zip(x, rows, columns, strict=True)]
    assert difference(transforms.sample_pixels(x, rows, columns, outside), theirs) < 1e-4  # type: ignore[arg-type]
