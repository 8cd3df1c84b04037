"""The report's pictures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from cases import tiny_info
from resolute.report import figures
from resolute.report.comparison import summarise
from resolute.report.figures import MARKERS, Picture, draw_severities, mark, marker, short, spread
from resolute.report.page import draw_headline, draw_seeds, draw_training, errors_by_shift
from resolute.report.run import load_run
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeRun = Callable[..., Path]
    from numpy.typing import NDArray


def draw(folder: Path) -> list[Picture]:
    run = load_run(folder)
    summary = summarise(run)
    headline = draw_headline(summary)
    pictures = [*draw_severities(errors_by_shift(summary)), *draw_seeds(run), *draw_training(run)]
    return [headline, *pictures] if headline else pictures


def markers(picture: Picture, colour: str) -> list[tuple[float, float]]:
    """Positions of the markers of one colour, in the drawing's pixels."""
    root = ElementTree.fromstring(picture.svg)
    uses = [
        e
        for e in root.iter("use")
        if f"fill: var(--{colour})" in e.get("style", "") and "opacity" not in e.get("style", "")
    ]
    return [(float(e.attrib["x"]), float(e.attrib["y"])) for e in uses]


def proportions(values: list[float]) -> list[float]:
    """What a linear axis keeps: distances from the first as shares of the distance to the last."""
    return [(value - values[0]) / (values[-1] - values[0]) for value in values]


