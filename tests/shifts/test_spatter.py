"""Drops beside OpenCV's functions.

spatter.npz holds four layers of 40x40 bytes and what OpenCV 5.0.0 makes of each: Canny(50, 150), distanceTransform
(DIST_L2, 5) cut off at 20, and the relief: blur, equalizeHist, filter2D, blur.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from resolute.shifts import draws, imagenet_c
from resolute.shifts.imagenet_c import HELD_OUT

GOLDEN = dict(np.load(Path(__file__).with_name("spatter.npz")))
LAYERS = torch.from_numpy(GOLDEN["layer"])[:, None].float()


def test_edges_are_opencv_s() -> None:
    assert np.array_equal(imagenet_c.edges(LAYERS)[:, 0].numpy(), GOLDEN["edges"])


def test_distances_are_opencv_s() -> None:
    zero = torch.from_numpy(GOLDEN["edges"])[:, None]
    assert np.abs(imagenet_c.distances(zero)[:, 0].numpy() - GOLDEN["distance"]).max() < 1e-4


def test_distances_without_a_mark_are_far() -> None:
    assert imagenet_c.distances(torch.zeros(1, 1, 5, 5, dtype=torch.bool)).unique().tolist() == [20]


def test_relief_is_opencv_s() -> None:
    assert np.abs(imagenet_c.relief(LAYERS)[:, 0].numpy() - GOLDEN["relief"]).max() <= 1


def test_one_level_is_left_alone_by_equalising() -> None:
    assert imagenet_c.equalised(torch.full((1, 1, 4, 4), 7.0)).unique().tolist() == [7]


@pytest.mark.parametrize("constant", [*HELD_OUT["spatter"].small, *HELD_OUT["spatter"].large])
def test_drops_are_the_authors_blend(constant: tuple[float, ...], photographs: torch.Tensor) -> None:
    mean, std, smoothing, threshold, last, mud = constant
    x, seeds = photographs[:2, :, :50, :50].float() / 255, torch.arange(2)
    found = imagenet_c.spatter(x, seeds, constant)  # type: ignore[arg-type]
    noise = mean + std * draws.normal(seeds, 2500).double().numpy().reshape(2, 50, 50)
    for image, layer, own in zip(x.double().numpy(), noise, found.numpy(), strict=True):
        liquid = ndimage.gaussian_filter(layer, smoothing, mode="nearest")
        if mud:
            cover = ndimage.gaussian_filter((liquid > threshold).astype(float), last, mode="nearest")
            cover = np.where(cover < 0.8, 0, cover)
            expected = image * (1 - cover) + cover * np.array([63, 42, 20])[:, None, None] / 255
        else:
            drops = np.floor(255 * np.where(liquid < threshold, 0, liquid)).clip(0, 255)
            light = drops * imagenet_c.relief(torch.from_numpy(drops).float()[None, None])[0, 0].double().numpy()
            expected = image + last * light / max(light.max(), 1) * np.array([175, 238, 238])[:, None, None] / 255
        assert np.abs(own - expected).max() < 1 / 255


def test_grey_images_get_grey_drops(photographs: torch.Tensor) -> None:
    x, seeds = photographs[:2].float() / 255, torch.arange(2)
    for constant in HELD_OUT["spatter"].large:
        colour = imagenet_c.spatter(x[:, :1].expand(-1, 3, -1, -1), seeds, constant)
        red, green, blue = colour.unbind(1)
        grey = imagenet_c.spatter(x[:, :1], seeds, constant)[:, 0]
        assert torch.allclose(grey, 0.2989 * red + 0.587 * green + 0.114 * blue, atol=2e-4)
