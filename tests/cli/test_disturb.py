from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from resolute.cli.disturb import Tile, draw_picture, picture_rows
from resolute.data import load
from resolute.noise import signs
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from cli.conftest import Call

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.mark.parametrize("kind", MAGIC)
def test_a_picture_is_written_the_same_each_time(resolute: Call, kind: str) -> None:
    for name in ("one", "two"):
        answer = resolute("disturb", "--out", f"there/{name}.{kind}")
        assert answer == (0, f"picture: there/{name}.{kind}\n", "")
    one, two = (Path(f"there/{name}.{kind}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert one.startswith(MAGIC[kind])


def test_a_folder_gets_a_picture_named_after_what_it_shows(resolute: Call) -> None:
    Path("there.d").mkdir()
    for out, name in (("new", "new"), ("new.d/", "new.d"), ("there.d", "there.d"), ("there.d/", "there.d")):
        path = f"{name}/digits-noise-disturbances.png"
        assert resolute("disturb", "--suites", "noise,disturbances", f"--out={out}") == (0, f"picture: {path}\n", "")
        assert Path(path).read_bytes().startswith(MAGIC["png"])


def test_labels_are_text_in_svg(resolute: Call) -> None:
    resolute("disturb", "--out", "figure.svg")
    text = Path("figure.svg").read_text()
    for label in ("original", "random horizontal flip", "random five-crop", "severity 0.25"):
        assert f">{label}</text>" in text


def test_pictures_are_those_of_an_evaluation() -> None:
    images = load("digits", split="test")
    rows = picture_rows(images, [3, 5], ["disturbances"], [2], seed=4)
    assert [tile.name for tile in rows[1]] == [
        "original", "random crop", "random horizontal flip", "random colour jitter", "random five-crop",
    ]  # fmt: skip
    assert torch.equal(rows[1][0].x, images.x[5].float() / 255)
    [shift] = [s for s in find_shifts(["disturbances"], images.info) if s.key == ("disturbances", "random-crop", 1 / 8)]
    seeds = signs.fold(signs.key(4, *shift.key), torch.arange(len(images)))
    everything = shift.apply(torch.nn.Identity(), images.x.float() / 255, images.y, seeds)
    assert torch.equal(rows[1][1].x, everything[5])
    assert rows[1][1].note == "severity 0.125"


def test_without_levels_the_strongest_is_drawn() -> None:
    [row] = picture_rows(load("digits", split="test"), [0], ["noise"], None, seed=0)
    assert [tile.note for tile in row] == ["", "severity 0.3"]


def test_several_levels_make_a_row_for_each_disturbance() -> None:
    rows = picture_rows(load("digits", split="test"), [0, 1], ["noise", "disturbances"], [1, 3], seed=0)
    assert [len(row) for row in rows] == [3] * 10
    assert [tile.note for tile in rows[0]] == ["", "severity 0.1", "severity 0.3"]


def test_many_pictures_are_wrapped_evenly() -> None:
    rows = picture_rows(load("digits", split="test"), [0], ["corruptions"], [1], seed=0)
    assert [len(row) for row in rows] == [6, 6, 4]


def test_a_drawing_shows_the_pixels() -> None:
    x = torch.zeros(3, 4, 4)
    x[0] = 1
    grey = torch.full((1, 4, 4), 0.5)
    for tile, colour in ((Tile(x, "red", ""), [255, 0, 0]), (Tile(grey, "grey", "x"), [128] * 3)):
        Path("drawn.png").write_bytes(draw_picture([[tile, tile], [tile]], "png"))
        pixels = np.asarray(Image.open("drawn.png").convert("RGB")).astype(int)
        found = (np.abs(pixels - colour).max(-1) <= 1).mean()
        assert 0.5 < found < 0.75
        bottom_right = pixels[-100:, -100:]
        assert (bottom_right == 255).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "figure.gif"], "--out is 'figure.gif'; it must end in .png, .svg, .pdf, or name a folder."),
        (["--suites", "fgsm"], "unknown suite 'fgsm': there are: corruptions"),
        (["--suites", "corruption"], "did you mean 'corruptions'"),
        (["--images", "898"], "--images got '898'; it takes whole numbers from 0 to 897, separated by commas."),
        (["--images", "a"], "--images got 'a'"),
        (["--images", "\u00b2"], "--images got '\u00b2'"),
        (["--levels", 5000 * "9"], "it takes whole numbers from 1 to 5"),
        (["--levels", "0"], "--levels got '0'; it takes whole numbers from 1 to 5"),
        (["--data", "minst"], "unknown data set 'minst': did you mean 'mnist'?"),
        (["--out", "file/figure.png"], "cannot write file/figure.png"),
    ],
)
def test_a_mistake_ends_with_one_message(resolute: Call, arguments: list[str], message: str) -> None:
    Path("file").touch()
    answer = resolute("disturb", *arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "Traceback" not in answer.err
