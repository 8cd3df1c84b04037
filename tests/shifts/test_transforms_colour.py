"""Every function beside torchvision's own, image by image with the same parameters."""

from __future__ import annotations

import itertools

import pytest
import torch
from torchvision.transforms.v2 import functional as V

from resolute import transforms
from resolute.shifts.everyday import jitter

FACTORS = torch.tensor([0.0, 0.6, 1.0, 1.4, 2.5, 0.9])
TURNS = torch.tensor([-0.5, -0.1, 0.0, 0.1, 0.5, 0.33])
THEIRS = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue)


@pytest.fixture(params=[3, 1])
def x(photographs: torch.Tensor, request: pytest.FixtureRequest) -> torch.Tensor:
    return photographs[:, : request.param].float() / 255


@pytest.mark.parametrize("number", range(4))
def test_each_change(x: torch.Tensor, number: int) -> None:
    change = (
        transforms.adjust_brightness,
        transforms.adjust_contrast,
        transforms.adjust_saturation,
        transforms.adjust_hue,
    )[number]
    factors = TURNS if number == 3 else FACTORS
    theirs = torch.stack([THEIRS[number](i, float(f)) for i, f in zip(x, factors, strict=True)])
    assert (change(x, factors) - theirs).abs().max() < 1e-5


def test_greyscale(x: torch.Tensor) -> None:
    which = torch.arange(6) % 2 == 0
    theirs = [V.rgb_to_grayscale(i, len(i)) if w else i for i, w in zip(x, which, strict=True)]
    assert (transforms.greyscale(x, which) - torch.stack(theirs)).abs().max() < 1e-6


def test_jitter_in_every_order(x: torch.Tensor) -> None:
    orders = list(itertools.permutations(range(4)))
    order = torch.tensor(orders)
    x = x[torch.arange(len(orders)) % 6]
    factors = torch.rand(len(orders), 4, dtype=torch.float64) + 0.5
    factors[:, 3] -= 1
    theirs = []
    for image, mine, own in zip(x, factors.tolist(), orders, strict=True):
        for number in own:
            image = THEIRS[number](image, mine[number])
        theirs.append(image)
    assert (jitter(x, factors, order) - torch.stack(theirs)).abs().max() < 1 / 255


def test_the_mean_is_the_same_in_any_batch() -> None:
    x = torch.rand(64, 3, 40, 41)
    alone = torch.cat([transforms.mean(image[None]) for image in x])
    assert torch.equal(transforms.mean(x), alone)
    assert torch.allclose(alone, x.double().mean((2, 3), keepdim=True).float())
