from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from resolute import transforms


@pytest.fixture
def x(photographs: torch.Tensor) -> torch.Tensor:
    return photographs[:2, :, :50, :37].float() / 255


@pytest.mark.parametrize("border", ["nearest", "reflect", "mirror"])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.3, 4), (1.5, 4), (6, 4), (40, 3)])
def test_gaussian_is_scipy_s(x: torch.Tensor, border: transforms.Border, sigma: float, truncate: float) -> None:
    theirs = ndimage.gaussian_filter(x.double().numpy(), (0, 0, sigma, sigma), mode=border, truncate=truncate)
    ours = transforms.smooth(x, sigma, border, truncate)
    assert np.abs(ours.numpy() - theirs).max() < 1e-5


@pytest.mark.parametrize("shape", [(3, 3), (1, 5), (7, 3), (21, 21)])
def test_correlate_is_scipy_s(x: torch.Tensor, shape: tuple[int, int]) -> None:
    kernel = torch.rand(shape) / (shape[0] * shape[1])
    theirs = ndimage.correlate(x.double().numpy(), kernel.double().numpy()[None, None], mode="mirror")
    assert np.abs(transforms.correlate(x, kernel).numpy() - theirs).max() < 1e-5


def test_the_disk_is_the_authors_softened_disk() -> None:
    for radius, sigma in ((3, 0.1), (6, 0.5), (10, 0.5), (0.3, 0.4), (1.5, 0.1)):
        at = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
        flat = ((at[:, None] ** 2 + at**2) <= radius**2).astype(float)
        tap = np.exp(-0.5 * (np.arange(-1, 2) / sigma) ** 2) if radius <= 8 else np.exp(-2.0 * np.arange(-2, 3) ** 2)
        soft = flat / flat.sum()
        for axis in (0, 1):
            soft = ndimage.correlate1d(soft, tap / tap.sum(), axis, mode="mirror")
        kernel = transforms.disk(radius, sigma).numpy()
        edge = (len(at) - len(kernel)) // 2
        assert np.abs(np.pad(kernel, edge) - soft).max() < 1e-7


def test_motion_is_a_slow_walk_along_the_line(x: torch.Tensor) -> None:
    angle = torch.tensor([-38.0, 110.0])
    ours = transforms.motion(x, 6, 2.5, angle)
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 2.5**2))
    height, width = x.shape[2:]
    for image, turn, found in zip(x.double().numpy(), np.deg2rad(angle.numpy()), ours.numpy(), strict=True):
        total = np.zeros_like(image)
        for tap, weight in enumerate(weights / weights.sum()):
            down, right = np.ceil(tap * np.sin(turn) - 0.5), np.ceil(tap * np.cos(turn) - 0.5)
            rows = (np.arange(height) + int(down)).clip(0, height - 1)
            columns = (np.arange(width) + int(right)).clip(0, width - 1)
            total += weight * image[:, rows[:, None], columns]
        assert np.abs(found - total).max() < 1e-6


@pytest.mark.parametrize("factor", [1.0, 1.03, 1.3, 2.5])
def test_zoomed_is_scipy_s_zoom_of_the_middle(x: torch.Tensor, factor: float) -> None:
    height, width = x.shape[2:]
    parts = [int(np.ceil(size / factor)) for size in (height, width)]
    top, left = (height - parts[0]) // 2, (width - parts[1]) // 2
    part = x.double().numpy()[:, :, top : top + parts[0], left : left + parts[1]]
    large = ndimage.zoom(part, (1, 1, factor, factor), order=1, mode="nearest")
    top, left = (large.shape[2] - height) // 2, (large.shape[3] - width) // 2
    theirs = large[:, :, top : top + height, left : left + width]
    assert np.abs(transforms.zoomed(x, factor).numpy() - theirs).max() < 1e-5


@pytest.mark.parametrize("size", [(30, 20), (25, 18), (9, 12), (50, 37), (120, 99), (1, 1), (49, 38)])
def test_box_is_pillow_s(photographs: torch.Tensor, size: tuple[int, int]) -> None:
    image = photographs[0, :, :50, :37]
    theirs = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.BOX))
    ours = transforms.box(image[None].int(), size)[0]
    assert torch.equal(ours.permute(1, 2, 0), torch.from_numpy(theirs.astype(np.int32)))
