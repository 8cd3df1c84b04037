"""A few hundred damaged files for each reader of a foreign format; ``make fuzz`` tries many more."""

from __future__ import annotations

import random
import warnings
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from readers import READERS, attempt

if TYPE_CHECKING:
    from pathlib import Path

VALUES = (
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x00" * 4,
    b"\x80\x00\x00\x00",
    b"\xff" * 8,
    b"-1",
    b"1e999",
)
CHEAP = [name for name in READERS if name not in ("model", "safetensors", "torch")]


def damaged(good: bytes, rng: random.Random) -> bytes:
    """Change a file in one to three places, as accidents and attackers do; most places lie in its first kilobyte."""
    raw = bytearray(good)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(min(len(raw), rng.choice((64, 1024, 2**30))) or 1)
        match rng.randrange(5):
            case 0:
                raw[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                value = rng.choice(VALUES)
                raw[place : place + len(value)] = value
            case 2:
                del raw[place : place + rng.randint(1, 64)]
            case 3:
                raw[place:place] = raw[place : place + rng.randint(1, 64)]
            case _:
                del raw[place:]
        if not raw:
            break
    return bytes(raw)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_a_good_file_is_read_and_a_damaged_one_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader, rng = READERS[name], random.Random(name)
    good = reader.good()
    (tmp_path / reader.name).write_bytes(good)
    reader.read(tmp_path / reader.name)
    for _ in range(60 if name in CHEAP else 15):
        attempt(reader, damaged(good, rng), tmp_path)


@pytest.mark.parametrize("name", CHEAP)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(content=st.binary(max_size=200))
def test_bytes_of_any_kind_are_refused_or_read(name: str, content: bytes, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attempt(READERS[name], content, tmp_path)
