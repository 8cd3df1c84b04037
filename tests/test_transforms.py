"""Every function beside torchvision's, SciPy's or Pillow's own, image by image with the same parameters."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from resolute import transforms
from resolute.config import Augment
from resolute.data.augment import augment
from resolute.data.dataset import augment_generator
from resolute.shifts.everyday import jitter
from resolute.transforms import crop_and_enlarge, draw_crop, draw_crops, rotate

BILINEAR = F.InterpolationMode.BILINEAR


def difference(ours: torch.Tensor, theirs: list[torch.Tensor]) -> float:
    return float((ours - torch.stack(theirs)).abs().max())


@pytest.fixture
def oblong(photographs: torch.Tensor) -> torch.Tensor:
    """Not square, so that rows and columns cannot be mixed up."""
    return photographs[:, :, :64, :49].float() / 255


def test_flip(oblong: torch.Tensor) -> None:
    which = torch.tensor([True, False, True, True, False, False])
    assert (
        difference(transforms.flip(oblong, which), [F.hflip(i) if w else i for i, w in zip(oblong, which, strict=True)])
        == 0
    )


@pytest.mark.parametrize("padding", ["zeros", "reflect"])
def test_window(oblong: torch.Tensor, padding: str) -> None:
    top, left = torch.tensor([-8, 0, 3, 8, -1, 5]), torch.tensor([0, 8, -8, 2, 7, -3])
    mode = {"zeros": "constant", "reflect": "reflect"}[padding]
    theirs = [
        F.crop(F.pad(i, [8], padding_mode=mode), 8 + int(t), 8 + int(c), 64, 49)
        for i, t, c in zip(oblong, top, left, strict=True)
    ]
    assert difference(transforms.window(oblong, top, left, padding), theirs) == 0  # type: ignore[arg-type]


def test_a_window_far_outside_is_black_or_mirrored_again() -> None:
    x = torch.arange(3.0).view(1, 1, 1, 3)
    far = torch.tensor([7])
    assert transforms.window(x, torch.tensor([0]), far).sum() == 0
    assert transforms.window(x, torch.tensor([0]), far, "reflect").flatten().tolist() == [1, 0, 1]


@pytest.mark.parametrize("size", [(56, 43), (32, 24), (64, 49), (1, 1)])
def test_resized_crop(oblong: torch.Tensor, size: tuple[int, int]) -> None:
    high, wide = size
    top, left = torch.arange(6) % (65 - high), torch.arange(6).flip(0) % (50 - wide)
    theirs = [
        F.resized_crop(i, int(t), int(c), high, wide, [64, 49], interpolation=BILINEAR)
        for i, t, c in zip(oblong, top, left, strict=True)
    ]
    assert difference(transforms.resized_crop(oblong, top, left, high, wide), theirs) < 1e-5


def test_affine(oblong: torch.Tensor) -> None:
    angle, scale = torch.linspace(-180, 170, 6), torch.tensor([0.5, 0.8, 1.0, 1.3, 2.0, 1.0])
    right, down = torch.linspace(-6.5, 8, 6), torch.linspace(5, -7.25, 6)
    theirs = [
        F.affine(i, float(a), [float(r), float(d)], float(s), [0.0], interpolation=BILINEAR, fill=None, center=None)
        for i, a, s, r, d in zip(oblong, angle, scale, right, down, strict=True)
    ]
    assert difference(transforms.affine(oblong, angle=angle, scale=scale, right=right, down=down), theirs) < 1 / 255


def test_rotation(oblong: torch.Tensor) -> None:
    angle = torch.linspace(-30, 30, 6)
    theirs = [F.rotate(i, -float(a), interpolation=BILINEAR) for i, a in zip(oblong, angle, strict=True)]
    assert difference(transforms.affine(oblong, angle=angle), theirs) < 1 / 255


@pytest.mark.parametrize(("outside", "mode"), [("zeros", "constant"), ("mirror", "mirror"), ("symmetric", "reflect")])
def test_sample(oblong: torch.Tensor, outside: str, mode: str) -> None:
    from scipy.ndimage import map_coordinates

    reach = 0.0 if outside == "zeros" else 60.0
    rows = torch.rand(6, 20, 30, dtype=torch.float64) * (63 + 2 * reach) - reach
    columns = torch.rand(6, 20, 30, dtype=torch.float64) * (48 + 2 * reach) - reach

    def looked_up(image: torch.Tensor, *place: torch.Tensor) -> torch.Tensor:
        at = torch.stack(place).numpy()
        return torch.stack([torch.from_numpy(map_coordinates(c.numpy(), at, order=1, mode=mode)) for c in image])  # type: ignore[call-overload]

    theirs = [looked_up(*parts) for parts in zip(oblong, rows, columns, strict=True)]
    assert difference(transforms.sample_pixels(oblong, rows, columns, outside), theirs) < 1e-4  # type: ignore[arg-type]


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


FACTORS = torch.tensor([0.0, 0.6, 1.0, 1.4, 2.5, 0.9])
TURNS = torch.tensor([-0.5, -0.1, 0.0, 0.1, 0.5, 0.33])
THEIRS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)


@pytest.fixture(params=[3, 1])
def grey_or_colour(photographs: torch.Tensor, request: pytest.FixtureRequest) -> torch.Tensor:
    return photographs[:, : request.param].float() / 255


@pytest.mark.parametrize("number", range(4))
def test_each_change(grey_or_colour: torch.Tensor, number: int) -> None:
    change = (
        transforms.adjust_brightness,
        transforms.adjust_contrast,
        transforms.adjust_saturation,
        transforms.adjust_hue,
    )[number]
    factors = TURNS if number == 3 else FACTORS
    theirs = torch.stack([THEIRS[number](i, float(f)) for i, f in zip(grey_or_colour, factors, strict=True)])
    assert (change(grey_or_colour, factors) - theirs).abs().max() < 1e-5


def test_greyscale(grey_or_colour: torch.Tensor) -> None:
    which = torch.arange(6) % 2 == 0
    theirs = [F.rgb_to_grayscale(i, len(i)) if w else i for i, w in zip(grey_or_colour, which, strict=True)]
    assert (transforms.greyscale(grey_or_colour, which) - torch.stack(theirs)).abs().max() < 1e-6


def test_jitter_in_every_order(grey_or_colour: torch.Tensor) -> None:
    orders = list(itertools.permutations(range(4)))
    order = torch.tensor(orders)
    grey_or_colour = grey_or_colour[torch.arange(len(orders)) % 6]
    factors = torch.rand(len(orders), 4, dtype=torch.float64) + 0.5
    factors[:, 3] -= 1
    theirs = []
    for image, mine, own in zip(grey_or_colour, factors.tolist(), orders, strict=True):
        for number in own:
            image = THEIRS[number](image, mine[number])
        theirs.append(image)
    assert (jitter(grey_or_colour, factors, order) - torch.stack(theirs)).abs().max() < 1 / 255


def test_the_mean_is_the_same_in_any_batch() -> None:
    x = torch.rand(64, 3, 40, 41)
    alone = torch.cat([transforms.mean(image[None]) for image in x])
    assert torch.equal(transforms.mean(x), alone)
    assert torch.allclose(alone, x.double().mean((2, 3), keepdim=True).float())


@pytest.fixture
def two(photographs: torch.Tensor) -> torch.Tensor:
    return photographs[:2, :, :50, :37].float() / 255


@pytest.mark.parametrize("border", ["nearest", "reflect", "mirror"])
@pytest.mark.parametrize(("sigma", "truncate"), [(0.3, 4), (1.5, 4), (6, 4), (40, 3)])
def test_gaussian_is_scipy_s(two: torch.Tensor, border: transforms.Border, sigma: float, truncate: float) -> None:
    theirs = ndimage.gaussian_filter(two.double().numpy(), (0, 0, sigma, sigma), mode=border, truncate=truncate)
    ours = transforms.smooth(two, sigma, border, truncate)
    assert np.abs(ours.numpy() - theirs).max() < 1e-5


@pytest.mark.parametrize("shape", [(3, 3), (1, 5), (7, 3), (21, 21)])
def test_correlate_is_scipy_s(two: torch.Tensor, shape: tuple[int, int]) -> None:
    kernel = torch.rand(shape) / (shape[0] * shape[1])
    theirs = ndimage.correlate(two.double().numpy(), kernel.double().numpy()[None, None], mode="mirror")
    assert np.abs(transforms.correlate(two, kernel).numpy() - theirs).max() < 1e-5


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


def test_motion_is_a_slow_walk_along_the_line(two: torch.Tensor) -> None:
    angle = torch.tensor([-38.0, 110.0])
    ours = transforms.motion(two, 6, 2.5, angle)
    weights = np.exp(-(np.arange(13) ** 2) / (2 * 2.5**2))
    height, width = two.shape[2:]
    for image, turn, found in zip(two.double().numpy(), np.deg2rad(angle.numpy()), ours.numpy(), strict=True):
        total = np.zeros_like(image)
        for tap, weight in enumerate(weights / weights.sum()):
            down, right = np.ceil(tap * np.sin(turn) - 0.5), np.ceil(tap * np.cos(turn) - 0.5)
            rows = (np.arange(height) + int(down)).clip(0, height - 1)
            columns = (np.arange(width) + int(right)).clip(0, width - 1)
            total += weight * image[:, rows[:, None], columns]
        assert np.abs(found - total).max() < 1e-6


@pytest.mark.parametrize("factor", [1.0, 1.03, 1.3, 2.5])
def test_zoomed_is_scipy_s_zoom_of_the_middle(two: torch.Tensor, factor: float) -> None:
    height, width = two.shape[2:]
    parts = [int(np.ceil(size / factor)) for size in (height, width)]
    top, left = (height - parts[0]) // 2, (width - parts[1]) // 2
    part = two.double().numpy()[:, :, top : top + parts[0], left : left + parts[1]]
    large = ndimage.zoom(part, (1, 1, factor, factor), order=1, mode="nearest")
    top, left = (large.shape[2] - height) // 2, (large.shape[3] - width) // 2
    theirs = large[:, :, top : top + height, left : left + width]
    assert np.abs(transforms.zoomed(two, factor).numpy() - theirs).max() < 1e-5


@pytest.mark.parametrize("size", [(30, 20), (25, 18), (9, 12), (50, 37), (120, 99), (1, 1), (49, 38)])
def test_box_is_pillow_s(photographs: torch.Tensor, size: tuple[int, int]) -> None:
    image = photographs[0, :, :50, :37]
    theirs = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.BOX))
    ours = transforms.box(image[None].int(), size)[0]
    assert torch.equal(ours.permute(1, 2, 0), torch.from_numpy(theirs.astype(np.int32)))


@pytest.mark.parametrize("quality", [7, 40, 75, 95])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_pillow_s_jpeg(photographs: torch.Tensor, quality: int, channels: int) -> None:
    x = photographs[:, :channels, :53, :41]
    for image, found in zip(x, transforms.compress(x.float() / 255, quality), strict=True):
        stream = io.BytesIO()
        Image.fromarray(image.permute(1, 2, 0).numpy().squeeze()).save(stream, "JPEG", quality=quality)
        theirs = np.asarray(Image.open(stream)).reshape(53, 41, channels).transpose(2, 0, 1)
        assert np.array_equal((255 * found).round().to(torch.uint8).numpy(), theirs)
