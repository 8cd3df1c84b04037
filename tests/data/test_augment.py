"""Batched augmentation against a loop that treats one image at a time with the same draws."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn.functional import pad

from resolute.config import Augment
from resolute.data.augment import ERASE_AREA, ERASE_ASPECT, Draws, apply_draws, augment, draw_augmentation
from resolute.data.dataset import augment_generator
from resolute.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

POLICIES = [
    Augment(shift, padding, flip, erase)  # type: ignore[arg-type]
    for shift, padding, flip, erase in itertools.product(
        (0, 1, 4), ("zeros", "reflect"), (False, True), (0.0, 0.5, 1.0)
    )
]


def one_by_one(x: Tensor, policy: Augment, draws: Draws) -> Tensor:
    done = []
    for i, image in enumerate(x.double()):
        s, (_, height, width) = policy.shift, image.shape
        padded = pad(image[None], (s, s, s, s), mode="reflect" if policy.padding == "reflect" else "constant")[0]
        top, left = int(draws.top[i]), int(draws.left[i])
        out = padded[:, top : top + height, left : left + width].clone()
        if draws.flip[i]:
            out = out.flip(2)
        if draws.box is not None and draws.noise is not None:
            t, lft, h, w = draws.box[i].tolist()
            scale = 1 if x.dtype == torch.uint8 else 255
            out[:, t : t + h, lft : lft + w] = draws.noise[i, :, t : t + h, lft : lft + w].double() / scale
        done.append(out)
    return torch.stack(done).to(x.dtype)


def pixels(dtype: torch.dtype, *shape: int) -> Tensor:
    x = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return x if dtype == torch.uint8 else (x.double() / 255).to(dtype)


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(17, 3, 9, 12), (17, 1, 8, 8)])
def test_equal_to_a_loop_over_images(policy: Augment, dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    x = pixels(dtype, *shape)
    draws = draw_augmentation(policy, shape, torch.Generator().manual_seed(2))
    out = apply_draws(x, policy, draws)
    assert out.dtype == dtype
    assert out.shape == x.shape
    if draws.noise is None or dtype == torch.uint8:
        assert torch.equal(out, one_by_one(x, policy, draws))
    else:
        torch.testing.assert_close(out, one_by_one(x, policy, draws), rtol=0, atol=1e-7)


def test_augment_draws_and_applies() -> None:
    policy, x = Augment(2, "reflect", flip=True, erase=0.5), pixels(torch.uint8, 9, 3, 8, 8)
    draws = draw_augmentation(policy, (9, 3, 8, 8), augment_generator(0, 1, 2))
    assert torch.equal(augment(x, policy, augment_generator(0, 1, 2)), apply_draws(x, policy, draws))


def test_channels_last_input_gives_the_same_images() -> None:
    policy, x = Augment(2, "zeros", flip=True), pixels(torch.float32, 9, 3, 8, 8)
    a, b = (augment(v, policy, augment_generator(0, 0, 0)) for v in (x, x.to(memory_format=torch.channels_last)))
    assert torch.equal(a, b)


def test_nothing_asked_for_is_nothing_done() -> None:
    x, generator = pixels(torch.uint8, 2, 1, 4, 4), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert augment(x, Augment(), generator) is x
    assert torch.equal(generator.get_state(), before)


def test_the_input_and_torchs_global_generator_are_left_alone() -> None:
    x = pixels(torch.uint8, 5, 3, 8, 8)
    before, state = x.clone(), torch.get_rng_state()
    augment(x, Augment(2, "reflect", flip=True, erase=1.0), augment_generator(0, 0, 0))
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_offsets_and_flips_are_uniform_and_independent() -> None:
    n, policy = 90_000, Augment(1, flip=True)
    draws = draw_augmentation(policy, (n, 1, 4, 4), torch.Generator().manual_seed(3))
    cells = (draws.top * 6 + draws.left * 2 + draws.flip.long()).bincount(minlength=18)
    assert cells.numel() == 18
    chi_square = ((cells - n / 18).square() / (n / 18)).sum().item()
    assert chi_square < 46.6  # the 0.9999 quantile for 17 degrees of freedom


def zhong(height: int, width: int, generator: Any) -> tuple[int, int, int, int]:
    """Random Erasing as its authors wrote it."""
    for _ in range(100):
        area = generator.uniform(*ERASE_AREA) * height * width
        aspect = generator.uniform(*ERASE_ASPECT)
        h, w = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if w < width and h < height:
            return generator.randint(0, height - h), generator.randint(0, width - w), h, w
    return 0, 0, 0, 0


def test_boxes_follow_the_law_of_the_authors_loop() -> None:
    from random import Random

    from scipy.stats import ks_2samp

    height, width, n = 32, 24, 20_000
    box = draw_augmentation(Augment(erase=1.0), (n, 1, height, width), torch.Generator().manual_seed(4)).box
    assert box is not None
    assert bool((box[:, 2:] > 0).all())
    assert bool((box[:, 2:] < torch.tensor([height, width])).all())
    assert bool((box[:, :2] + box[:, 2:] <= torch.tensor([height, width])).all())
    generator = Random(5)
    slow = torch.tensor([zhong(height, width, generator) for _ in range(n)])
    for name, fast, want in [
        *((k, box[:, k], slow[:, k]) for k in range(4)),
        ("area", box[:, 2] * box[:, 3], slow[:, 2] * slow[:, 3]),
        ("gap", height - box[:, 0] - box[:, 2], height - slow[:, 0] - slow[:, 2]),
    ]:
        assert ks_2samp(fast.numpy(), want.numpy()).pvalue > 1e-4, name


def test_erasing_happens_with_its_probability() -> None:
    n = 40_000
    box = draw_augmentation(Augment(erase=0.3), (n, 1, 32, 32), torch.Generator().manual_seed(6)).box
    assert box is not None
    share = (box[:, 2] > 0).double().mean().item()
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / n) ** 0.5


def test_a_reflection_wider_than_the_image_is_refused_and_zeros_are_not() -> None:
    x = pixels(torch.uint8, 3, 1, 4, 9)
    with pytest.raises(
        InputError, match="a shift of 4 with reflection needs images larger than that, and these are 4x9"
    ):
        augment(x, Augment(4, "reflect"), augment_generator(0, 0, 0))
    policy = Augment(6, "zeros")
    draws = draw_augmentation(policy, (3, 1, 4, 9), augment_generator(0, 0, 0))
    assert torch.equal(apply_draws(x, policy, draws), one_by_one(x, policy, draws))
