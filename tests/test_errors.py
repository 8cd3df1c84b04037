"""What a user reads after a mistake."""

from __future__ import annotations

import pytest
import torch

from resolute.errors import InputError, in_words, parse_radius, unknown

METHODS = ["base", "fgsm", "r", "gaussian", "additive", "dropout"]


def test_input_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^what came$"):
        raise InputError("what came")


@pytest.mark.parametrize(
    ("name", "near"),
    [("fgms", "'fgsm'"), ("FGSM", "'fgsm'"), ("Gaussain", "'gaussian'"), ("drop-out", "'dropout'"), ("bas", "'base'")],
)
def test_the_nearest_name_is_offered(name: str, near: str) -> None:
    assert unknown("method", name, METHODS) == f"unknown method {name!r}: did you mean {near}?"


def test_several_near_names_are_offered_best_first() -> None:
    known = ["wrn-16-8", "wrn-28-10", "wrn-16-2", "lenet"]
    assert unknown("model", "wrn-16-1", known).startswith("unknown model 'wrn-16-1': did you mean 'wrn-16-")
    assert unknown("model", "wrn-16-1", known).count(" or ") == 1
    assert "lenet" not in unknown("model", "wrn-16-1", known)


def test_all_names_are_listed_in_order_where_none_is_near() -> None:
    message = unknown("method", "zzz", (name for name in METHODS))
    assert message == "unknown method 'zzz': there are: additive, base, dropout, fgsm, gaussian, r."


def test_a_tensor_that_has_no_room_is_told_in_a_sentence() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    told = in_words(caught.value)
    assert isinstance(told, InputError)
    assert "can't allocate memory: you tried to allocate 1152921504606846976 bytes" in str(told)
    assert in_words(RuntimeError("something else")) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (0, 0.0), (1, 1.0), (0.25, 0.25), ("0.25", 0.25), ("8/255", 8 / 255), (" 8 / 255 ", 8 / 255), ("1e-2", 0.01),
        ("255/255", 1.0), ("0/255", 0.0),
    ],
)  # fmt: skip
def test_a_radius_is_a_number_or_a_fraction(text: float | str, value: float) -> None:
    assert parse_radius(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "8/0", "8/", "/255", "1/2/4", "nan", float("nan"), "nan/1", "inf", -1, "-1", "-8/255", "8/-255", 1.01,
        "256/255", "8", "__import__('os').system('true')", "2**-3", "1/inf*0", "0x1", "True", "None", "1,5",
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: float | str) -> None:
    with pytest.raises(InputError, match="it is a number of pixel units from 0 to 1, such as") as caught:
        parse_radius(text)
    assert repr(text) in str(caught.value)
