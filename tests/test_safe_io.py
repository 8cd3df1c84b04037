from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from resolute.errors import InputError
from resolute.safe_io import COUNT, NAME, SHARE, Maybe, Within, check_schema, inside, parse_json

PATH = Path("run/file.json")
SCHEMA = {
    "name": NAME, "n": COUNT, "share?": SHARE, "note?": Maybe(str), "keys": Within([(str, float)], 1),
    "said": {str: bool}, "state": {"passed", "failed"}, "rest?": dict,
}  # fmt: skip
GOOD = {"name": "a", "n": 3, "keys": [["x", 1], ["y", 0.5]], "said": {"me": True}, "state": "failed", "later": [1]}


def test_what_fits_comes_back_as_it_is() -> None:
    for value in (GOOD, GOOD | {"share": 1, "note": None, "rest": {"any": [None]}}):
        assert check_schema(value, SCHEMA, PATH) is value


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": "3"}, "n is '3'; wanted is a whole number"),
        ({"n": True}, "n is True; wanted is a whole number"),
        ({"n": 3.0}, "n is 3.0; wanted is a whole number"),
        ({"n": -1}, "n is -1; wanted is at least 0 and at most 1e+15"),
        ({"name": ""}, "name is ''; wanted is a length of at least 1 and at most 255"),
        ({"name": None}, "name is None; wanted is text"),
        ({"share": 1.5}, "share is 1.5; wanted is at least 0 and at most 1"),
        ({"share": None}, "share is None; wanted is a number"),
        ({"note": 1}, "note is 1; wanted is text"),
        ({"keys": []}, "keys is []; wanted is a length of at least 1"),
        ({"keys": [["x", 1], ["y"]]}, "keys[1] is ['y']; wanted is a list of 2"),
        ({"keys": [["x", "1"]]}, "keys[0][1] is '1'; wanted is a number"),
        ({"keys": [["x", 10**400]]}, "keys[0][1] is 1000"),
        ({"keys": {}}, "keys is {}; wanted is a list"),
        ({"said": {"me": 1}}, "said.me is 1; wanted is true or false"),
        ({"said": []}, "said is []; wanted is an object"),
        ({"state": "x" * 1000}, f"state is '{'x' * 59}...; wanted is 'failed' or 'passed'"),
        ({"state": []}, "state is []; wanted is 'failed' or 'passed'"),
        ({"rest": 1}, "rest is 1; wanted is an object"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as raised:
        check_schema(GOOD | change, SCHEMA, PATH)
    assert str(raised.value).startswith(f"run/file.json: {told}")
    assert len(str(raised.value)) < 300


def test_what_is_missing_is_named() -> None:
    for name in ("name", "n", "keys", "said", "state"):
        with pytest.raises(InputError, match=f"{name} is missing"):
            check_schema({key: value for key, value in GOOD.items() if key != name}, SCHEMA, PATH)
    with pytest.raises(InputError, match=r"its content is 3; wanted is an object"):
        check_schema(3, SCHEMA, PATH)


@pytest.mark.parametrize("text", ["NaN", "[1e400]", '{"a": -Infinity}', '"\\ud800"', "[" * 100_000])
def test_numbers_are_finite_and_text_can_be_written_again(text: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=r"finite|surrogates|nested"):
            parse_json(given)


def test_other_json_is_what_python_reads() -> None:
    text = '{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00"], "b": {}}'
    assert parse_json(text) == parse_json(text.encode("utf-16")) == json.loads(text)
    assert math.isclose(parse_json("1e-400"), 0)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/etc", "a/b", "a\\b", "a\0b", "y" * 256, "é" * 128])
def test_a_name_never_leaves_its_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="which is no name of a file in it"):
        inside(tmp_path, name)
    assert inside(tmp_path, "r@eps=0.3-seed0") == tmp_path / "r@eps=0.3-seed0"
