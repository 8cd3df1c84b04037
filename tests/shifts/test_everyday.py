from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
import torch
from scipy import stats
from torch import nn
from torchvision.transforms.v2 import functional as V

from cases import tiny_info
from resolute.shifts import everyday, find_shifts
from resolute.shifts import everyday as five
from resolute.shifts.everyday import STRENGTHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolute.shifts.shift import Shift

INFO = tiny_info(shape=(3, 12, 10))
GREY = tiny_info(shape=(1, 12, 10))
SHIFTS = find_shifts(["disturbances", "disturbance-variants", "everyday"], INFO)[1::3]
"""The middle severity of each."""


def moved(shift: Shift, x: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    return shift.apply(nn.Identity(), x, torch.zeros(len(x), dtype=torch.long), seeds)


def test_the_paper_s_five_are_there() -> None:
    names = ["random-crop", "random-horizontal-flip", "random-greyscale", "random-colour-jitter", "random-five-crop"]
    assert list(dict.fromkeys(shift.name for shift in find_shifts(["disturbances"], INFO))) == names
    names.remove("random-greyscale")
    assert list(dict.fromkeys(shift.name for shift in find_shifts(["disturbances"], GREY))) == names


@pytest.mark.parametrize("shift", SHIFTS, ids=lambda shift: shift.name)
def test_an_image_meets_the_same_in_any_batch_and_order(shift: Shift, seeds: torch.Tensor) -> None:
    x, seeds = torch.rand(256, 3, 12, 10), seeds[:256]
    whole = moved(shift, x, seeds)
    for size, n in ((1, 40), (7, 256)):
        parts = zip(x[:n].split(size), seeds[:n].split(size), strict=True)
        assert torch.equal(torch.cat([moved(shift, *part) for part in parts]), whole[:n])
    order = torch.randperm(len(x))
    assert torch.equal(moved(shift, x[order], seeds[order]), whole[order])


@pytest.mark.parametrize("probability", five.FLIP)
def test_flips_happen_at_their_rate(seeds: torch.Tensor, probability: float) -> None:
    x = torch.zeros(2000, 1, 1, 2)
    x[..., 0] = 1
    flipped = int(five.random_flip(x, seeds, probability)[..., 1].sum())
    assert stats.binomtest(flipped, 2000, probability).pvalue > 1e-3


@pytest.mark.parametrize("probability", five.GREYSCALE)
def test_greyscale_happens_at_its_rate(seeds: torch.Tensor, probability: float) -> None:
    x = torch.rand(2000, 3, 1, 1)
    grey = five.random_greyscale(x, seeds, probability).std(1).flatten() < 1e-6
    assert stats.binomtest(int(grey.sum()), 2000, probability).pvalue > 1e-3


@pytest.mark.parametrize("share", five.CROP)
@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_crops_are_those_of_every_offset(seeds: torch.Tensor, share: float, padding: str) -> None:
    """Each image equals one of torchvision's crops of the padded image, and every offset is as frequent."""
    image = torch.rand(3, 32, 24)
    reach = round(share * 24)
    padded = V.pad(image, [reach], padding_mode={"zeros": "constant", "reflect": "reflect"}[padding])
    offsets = range(2 * reach + 1)
    known = {V.crop(padded, i, j, 32, 24).numpy().tobytes(): (i, j) for i in offsets for j in offsets}
    crops = five.random_crop(image.expand(2000, -1, -1, -1), seeds, share, padding=padding)  # type: ignore[arg-type]
    found = torch.tensor([known[crop.numpy().tobytes()] for crop in crops])
    for column in found.T:
        assert stats.chisquare(torch.bincount(column, minlength=2 * reach + 1).numpy()).pvalue > 1e-3
    assert abs(torch.corrcoef(found.T.double())[0, 1]) < 0.08


@pytest.mark.parametrize("share", five.FIVE_CROP)
def test_each_of_the_five_crops_is_torchvision_s(photographs: torch.Tensor, seeds: torch.Tensor, share: float) -> None:
    x = photographs[:1, :, :64, :48].float() / 255
    theirs = [
        V.resize(crop, [64, 48], antialias=True)
        for crop in V.five_crop(x[0], [64 - round(share * 64), 48 - round(share * 48)])
    ]
    for number, crop in enumerate(theirs):
        assert (five.one_of_five(x, seeds[:1], share, number=number)[0] - crop).abs().max() < 1e-5
    drawn = five.random_five_crop(x.expand(500, -1, -1, -1), seeds[:500], share)
    distance = torch.stack([(drawn - crop).abs().amax((1, 2, 3)) for crop in theirs])
    assert distance.amin(0).max() < 1e-5
    assert stats.chisquare(torch.bincount(distance.argmin(0), minlength=5).numpy()).pvalue > 1e-3


def test_resized_crops_reach_every_place(seeds: torch.Tensor) -> None:
    x = torch.arange(16.0).expand(1, 1, 16, 16) / 16
    drawn = five.random_resized_crop(x.expand(400, -1, -1, -1), seeds[:400], 1 / 8)
    left = (16 * drawn[:, 0, 0].amin(1)).round()
    assert sorted(left.unique().tolist()) == [0, 1, 2]


def test_jitter_draws_its_factors_within_bounds(seeds: torch.Tensor) -> None:
    """A colour without saturation keeps its hue, so that brightness alone is left: uniform in [0.6, 1.4]."""
    x = torch.full((2000, 3, 1, 1), 0.5)
    factor = five.random_jitter(x, seeds, 0.4)[:, 0, 0, 0] / 0.5
    assert stats.kstest(factor.numpy(), stats.uniform(0.6, 0.8).cdf).pvalue > 1e-3


def test_jitter_draws_every_order(seeds: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(five, "jitter", lambda x, factors, order: seen.extend([factors, order]))
    five.random_jitter(torch.rand(2000, 3, 1, 1), seeds, 0.4)
    factors, order = seen
    counts = (order @ torch.tensor([64, 16, 4, 1])).unique(return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    for column, reach in zip(factors.T, (0.4, 0.4, 0.4, 0.1), strict=True):
        middle = 1 if reach == 0.4 else 0
        assert stats.kstest(column.numpy(), stats.uniform(middle - reach, 2 * reach).cdf).pvalue > 1e-3
    five.random_jitter(torch.rand(2000, 3, 1, 1), seeds, 0.4, hue=0.0)
    assert seen[2][:, 3].abs().max() == 0


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 28, 28), (3, 33, 50)])
def test_any_size_will_do(shape: tuple[int, int, int], seeds: torch.Tensor) -> None:
    x = torch.rand(20, *shape)
    info = tiny_info(shape=shape)
    for shift in find_shifts(["disturbances", "disturbance-variants", "everyday"], info):
        changed = moved(shift, x, seeds[:20])
        assert changed.shape == x.shape
        assert not torch.equal(changed, x)


