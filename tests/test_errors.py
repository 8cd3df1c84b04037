"""What a user reads after a mistake."""

from __future__ import annotations

import errno
import unicodedata
from pathlib import Path

import pytest
import torch

from resolute.errors import InputError, in_words, located, parse_radius, unknown, visible

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


def test_of_very_many_names_sixty_are_listed() -> None:
    message = unknown("model", "\x1b" + 300 * "q", [f"net{number:04}" for number in range(1000)])
    assert "net0059 and 940 more." in message
    assert "net0060" not in message
    assert len(message) < 800
    assert "\x1b" not in message


@pytest.mark.parametrize("first", range(0, 0x110000, 0x8000))
def test_what_acts_is_shown_as_python_writes_it(first: int) -> None:
    for number in range(first, first + 0x8000):
        each = chr(number)
        acts = unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp") and number not in (0x200C, 0x200D)
        is_byte = 0xDC80 <= number <= 0xDCFF  # how Python holds a byte that is no UTF-8
        written = f"\\x{number - 0xDC00:02x}" if is_byte else repr(each)[1:-1]
        assert visible(f"a{each}") == f"a{written if acts else each}"


@pytest.mark.parametrize("path", ["", "a/" + 256 * "x", 128 * "\u00e9", "~nosuchuser/x", "a\0b"])
def test_what_can_be_no_path_is_refused(path: str) -> None:
    with pytest.raises(InputError, match=" is no path: "):
        located(path)


def test_a_link_to_nothing_is_called_that() -> None:
    Path("link").symlink_to("nowhere")
    with pytest.raises(InputError, match="link is a link to nowhere, and nothing is there"):
        located("link")
    Path("nowhere").mkdir()
    assert located("link") == Path("link")
    assert located("~/x") == Path.home() / "x"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            "cannot write what is to be shown: No space left on device.",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "there"), "there: Permission denied."),
        (InputError("as it is"), "as it is"),
    ],
)
def test_a_fault_of_the_system_is_told_in_a_sentence(error: Exception, message: str) -> None:
    assert str(in_words(error)).startswith(message)


def test_batch_norm_over_one_value_is_told_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value") as caught:
        torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    assert "larger --batch-size" in str(in_words(caught.value))
    assert in_words(ValueError("something else")) is None


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
