"""Each corruption beside the authors' formula written anew, from the same random draws.

The formulas use NumPy, SciPy and Pillow; the drops of `spatter` stand beside OpenCV's functions.
"""

from __future__ import annotations

import colorsys
import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, stats
from torch import nn

from cases import tiny_info
from resolute import transforms
from resolute.shifts import draws, find_shifts, imagenet_c
from resolute.shifts.imagenet_c import CORRUPTIONS, HELD_OUT, degrade

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[Any]

ALL = CORRUPTIONS | HELD_OUT
RED_GREEN_BLUE = np.array([0.299, 0.587, 0.114])[:, None, None]


class Drawn:
    """The random numbers of one image."""

    def __init__(self, seed: torch.Tensor, shape: tuple[int, ...]) -> None:
        self.seed, self.shape = seed[None], shape

    def normal(self, *shape: int) -> Array:
        return draws.normal(self.seed, int(np.prod(shape))).double().numpy().reshape(shape)

    def uniform(self, *shape: int, stream: int = 0) -> Array:
        return draws.uniform(self.seed, int(np.prod(shape)), stream).numpy().reshape(shape)


def gaussian_noise(x: Array, c: float, drawn: Drawn) -> Array:
    return x + c * drawn.normal(*x.shape)


def speckle_noise(x: Array, c: float, drawn: Drawn) -> Array:
    return x + x * c * drawn.normal(*x.shape)


def shot_noise(x: Array, c: float, drawn: Drawn) -> Array:
    return np.asarray(stats.poisson.ppf(drawn.uniform(*x.shape), x * c) / c)


def impulse_noise(x: Array, c: float, drawn: Drawn) -> Array:
    word = (drawn.uniform(*x.shape) * 2**32 - 0.5).round().astype(int)
    return np.where(word < c * 2**32, word % 2, x)


def gaussian_blur(x: Array, c: float, drawn: Drawn) -> Array:
    return np.asarray(ndimage.gaussian_filter(x, (0, c, c), mode="nearest"))


def defocus_blur(x: Array, c: Any, drawn: Drawn) -> Array:
    return np.asarray(ndimage.correlate(x, transforms.disk(*c).double().numpy()[None], mode="mirror"))


def glass_blur(x: Array, c: Any, drawn: Drawn) -> Array:
    sigma, reach, rounds = c
    height, width = x.shape[1:]
    y = np.floor(255 * gaussian_blur(x, sigma, drawn) + imagenet_c.SLACK) / 255
    at, _ = imagenet_c._schedule(height, width, reach)
    numbers = draws.below((2 * reach) ** 2, drawn.seed, rounds * len(at))[0].view(rounds, -1)
    for own in numbers:
        step = dict(zip(at.tolist(), own.tolist(), strict=True))
        for h, w in itertools.product(range(height - reach, reach, -1), range(width - reach, reach, -1)):
            down, right = divmod(step[h * width + w], 2 * reach)
            there = (slice(None), h + down - reach, w + right - reach)
            y[:, h, w], y[there] = y[there].copy(), y[:, h, w].copy()
    return gaussian_blur(y, sigma, drawn)


def along(x: Array, radius: int, sigma: float, degrees: float) -> Array:
    turn = torch.tensor([degrees], dtype=torch.float64)
    return transforms.motion(torch.from_numpy(x)[None], radius, sigma, turn)[0].numpy()


def motion_blur(x: Array, c: Any, drawn: Drawn) -> Array:
    return np.round(255 * along(x, c[0], c[1], -45 + 90 * float(drawn.uniform(1)[0]))) / 255


def clipped_zoom(x: Array, factor: float) -> Array:
    side = x.shape[1]
    part = int(np.ceil(side / factor))
    top = (side - part) // 2
    cut = x[:, top : top + part, top : top + part]
    large = ndimage.zoom(cut, (1, factor, factor), order=1, mode="nearest")
    top = (large.shape[1] - side) // 2
    return large[:, top : top + side, top : top + side]


def zoom_blur(x: Array, c: Any, drawn: Drawn) -> Array:
    return np.asarray((x + sum(clipped_zoom(x, factor) for factor in c)) / (len(c) + 1))


def snow(x: Array, c: Any, drawn: Drawn) -> Array:
    flakes = clipped_zoom(c[0] + c[1] * drawn.normal(1, *x.shape[1:]), c[2])
    flakes = np.floor(255 * np.where(flakes < c[3], 0, flakes).clip(0, 1)) / 255
    angle = -135 + 90 * float(drawn.uniform(1, stream=1)[0])
    flakes = np.round(255 * along(flakes, c[4], c[5], angle)) / 255
    grey = (RED_GREEN_BLUE * x).sum(0)
    white = c[6] * x + (1 - c[6]) * np.maximum(x, grey * 1.5 + 0.5)
    return np.asarray(white + flakes + np.rot90(flakes, 2, (1, 2)))


