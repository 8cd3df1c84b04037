"""Batches and orders: pure functions of their arguments, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from resolute.data.dataset import DataInfo, Images, augment_generator, batches, epoch_order, photographs
from resolute.errors import InputError

INFO: DataInfo = photographs("p", (3, 4, 5), (0.5,) * 3, (0.2,) * 3, ("a", "b"))


def some(n: int) -> Images:
    generator = torch.Generator().manual_seed(n)
    x = torch.randint(0, 256, (n, 3, 4, 5), generator=generator, dtype=torch.uint8)
    return Images(INFO, x, torch.arange(n), "train")


def test_batches_are_the_images_in_order_divided_by_255() -> None:
    images, order = some(23), epoch_order(23, 0, 0)
    at = 0
    for x, y in batches(images, 5, order=order):
        for k in range(len(y)):
            i = int(order[at])
            assert int(y[k]) == i
            assert torch.equal(x[k], images.x[i].float() / 255)
            at += 1
    assert at == 23
    assert x.dtype == torch.float32
    assert len(y) == 3


def test_without_an_order_the_file_order() -> None:
    assert torch.cat([y for _, y in batches(some(7), 4)]).tolist() == list(range(7))


def test_the_set_stays_as_it_was() -> None:
    images = some(4)
    before = images.x.clone()
    for x, _ in batches(images, 4):
        x.zero_()
    assert torch.equal(images.x, before)


def test_a_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch size is 0"):
        next(batches(some(3), 0))


def test_order_is_a_permutation_that_seed_and_epoch_determine() -> None:
    orders = {(seed, epoch): epoch_order(500, seed, epoch).tolist() for seed in range(4) for epoch in range(4)}
    assert all(sorted(order) == list(range(500)) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 16
    torch.manual_seed(9)
    assert epoch_order(500, 2, 3).tolist() == orders[2, 3]


def test_every_position_is_equally_likely_over_seeds() -> None:
    first = torch.tensor([int(epoch_order(4, seed, 0)[0]) for seed in range(2000)]).bincount(minlength=4)
    chi_square = ((first - 500).square() / 500).sum().item()
    assert chi_square < 21.1  # the 0.9999 quantile for three degrees of freedom


def test_augmentation_draws_differ_by_each_word_of_the_key() -> None:
    def draw(seed: int, epoch: int, step: int, rank: int = 0) -> float:
        return torch.rand((), generator=augment_generator(seed, epoch, step, rank=rank)).item()

    keys = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)]
    assert len({draw(*key) for key in keys} | {draw(0, 0, 0, rank=1)}) == 7
    assert draw(3, 4, 5) == draw(3, 4, 5)


def test_torchs_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    epoch_order(10, 0, 0)
    torch.rand(3, generator=augment_generator(0, 0, 0))
    list(batches(some(5), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more, and -1 came"):
        epoch_order(3, -1, 0)
