from __future__ import annotations

import re

import pytest

from resolute.errors import InputError
from resolute.paper.tables import ROWS, find


@pytest.mark.parametrize(
    ("name", "table", "found"),
    [
        ("R-LeNet", 4, "4-r-lenet"),
        ("r-lenet", None, "4-r-lenet"),
        ("R-CondenseNet(G=C=8)", 3, "3-r-condensenet-g8"),
        ("ShuffleNet 2x", None, "3-shufflenet"),
        ("ShffleNet 2x", None, "3-shufflenet"),
        ("FGSM-S-ResNet", 4, "4-fgsm-s-resnet"),
        ("FGSM-S-Resnet", 4, "4-fgsm-w-resnet"),
        ("fgsm-w-resnet", 4, "4-fgsm-w-resnet"),
    ],
)
def test_names_are_found_as_people_write_them(name: str, table: int | None, found: str) -> None:
    assert find(name, table).id == found


@pytest.mark.parametrize("row", ROWS)
def test_every_id_is_found(row: str) -> None:
    assert find(row).id == row
    assert find(row.upper(), ROWS[row].table).id == row


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("R-LeNett", 4, "unknown row of table 4 'R-LeNett': did you mean '4-r-lenet' or '4-lenet'?"),
        ("R-LeNet", 5, "table 5 has no row R-LeNet; table 4 has."),
        ("R-LeNet", 6, "there is no table 6; the paper has 1 to 5."),
        (
            "R-W-ResNet",
            5,
            "R-W-ResNet stands in several rows: 5-r-w-resnet-cifar10, 5-r-w-resnet-cifar100. Name one of these.",
        ),
    ],
)
def test_what_is_not_there_or_not_one_is_refused(name: str, table: int | None, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        find(name, table)
