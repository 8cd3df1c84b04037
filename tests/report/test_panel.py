from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy.optimize import LinearConstraint, minimize

from resolute.report import figures
from resolute.report.figures import MARKERS, mark, marker, short, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
