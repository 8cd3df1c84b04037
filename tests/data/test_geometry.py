"""Crops and rotations against torchvision's, one image at a time, and against the law of its draws."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from resolute.config import Augment
from resolute.data.augment import augment
from resolute.data.dataset import augment_generator
from resolute.transforms import crop_and_enlarge, draw_crop, draw_crops, rotate

SIZES = {"square": (64, 64), "wide": (60, 200), "tall": (333, 100), "flat": (2, 300), "dot": (1, 1)}


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(40, 3, 16, 16), (40, 1, 9, 14)])
def test_crops_are_torchvisions_resized_crops(shape: tuple[int, int, int, int]) -> None:
    x = images(*shape)
    crops = draw_crops(0.08, shape[2], shape[3], shape[0], torch.Generator().manual_seed(2))
    exact = x.double() / 255
    wanted = torch.stack([
        F.resized_crop(image, *crop.tolist(), list(shape[2:]), antialias=True)
        for image, crop in zip(exact, crops, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(crop_and_enlarge(exact, crops), wanted, rtol=0, atol=1e-6)
    in_bytes = crop_and_enlarge(x, crops)
    assert in_bytes.dtype == torch.uint8
    assert (in_bytes.double() - 255 * wanted).abs().max() < 0.501


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("share", [0.08, 0.9])
def test_draws_follow_torchvisions_law(size: tuple[int, int], share: float) -> None:
    from scipy.stats import ks_2samp

    n = 1500
    fast = draw_crops(share, *size, n, torch.Generator().manual_seed(3))
    assert bool((fast[:, :2] >= 0).all())
    assert bool((fast[:, 2:] >= 1).all())
    assert bool((fast[:, :2] + fast[:, 2:] <= torch.tensor(size)).all())
    transform, blank = v2.RandomResizedCrop(1, scale=(share, 1)), torch.empty(1, *size)
    slow = []
    for _ in range(n):
        params = transform.make_params([blank])
        slow.append([params[k] for k in ("top", "left", "height", "width")])
    for k in range(4):
        assert ks_2samp(fast[:, k].numpy(), torch.tensor(slow)[:, k].numpy()).pvalue > 1e-4


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("share", [0.08, 0.9])
def test_one_draw_is_the_first_of_a_batch_of_one(size: tuple[int, int], share: float) -> None:
    for seed in range(50):
        [wanted] = draw_crops(share, *size, 1, torch.Generator().manual_seed(seed)).tolist()
        assert list(draw_crop(share, *size, torch.Generator().manual_seed(seed))) == wanted


@pytest.mark.parametrize("shape", [(12, 3, 32, 32), (12, 1, 15, 22)])
def test_rotations_are_torchvisions(shape: tuple[int, int, int, int]) -> None:
    x = images(*shape)
    angles = torch.linspace(-179, 180, shape[0])
    wanted = torch.stack([F.rotate(image, float(angle)) for image, angle in zip(x, angles, strict=True)])
    turned = rotate(x, angles)
    # Where a pixel's centre falls between two, rounding in float32 decides.
    assert (turned != wanted).double().mean() < 0.01
    assert torch.equal(rotate(x, torch.zeros(shape[0])), x)
    assert torch.equal(rotate(x.float() / 255, angles), turned.float() / 255)


def test_augment_rotates_either_way_up_to_the_angle() -> None:
    policy = Augment(rotation=15)
    x = images(50, 1, 24, 24)
    out = augment(x, policy, augment_generator(0, 0, 0))
    angles = 15 * (2 * torch.rand(50, generator=_after_shift_and_flip(50)) - 1)
    assert torch.equal(out, rotate(x, angles))
    assert angles.min() < -12
    assert angles.max() > 12


def _after_shift_and_flip(n: int) -> torch.Generator:
    generator = augment_generator(0, 0, 0)
    torch.randint(0, 1, (2, n), generator=generator)
    torch.rand(n, generator=generator)
    return generator