def test_every_aspect_will_do(check_strip: Callable[..., None]) -> None:
    check_strip("noise", "disturbances", "disturbance-variants", "everyday")


# Everyday


def theirs(name: str, x: torch.Tensor, seeds: torch.Tensor, severity: float) -> torch.Tensor:
    """Apply torchvision's function with the drawn parameters, image by image."""
    from resolute.shifts import draws

    bilinear = {"interpolation": V.InterpolationMode.BILINEAR}
    u = draws.uniform(seeds, 1)[:, 0]
    still = functools.partial(V.affine, shear=[0.0, 0.0], **bilinear)
    made = []
    for image, v in zip(x, u.tolist(), strict=True):
        match name:
            case "translation":
                angle = torch.tensor(2 * torch.pi * v, dtype=torch.float64)
                far = severity * min(image.shape[1:])
                step = [float(far * angle.cos()), float(far * angle.sin())]
                made.append(still(image, angle=0.0, translate=step, scale=1.0))
            case "rotation":
                made.append(V.rotate(image, severity - 2 * severity * v, **bilinear))
            case "scale":
                factor = (1 + severity) ** (2 * v - 1)
                made.append(still(image, angle=0.0, translate=[0, 0], scale=factor))
            case "blur":
                size = 2 * int(3 * severity + 0.5) + 1
                made.append(V.gaussian_blur(image, [size, size], [severity, severity]))
            case "noise":
                drawn = draws.normal(seeds, image.numel()).view_as(x)[len(made)]
                made.append((image + severity * drawn).clamp(0, 1))
            case "brightness":
                made.append(V.adjust_brightness(image, 1 - severity + 2 * severity * v))
            case "jpeg":
                quality = int(100 - severity)
                made.append(V.jpeg((255 * image).round().to(torch.uint8), quality).float() / 255)
    return torch.stack(made)


@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
@pytest.mark.parametrize("name", ["translation", "rotation", "scale", "blur", "noise", "brightness", "jpeg"])
@pytest.mark.parametrize("size", [32, 96])
def test_everyday_is_torchvision_s(photographs: torch.Tensor, seeds: torch.Tensor, name: str, size: int) -> None:
    x = photographs[:, :, :size, : size - 5].float() / 255
    for shift in everyday.everyday(tiny_info(shape=(3, size, size - 5))):
        if shift.name == name:
            expected = theirs(name, x, seeds[:6], shift.severity)
            assert (moved(shift, x, seeds[:6]) - expected).abs().max() <= 1 / 255


def test_erasing_is_torchvision_s_rectangle(seeds: torch.Tensor) -> None:
    x = torch.rand(300, 3, 30, 40) * 0.9 + 0.1
    for severity in (0.05, 0.1, 0.2):
        erased = everyday.erasing(x, seeds[:300], severity)
        black = erased[:, 0] == 0
        sides = []
        for image, mask, found in zip(x, black, erased, strict=True):
            rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
            top, left, high, wide = int(rows[0]), int(columns[0]), len(rows), len(columns)
            assert torch.equal(V.erase(image, top, left, high, wide, torch.zeros(1)), found)
            sides.append((top, left, high, wide))
        assert black.float().mean().item() == pytest.approx(severity, rel=0.05)
        top, left, high, wide = torch.tensor(sides).double().T
        assert stats.kstest((top / (30 - high)).numpy(), stats.uniform.cdf).statistic < 0.12
        assert (high / wide).log().min() < -0.9
        assert (high / wide).log().max() > 0.9
        assert left.min() == 0


def test_the_severity_is_the_standard_deviation(seeds: torch.Tensor) -> None:
    x, y = torch.full((400, 3, 8, 8), 0.5), torch.zeros(400, dtype=torch.long)
    shifts = find_shifts(["noise"], tiny_info())
    assert [shift.severity for shift in shifts] == list(STRENGTHS)
    for shift in shifts:
        moved = shift.apply(nn.Identity(), x, y, seeds[:400]) - x
        inside = moved.abs() < 0.5
        expected = stats.norm(scale=shift.severity)
        assert inside.double().mean().item() == pytest.approx(1 - 2 * expected.cdf(-0.5), abs=0.005)
        assert moved[inside].std().item() == pytest.approx(
            stats.truncnorm(-0.5 / shift.severity, 0.5 / shift.severity, scale=shift.severity).std(), rel=0.01
        )
