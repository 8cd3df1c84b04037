from __future__ import annotations

import pytest
import torch

from cases import as_float, tiny_images, tiny_info, tiny_network
from resolute.attacks import fgsm
from resolute.errors import InputError
from resolute.shifts import SUITES, find_shifts
from resolute.shifts.released import RELEASES


@pytest.mark.parametrize("name", [name for name in SUITES if name not in RELEASES])
def test_every_shift_gives_images_of_its_suite(name: str) -> None:
    images = tiny_images(8, tiny_info(classes=6, shape=(3, 20, 20)))
    x, y = as_float(images)
    shifts = find_shifts([name], images.info)
    assert len({shift.key for shift in shifts}) == len(shifts) > 0
    for shift in shifts:
        assert shift.key == (name, shift.name, shift.severity)
        moved = shift.apply(tiny_network(classes=6, shape=(3, 20, 20)), x, y, torch.arange(len(x)))
        assert moved.shape == x.shape
        assert moved.dtype == x.dtype
        assert not moved.requires_grad
        assert 0 <= moved.min() <= moved.max() <= 1
        assert torch.equal(moved, x) == (shift.severity == 0)


def test_clean_is_the_image_itself() -> None:
    x, y = as_float(tiny_images())
    [shift] = find_shifts(["clean"], tiny_info())
    assert shift.key == ("clean", "clean", 0.0)
    assert shift.apply(tiny_network(), x, y, torch.arange(len(x))) is x


def test_top5_is_refused_where_no_answer_could_be_wrong() -> None:
    [shift] = find_shifts(["top5"], tiny_info(classes=6))
    assert (shift.key, shift.top) == (("top5", "top5", 0.0), 5)
    with pytest.raises(InputError, match="top5 needs more than 5 classes, and tiny has 5: every answer would be right"):
        find_shifts(["top5"], tiny_info(classes=5))


def test_fgsm_attacks_at_the_radii_of_the_data() -> None:
    x, y = as_float(tiny_images())
    shifts = find_shifts(["fgsm"], tiny_info())
    assert [shift.severity for shift in shifts] == [0.02, 0.05]
    for shift in shifts:
        attacked = shift.apply(tiny_network(), x, y, torch.arange(len(x)))
        assert torch.equal(attacked, fgsm(tiny_network(), x, y, shift.severity))


def test_shifts_stand_in_the_order_of_the_names() -> None:
    keys = [shift.key for shift in find_shifts(["fgsm", "clean", "noise"], tiny_info())]
    assert [suite for suite, _, _ in keys] == ["fgsm", "fgsm", "clean", "noise", "noise", "noise"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["clean", "nosie"], "unknown suite 'nosie': did you mean 'noise'"),
        (["corruption"], "unknown suite 'corruption': did you mean 'corruptions'"),
        ([], "no suite was named. There are: clean, top5, noise, disturbances"),
    ],
)
def test_what_is_no_suite_is_refused(names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_shifts(names, tiny_info())
