"""Numbers as people read them, each beside what a reader expects."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from resolute.report import numbers
from resolute.stats import Interval

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (numbers.number, 1.005001, "1.01"),
        (numbers.number, -0.004, "0.00"),
        (numbers.number, math.nan, numbers.NONE),
        (numbers.percent, 0.12345, "12.35"),
        (numbers.change, 0.3, "+0.30"),
        (numbers.change, -0.3, "-0.30"),
        (numbers.change, 0.001, "0.00"),
        (numbers.points, -0.0204, "-2.04"),
        (numbers.points, 0.0, "0.00"),
        (numbers.points, -0.00003, "-0.003"),  # an interval that excludes 0 is seen to do so
        (numbers.confidence, 0.95, "95 %"),
        (numbers.confidence, 1 - 0.05 / 12, "99.58 %"),
        (numbers.significant, 0.0, "0"),
        (numbers.significant, 0.5, "0.500"),
        (numbers.significant, 123.4, "123"),
        (numbers.significant, 12345.6, "12,346"),
        (numbers.significant, 1234567.0, "1.23e+06"),
        (numbers.significant, 0.00001234, "1.23e-05"),
        (numbers.severity, 0.30000001, "0.3"),
        (numbers.fraction, 8 / 255, "8/255"),
        (numbers.fraction, 0.1, "0.1"),
        (numbers.fraction, 0.2, "0.2"),  # is 51/255, and two decimals are exact
        (numbers.fraction, 1 / 3, "85/255"),
        (numbers.fraction, 0.0123, "0.0123"),
        (numbers.p_value, 0.0312, "0.031"),
        (numbers.p_value, 0.0009, "<0.001"),
        (numbers.p_value, 0.05, "0.050"),
        (numbers.p_value, 0.0501, "0.051"),  # is not significant and does not look so
        (numbers.p_value, math.nan, numbers.NONE),
    ],
)
def test_each_kind_of_number(write: Callable[[float], str], value: float, text: str) -> None:
    assert write(value) == text


def test_a_p_value_behind_its_name() -> None:
    assert numbers.p_value(0.031, "p") == "p = 0.031"
    assert numbers.p_value(0.0001, "p") == "p < 0.001"


def test_an_interval_is_written_where_there_is_one() -> None:
    interval, none = Interval(0.02, 0.01, 0.03), Interval(0.02, math.nan, math.nan)
    assert numbers.bounds(interval) == "1.00 to 3.00"
    assert numbers.estimate(interval) == "2.00 (1.00 to 3.00)"
    assert numbers.estimate(interval, numbers.points) == "+2.00 (+1.00 to +3.00)"
    assert (numbers.bounds(none), numbers.estimate(none)) == ("", "2.00")


def test_counts_and_lists_are_words() -> None:
    assert [numbers.count(n, "seed") for n in (0, 1, 1234)] == ["0 seeds", "1 seed", "1,234 seeds"]
    assert numbers.count(2, "class", "classes") == "2 classes"
    assert [numbers.listing(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert numbers.brief("r@eps=0.1@where=input") == "r@0.1@input"


def test_a_nested_object_is_a_list_of_pairs() -> None:
    nested = {"train": {"lr": 0.1, "ema": None, "flip": True}, "seeds": list(range(22)), "methods": []}
    seeds = ", ".join(map(str, range(20))) + " and 2 more"
    pairs = [("train.lr", "0.1"), ("train.ema", "none"), ("train.flip", "yes"), ("seeds", seeds), ("methods", "none")]
    assert list(numbers.flat(nested)) == pairs


@pytest.mark.parametrize("name", ["=1+1", "+1+1", "-x", "@SUM(A1)", "'=1", "\uff1d1", '=HYPERLINK("x")'])
def test_a_name_is_no_formula_in_a_spreadsheet_and_comes_back(name: str) -> None:
    assert numbers.spreadsheet(name) == f"'{name}"
    assert numbers.from_spreadsheet(numbers.spreadsheet(name)) == name


@pytest.mark.parametrize("text", ["-0.31", "+2", "-1e-05", "resnet", "a=b", "r@eps=0.3", ""])
def test_numbers_and_other_names_stay(text: str) -> None:
    assert numbers.spreadsheet(text) == numbers.from_spreadsheet(text) == text


@pytest.mark.parametrize("name", ["\t=1", "\r=1", "\n=1", "\x1b[31m=1"])
def test_what_hides_before_a_formula_is_shown(name: str) -> None:
    assert numbers.spreadsheet(name).lstrip("'").startswith("\\")