def test_every_picture_is_one_element_that_the_page_can_colour_and_read_aloud(make_run: MakeRun) -> None:
    pictures = draw(make_run())
    assert [picture.title for picture in pictures] == [
        *("Difference to base in the noise error", "gaussian-noise", "fgsm", "clean", "noise", "fgsm"),
        *("Training loss", "Training error", "Validation error"),
    ]
    ids: list[str] = []
    for picture in pictures:
        root = ElementTree.fromstring(picture.svg)
        assert root.tag == "svg"
        assert root.get("role") == "img"
        own = {e.attrib["id"]: e for e in root.iter() if "id" in e.attrib}
        ids += own
        assert [own[name].tag for name in root.attrib["aria-labelledby"].split()] == ["title", "desc"]
        assert all(own[name].text for name in root.attrib["aria-labelledby"].split())
        assert float(root.attrib["viewBox"].split()[2]) == pytest.approx(340)
        used = set(re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
        assert used
        assert used <= own.keys()
        assert not re.search(r"#[0-9a-f]{6}\b|font-family|metadata|<style|http|xmlns", picture.svg)
    assert len(ids) == len(set(ids))


def test_points_stand_where_the_errors_are(make_run: MakeRun) -> None:
    run = load_run(make_run())
    summary = summarise(run)
    noise = draw_severities(errors_by_shift(summary))[0]
    for method, colour in (("base", "mark0"), ("r", "mark2")):
        x, y = zip(*markers(noise, colour), strict=True)
        errors = [e.error.mean for e in summary.details if e.method == method and e.suite in ("clean", "noise")]
        np.testing.assert_allclose(proportions(list(x)), [0, 1 / 3, 2 / 3, 1], atol=1e-4)
        np.testing.assert_allclose(proportions(list(y)), proportions(errors), atol=1e-4)


def test_panels_of_a_suite_share_their_axis(make_run: MakeRun) -> None:
    keys = (("clean", "clean", 0.0), ("noise", "soft", 0.05), ("noise", "hard", 0.3))
    run = load_run(make_run(keys=keys))
    panels = draw_severities(errors_by_shift(summarise(run)))
    ticks = [re.findall(r"text-anchor: end[^>]*>([\d.]+)<", panel.svg) for panel in panels]
    assert ticks[0] == ticks[1]
    assert float(ticks[0][-1]) >= 30


def test_each_seed_is_a_pair(make_run: MakeRun) -> None:
    run = load_run(make_run(methods=("base", "r"), unfinished=(("r", 1), ("base", 2))))
    clean = draw_seeds(run)[0]
    base, ours = markers(clean, "mark0"), markers(clean, "mark1")
    assert len(base) == len(ours) == 3
    key = (("clean", "clean", 0.0),)
    errors = [float(run.wrong(method, (seed,), key).mean()) for seed in (0, 3, 4) for method in ("base", "r")]
    pixels = [x for pair in zip(base, ours, strict=True) for x, _ in pair]
    assert [y for _, y in base] == [y for _, y in ours]
    order = np.argsort(errors)
    np.testing.assert_allclose(
        proportions([pixels[i] for i in order]), proportions([errors[i] for i in order]), atol=1e-4
    )


def test_names_are_text_and_escaped(make_run: MakeRun) -> None:
    for picture in draw(make_run(methods=("base", "<b>&$x$", "r"))):
        assert "<b>" not in picture.svg
        texts = [element.text for element in ElementTree.fromstring(picture.svg).iter("text")]
        assert "<b>&$x$" in texts


def test_names_in_any_script_are_drawn_without_a_warning(make_run: MakeRun) -> None:
    assert "噪声" in draw(make_run(methods=("base", "噪声")))[1].svg


def test_one_seed_one_epoch_and_no_logs(make_run: MakeRun) -> None:
    one = make_run("one", seeds=(0,), epochs=1)
    assert [picture.title for picture in draw(one)][-2:] == ["Training loss", "Training error"]
    for path in one.glob("cells/*/train.csv"):
        path.unlink()
    assert [picture.title for picture in draw(one)] == ["gaussian-noise", "fgsm", "clean", "noise", "fgsm"]


def test_drawing_leaves_matplotlib_as_it_was(make_run: MakeRun) -> None:
    before = dict(mpl.rcParams)
    draw(make_run(seeds=(0,)))
    assert dict(mpl.rcParams) == before


def test_every_axis_unit_is_of_a_shift_that_there_is() -> None:
    info = tiny_info(shape=(3, 20, 20))
    names = ("noise", "disturbances", "disturbance-variants", "everyday", "fgsm", "pgd")
    shifts = {shift.name for shift in find_shifts(names, info)} | {"square", "autoattack"}
    assert set(figures.UNITS) <= shifts
    for name in ("noise", "disturbances", "everyday", "fgsm", "pgd"):
        assert {shift.name for shift in find_shifts([name], info)} <= set(figures.UNITS)


@pytest.mark.parametrize("seed", range(20))
def test_spread_is_the_least_move_that_parts_the_labels(seed: int) -> None:
    generator = np.random.default_rng(seed)
    wanted = generator.uniform(20, 80, size=generator.integers(2, 7))
    placed = spread(wanted, 10, 0, 100)
    order, unit = np.argsort(wanted), np.eye(len(wanted))
    assert np.diff(placed[order]).min() >= 10 - 1e-9

    def distance(y: NDArray[np.float64]) -> float:
        return float(((y - wanted[order]) ** 2).sum())

    slow = minimize(
        distance,
        np.zeros(len(wanted)),
        constraints=LinearConstraint(unit[1:] - unit[:-1], lb=np.full(len(wanted) - 1, 10.0)),
        bounds=[(0.0, 100.0)] * len(wanted),
        method="SLSQP",
    )
    np.testing.assert_allclose(placed[order], slow.x, atol=1e-3)


def test_spread_stays_inside_and_keeps_what_is_free() -> None:
    np.testing.assert_allclose(spread([99, 98, 30], 10, 0, 100), [100, 90, 30])
    np.testing.assert_allclose(spread([103], 10, 0, 100), [100])
    np.testing.assert_allclose(spread([1, 0], 10, 0, 100), [10, 0])
    np.testing.assert_allclose(spread([50, 50, 50], 60, 0, 100), [0, 60, 120])


def test_the_baseline_keeps_its_colour_to_itself() -> None:
    colours = [mark(number) for number in range(20)]
    assert colours.count(mark(0)) == 1
    assert len(set(colours[:9])) == 9
    assert colours[9] == colours[1]
    assert len({marker(number) for number in range(9)}) == len(MARKERS)
    assert set(colours) <= figures.VARIABLES.keys()


def test_long_names_are_cut() -> None:
    assert short("r+gaussian") == "r+gaussian"
    assert short("a" * 18) == "a" * 18
    assert short("a" * 19) == "a" * 17 + "…"
    assert short("r@eps=0.3@where=input") == "r@0.3@input"