def fog(x: Array, c: Any, drawn: Drawn) -> Array:
    """Diamond and square one point at a time."""
    side = x.shape[1]
    size = 1 << (side - 1).bit_length()
    numbers = iter(2 * drawn.uniform(size * size - 1) - 1)
    grid, step, wibble = np.zeros((size, size)), size, 100.0
    while step >= 2:
        half = step // 2
        for down, right in ((half, half), (0, half), (half, 0)):
            near = [(-half, -half), (-half, half), (half, -half), (half, half)]
            if down != right:
                near = [(-half, 0), (half, 0), (0, -half), (0, half)]
            for i, j in itertools.product(range(down, size, step), range(right, size, step)):
                mean = sum(grid[(i + a) % size, (j + b) % size] for a, b in near) / 4
                grid[i, j] = mean + wibble**2 * next(numbers)
        step, wibble = half, wibble / c[1]
    grid = (grid - grid.min()) / (grid.max() - grid.min())
    return np.asarray((x + c[0] * grid[:side, :side]) * x.max() / (x.max() + c[0]))


def through_hsv(x: Array, change: Any) -> Array:
    pixels = [colorsys.hsv_to_rgb(*change(*colorsys.rgb_to_hsv(*p))) for p in x.reshape(3, -1).T.tolist()]
    return np.array(pixels).T.reshape(x.shape)


def brightness(x: Array, c: float, drawn: Drawn) -> Array:
    return through_hsv(x, lambda h, s, v: (h, s, min(v + c, 1)))


def saturate(x: Array, c: Any, drawn: Drawn) -> Array:
    return through_hsv(x, lambda h, s, v: (h, min(s * c[0] + c[1], 1), v))


def contrast(x: Array, c: float, drawn: Drawn) -> Array:
    mean = x.mean((1, 2), keepdims=True)
    return np.asarray((x - mean) * c + mean)


def as_image(x: Array) -> Image.Image:
    return Image.fromarray(np.round(255 * x).astype(np.uint8).transpose(1, 2, 0))


def jpeg_compression(x: Array, c: int, drawn: Drawn) -> Array:
    stream = io.BytesIO()
    as_image(x).save(stream, "JPEG", quality=c)
    return np.asarray(Image.open(stream)).transpose(2, 0, 1) / 255


def pixelate(x: Array, c: float, drawn: Drawn) -> Array:
    side = x.shape[1]
    box = Image.Resampling.BOX
    return np.asarray(as_image(x).resize((int(side * c),) * 2, box).resize((side, side), box)).transpose(2, 0, 1) / 255


def elastic_transform(x: Array, c: Any, drawn: Drawn) -> Array:
    side = x.shape[1]
    size, sigma, reach = (side * value for value in c)
    middle, arm = side // 2, side // 3
    corners = np.array([[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]])
    moved = corners + reach * (2 * drawn.uniform(3, 2) - 1)
    back = np.linalg.solve(np.c_[moved, np.ones(3)], corners)
    rows, columns = np.mgrid[:side, :side]
    come = columns[..., None] * back[0] + rows[..., None] * back[1] + back[2]
    x = np.stack([ndimage.map_coordinates(part, (come[..., 1], come[..., 0]), order=1, mode="mirror") for part in x])
    if size == 0:
        return x
    noise = 2 * drawn.uniform(2, side, side, stream=1) - 1
    right, down = size * ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="reflect", truncate=3)
    there = (rows + down, columns + right)
    return np.stack([ndimage.map_coordinates(part, there, order=1, mode="reflect") for part in x])


REFERENCES = {name: globals()[name] for name in ALL if name not in {"frost", "spatter"}}


def compare(name: str, x: torch.Tensor, constants: Any, seeds: torch.Tensor) -> tuple[int, float]:
    """Largest difference of bytes, and the share that differ."""
    apart = []
    for severity, constant in enumerate(constants):
        own = seeds[10 * severity : 10 * severity + len(x)]
        ours = degrade(x.float() / 255, own, change=ALL[name].change, constant=constant)
        for image, seed, found in zip(x, own, ours, strict=True):
            made = REFERENCES[name](image.double().numpy() / 255, constant, Drawn(seed, image.shape))
            expected = np.floor(255 * np.clip(made, 0, 1) + imagenet_c.SLACK)
            apart.append(np.abs(np.round(255 * found.numpy()) - expected))
    return int(np.max(apart)), float((np.array(apart) > 0).mean())


