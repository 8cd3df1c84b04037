"""The printed tables, and how a row is named."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from resolute.errors import InputError
from resolute.paper.tables import CAPTIONS, NOTES, PRINTED_SOURCES, ROWS, Row, find_row

every = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)


def test_all_42_rows_are_there_once() -> None:
    assert Counter(row.table for row in ROWS.values()) == {1: 6, 2: 4, 3: 11, 4: 12, 5: 9}
    assert len(ROWS) == 42
    assert all(key == row.id for key, row in ROWS.items())
    assert len({(row.table, row.data, row.name) for row in ROWS.values()}) == 42
    assert CAPTIONS.keys() == NOTES.keys() == {1, 2, 3, 4, 5}


@every
def test_a_row_is_complete(row: Row) -> None:
    assert row.id.startswith(f"{row.table}-")
    assert PRINTED_SOURCES[row.source.name] is row.source
    assert row.measures
    assert all(value.higher_is_better == ("accuracy" in str(value.metric)) for value in row.measures)
    assert len({value.what for value in row.values}) == len(row.values)


@every
def test_units_fit_the_numbers(row: Row) -> None:
    for value in row.values:
        low, high = {"%": (0.2, 100), "px": (224, 331), "count": (1e6, 1e11)}[value.unit]
        assert low <= value.value <= high
        assert (value.metric is None) == (value.unit != "%")


@every
def test_the_numbers_stand_in_the_printed_row(row: Row) -> None:
    """The print is kept word for word, so that the numbers can be checked against it."""
    assert row.printed.startswith(row.printed_name)
    printed = row.printed.replace(",", "").replace("± ", "±").replace("\N{MULTIPLICATION SIGN}", " ").split()
    for value in row.values:
        billions = value.what == "multiply-adds" and row.table == 2
        scale, unit = {"count": (1e9, "B") if billions else (1e6, "M"), "px": (1, ""), "%": (1, "")}[value.unit]
        words = {word.partition("±")[0] for word in printed}
        assert words & {shown + unit for shown in _shown(value.value / scale)}
        if value.plus_minus is not None:
            assert any(word.endswith(f"±{value.plus_minus:.2f}") for word in printed)


def _shown(number: float) -> set[str]:
    return {f"{number:.{digits}f}" for digits in range(3) if float(f"{number:.{digits}f}") == pytest.approx(number)}


@every
def test_a_trained_row_has_its_base_in_the_table(row: Row) -> None:
    assert (row.base.table, row.base.data, row.base.method) == (row.table, row.data, "base")
    assert (row.base is row) == (row.method == "base")
    prefix = {"base": "", "fgsm": "FGSM-", "r": "R-"}[row.method]
    assert row.name == prefix + row.base.name


def test_misprints_are_marked() -> None:
    """Those that are evident; what merely disagrees with a source is a note."""
    assert {row.id: row.misprints for row in ROWS.values() if row.misprints} == {
        "2-senet": (("multiply-adds", "4.24e+10", "4.23e+10"),),
        "3-shufflenet": (("name", "ShffleNet 2x", "ShuffleNet 2x"), ("top-5", "10.5", "10.2")),
        "3-nasnet-b": (("top-5", "9", "8.7"),),
        "3-condensenet-g4": (("multiply-adds", "2.74e+08", "5.29e+08"), ("parameters", "2.9e+06", "4.8e+06")),
        "4-fgsm-w-resnet": (("name", "FGSM-S-Resnet", "FGSM-W-ResNet"),),
    }
    assert any("0.50 is not a figure of the cited paper" in note for note in ROWS["4-lenet"].notes)
    assert PRINTED_SOURCES["inceptionv3_c100"].confirmed.startswith("no")


def test_the_two_claims_that_people_ask_for() -> None:
    lenet, wide = (ROWS[name].measures[0] for name in ("4-r-lenet", "5-r-w-resnet-cifar10"))
    assert (lenet.value, lenet.unit, lenet.metric) == (0.28, "%", "top-1 classification error")
    assert wide.value == 2.7


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
    assert find_row(name, table).id == found


@pytest.mark.parametrize("row", ROWS)
def test_every_id_is_found(row: str) -> None:
    assert find_row(row).id == row
    assert find_row(row.upper(), ROWS[row].table).id == row


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
        find_row(name, table)
