"""What the panels are drawn with: axes in pixels, lines, and labels beside what they name. Draw within `svg.style`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from resolute.report import svg
from resolute.report.formats import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

WIDTH = 340
"""Pixels; a phone of 390 shows one panel at about its own size."""
LETTER = 6.6
"""Width of a letter in pixels, on average."""
LETTERS = 18
"""Most letters of a name in a figure."""
LINE = 13
"""Height of a label in pixels."""
MARKERS = "osD^vPX<>"


def panel(height: float, *, left: float, right: float, top: float = 10, bottom: float = 42) -> tuple[Figure, Axes]:
    """Make one panel.

    Args:
        height: Of the whole, in pixels.
        left: Margin in pixels; the other three likewise.
        right: Margin.
        top: Margin.
        bottom: Margin.

    Returns:
        The figure and its axes, with a grid across.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    axes = figure.add_axes((left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_plain)
    axes.xaxis.labelpad = 5
    return figure, axes


def _plain(value: float, _: float | None) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def margin(names: Iterable[str]) -> float:
    """Leave room for names beside the axes.

    Args:
        names: What will be written there.

    Returns:
        Pixels.
    """
    return 14 + LETTER * max(len(short(name)) for name in names)


def short(name: str) -> str:
    """Cut a name to the room that `margin` leaves.

    Args:
        name: Any name.

    Returns:
        Its beginning and an ellipsis, or all of it.
    """
    name = brief(name)
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def line(axes: Axes, x: ArrayLike, y: ArrayLike, colour: int) -> None:
    """Draw a method's line with a marker at each point.

    Args:
        axes: Where.
        x: Horizontal positions, shape [k].
        y: Vertical positions, shape [k].
        colour: The method's number; 0 is the baseline.
    """
    axes.plot(x, y, color=mark(colour), linewidth=2, marker=marker(colour), markersize=5)


def mark(colour: int) -> str:
    """Look up a method's colour.

    Args:
        colour: The method's number; 0 is the baseline.

    Returns:
        A stand-in for the style sheet's colour; eight methods on, colours come round again.
    """
    return svg.MARKS[_round(colour, len(svg.MARKS))]


def label(colour: int) -> str:
    """Look up the colour of a method's name.

    Args:
        colour: The method's number; 0 is the baseline.

    Returns:
        As `mark`, with the contrast that text needs.
    """
    return svg.LABELS[_round(colour, len(svg.LABELS))]


def marker(colour: int) -> str:
    """Look up a method's marker, so that the lines differ without colour too.

    Args:
        colour: The method's number; 0 is the baseline.

    Returns:
        matplotlib's letter for it.
    """
    return MARKERS[_round(colour, len(MARKERS))]


def _round(number: int, length: int) -> int:
    return (number - 1) % (length - 1) + 1 if number else 0


def label_left(axes: Axes, y: float, name: str, colour: int, offset: float = -8) -> None:
    """Name a row at its left.

    Args:
        axes: Where.
        y: The row's position, in the data's unit.
        name: What to write.
        colour: The method's number.
        offset: Where the text ends, in pixels from the axes' left edge.
    """
    axes.annotate(
        short(name),
        (0, y),
        (offset, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        color=label(colour),
        fontweight="bold",
        annotation_clip=False,
    )


def label_above(axes: Axes, place: tuple[float, float], name: str, vertical: Literal["data", "axes fraction"]) -> None:
    """Name the baseline above a point.

    Args:
        axes: Where.
        place: The point; its x is in the data's unit.
        name: What to write.
        vertical: The unit of its y.
    """
    axes.annotate(
        name,
        place,
        (0, 8),
        xycoords=("data", vertical),
        textcoords="offset points",
        ha="center",
        color=label(0),
        fontweight="bold",
        annotation_clip=False,
    )


def label_ends(axes: Axes, ends: Mapping[str, tuple[float, float, int]]) -> None:
    """Name each line at its right end, moved apart where the ends are close. Set the axes' limits first.

    Args:
        axes: Where.
        ends: For each name the line's last x and y, in the data's unit, and the method's number.
    """
    pixels = axes.transData.transform([(x, y) for x, y, _ in ends.values()])[:, 1]
    box = axes.get_window_extent()
    placed = spread(pixels, LINE, box.y0, box.y1)
    for (name, (_, _, colour)), y in zip(ends.items(), placed, strict=True):
        axes.annotate(
            short(name),
            (1, (y - box.y0) / box.height),
            (6, 0),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center_baseline",
            color=label(colour),
            fontweight="bold",
        )


def spread(wanted: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move label positions as little as possible so that none overlap.

    Least squares under ``gap`` between neighbours: isotonic regression of the positions less their ranks' share.

    Args:
        wanted: Where the labels would stand, shape [k].
        gap: Smallest distance between two.
        low: No label stands below this.
        high: No label stands above this, unless there is no room for all.

    Returns:
        Positions in the order given, shape [k].

    >>> spread([5.0, 5.0, 20.0], 4, 0, 30)
    array([ 3.,  7., 20.])
    """
    from scipy.optimize import isotonic_regression

    positions = np.asarray(wanted, dtype=np.float64)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    fitted = isotonic_regression(positions[order] - steps).x
    placed = np.empty(len(order))
    placed[order] = np.clip(fitted, low, max(low, high - steps[-1])) + steps
    return placed


def log_scale(axes: Axes, values: Sequence[NDArray[np.float64]]) -> None:
    """Give the vertical axis a logarithmic scale with plain numbers, if no value is zero.

    Args:
        axes: Where.
        values: All that is drawn.
    """
    from matplotlib.ticker import LogLocator, NullFormatter

    if min(float(value.min()) for value in values) <= 0:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(_plain)
    axes.yaxis.set_minor_formatter(NullFormatter())