@pytest.mark.parametrize("name", REFERENCES)
def test_small_images_are_those_of_the_formula(name: str, small: torch.Tensor, seeds: torch.Tensor) -> None:
    largest, share = compare(name, small[[0, 4]], ALL[name].small, seeds)
    assert largest <= 1
    assert share < 1e-3


@pytest.mark.parametrize("name", REFERENCES)
def test_large_images_are_those_of_the_formula(name: str, photographs: torch.Tensor, seeds: torch.Tensor) -> None:
    largest, share = compare(name, photographs[4:5], ALL[name].large, seeds)
    assert largest <= 1
    assert share < 1e-3


def test_frost_looks_like_the_photographs(seeds: torch.Tensor) -> None:
    ice = imagenet_c.crystals(seeds[:200], 64, 64)[:, 0]
    mean, spread = ice.mean((1, 2)), ice.std((1, 2))
    assert stats.kstest(mean.numpy(), stats.uniform(0.48, 0.33).cdf).pvalue > 1e-3
    assert 0.055 < spread.min() < 0.065
    assert 0.13 < spread.max() < 0.145
    x = torch.full((1, 3, 64, 64), 0.5)
    frosted = imagenet_c.frost(x, seeds[:1], (0.5, 0.5))[0].mean((1, 2))
    assert frosted[0] < frosted[1] < frosted[2]
    assert frosted[0].item() == pytest.approx(0.25 + 0.45 * mean[0].item(), abs=0.01)


def test_the_benchmark_has_its_names_and_severities() -> None:
    shifts = find_shifts(["corruptions"], tiny_info(shape=(3, 32, 32)))
    assert len(shifts) == 75
    assert list(dict.fromkeys(shift.name for shift in shifts)) == list(CORRUPTIONS)
    assert {shift.severity for shift in shifts} == {1, 2, 3, 4, 5}
    assert len(find_shifts(["corruptions-held-out"], tiny_info(shape=(3, 32, 32)))) == 20
    assert len(find_shifts(["corruptions-held-out"], tiny_info(shape=(1, 32, 32)))) == 15


@pytest.mark.parametrize(("side", "std"), [(64, 0.1), (65, 0.38)])
def test_the_constants_follow_the_size(side: int, std: float, seeds: torch.Tensor) -> None:
    shift = find_shifts(["corruptions"], tiny_info(shape=(1, side, side)))[4]
    assert (shift.name, shift.severity) == ("gaussian_noise", 5)
    x = torch.full((2, 1, side, side), 128 / 255)
    moved = shift.apply(nn.Identity(), x, torch.zeros(2), seeds[:2])
    assert moved.std().item() == pytest.approx(min(std, 0.328), rel=0.05)
    assert (255 * moved).frac().min() < 1e-3


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", ["small", "large"])
def test_an_image_meets_the_same_in_any_batch(name: str, size: str, seeds: torch.Tensor) -> None:
    x, seeds = torch.rand(21, 3, 24, 24), seeds[:21]
    constant = getattr(ALL[name], size)[2]
    whole = degrade(x, seeds, change=ALL[name].change, constant=constant)
    for n in (1, 5):
        parts = zip(x.split(n), seeds.split(n), strict=True)
        made = [degrade(*part, change=ALL[name].change, constant=constant) for part in parts]
        assert torch.equal(torch.cat(made), whole)
    order = torch.randperm(21)
    assert torch.equal(degrade(x[order], seeds[order], change=ALL[name].change, constant=constant), whole[order])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 33), (1, 70, 66)])
def test_any_size_will_do(shape: tuple[int, int, int], seeds: torch.Tensor) -> None:
    x = torch.rand(4, *shape)
    for shift in find_shifts(["corruptions", "corruptions-held-out"], tiny_info(shape=shape))[2::5]:
        changed = shift.apply(nn.Identity(), x, torch.zeros(4), seeds[:4])
        assert changed.shape == x.shape
        assert changed.isfinite().all()
        assert not torch.equal(changed, (255 * x).round() / 255)


def test_every_aspect_will_do(check_strip: Callable[..., None]) -> None:
    check_strip("corruptions", "corruptions-held-out")


def test_a_strip_is_blurred_through_glass_by_the_formula(strip: torch.Tensor, seeds: torch.Tensor) -> None:
    for constant in (*ALL["glass_blur"].small, *ALL["glass_blur"].large):
        found = imagenet_c.glass_blur(strip, seeds[:3], constant)
        for x, seed, own in zip(strip, seeds, found, strict=False):
            wanted = glass_blur(x.double().numpy(), constant, Drawn(seed, tuple(x.shape)))
            assert np.abs(own.numpy() - wanted).max() < 2 / 255


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
