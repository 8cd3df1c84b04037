"""The split rule, against the sentences that publish it."""

from __future__ import annotations

import itertools

import pytest
import torch

from resolute.data.dataset import balanced_part, members, of_training
from resolute.errors import InputError

UNSPLIT = {"train": 103}


def chosen(counts: dict[str, int], split: str) -> list[int]:
    return [int(i) for i in members(counts, split)]


def test_every_tenth_training_image_is_for_validation() -> None:
    training = torch.arange(100, 125)
    assert of_training(training, "validation").tolist() == [109, 119]
    assert of_training(training, "train").tolist() == [i for i in range(100, 125) if i not in {109, 119}]
    assert of_training(training, "train+validation").tolist() == list(range(100, 125))


def test_a_set_that_nobody_split() -> None:
    test = [i for i in range(103) if i % 5 == 4]
    rest = [i for i in range(103) if i % 5 != 4]
    assert chosen(UNSPLIT, "test") == test
    assert chosen(UNSPLIT, "train+validation") == rest
    assert chosen(UNSPLIT, "validation") == [i for k, i in enumerate(rest) if k % 10 == 9]
    assert chosen(UNSPLIT, "train") == [i for k, i in enumerate(rest) if k % 10 != 9]


@pytest.mark.parametrize(
    "counts",
    [UNSPLIT, {"train": 30, "test": 7}, {"train": 30, "validation": 7}, {"train": 9, "validation": 3, "test": 2}],
)
def test_parts_are_disjoint_and_complete(counts: dict[str, int]) -> None:
    parts = [chosen(counts, split) for split in ("train", "validation", "test")]
    assert sorted(itertools.chain(*parts)) == list(range(sum(counts.values())))
    assert sorted(parts[0] + parts[1]) == sorted(chosen(counts, "train+validation"))


def test_official_test_images_are_kept() -> None:
    assert chosen({"train": 20, "test": 3}, "test") == [20, 21, 22]
    assert chosen({"train": 20, "test": 3}, "validation") == [9, 19]


def test_validation_plays_the_test_set_only_where_there_is_no_test() -> None:
    assert chosen({"train": 20, "validation": 3}, "test") == [20, 21, 22]
    assert chosen({"train": 20, "validation": 3}, "validation") == [9, 19]
    three = {"train": 20, "validation": 3, "test": 2}
    assert chosen(three, "validation") == [20, 21, 22]
    assert chosen(three, "test") == [23, 24]
    assert chosen(three, "train") == list(range(20))


def test_a_part_has_its_share_of_each_class_and_lies_within_a_larger_one() -> None:
    labels = torch.tensor([0] * 100 + [1] * 40 + [5] * 4)[torch.randperm(144)]
    few, some = balanced_part(labels, 0.1, seed=3), balanced_part(labels, 0.5, seed=3)
    assert labels[few].bincount().tolist() == [10, 4, 0, 0, 0, 1]
    assert labels[some].bincount().tolist() == [50, 20, 0, 0, 0, 2]
    assert set(few.tolist()) < set(some.tolist())
    assert few.tolist() == sorted(few.tolist())
    assert balanced_part(labels, 1, seed=3).tolist() == list(range(144))


def test_a_part_follows_the_seed_alone() -> None:
    labels = torch.arange(400) % 4
    torch.manual_seed(9)
    first = balanced_part(labels, 0.1, seed=0)
    torch.manual_seed(8)
    assert torch.equal(balanced_part(labels, 0.1, seed=0), first)
    assert not torch.equal(balanced_part(labels, 0.1, seed=1), first)


@pytest.mark.parametrize("fraction", [0, -0.5, 1.01, float("nan")])
def test_a_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="train fraction is"):
        balanced_part(torch.arange(4), fraction, seed=0)
