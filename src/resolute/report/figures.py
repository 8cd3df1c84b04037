"""The pictures of all reports: narrow SVGs that a page's style sheet colours, the same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from resolute.errors import visible
from resolute.report.numbers import brief, severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from resolute.run_folder import Key
    from resolute.stats import Interval

INK, MUTED, GRID = "#1c2126", "#5c6670", "#e4e7ea"
MARKS = ("#7a838c", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8250c4", "#8c6d31")
"""The baseline's colour, then those of up to eight methods, over again after that: Okabe and Ito's (2008) first."""
LABELS = ("#5b666f", "#00639b", "#b34f00", "#00734f", "#9a4878", "#8a5f00", "#1f6f9e", "#6a3ab0", "#705518")
"""The same for text, which needs more contrast than a mark."""
VARIABLES = {
    INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)",
    **{colour: f"var(--mark{i})" for i, colour in enumerate(MARKS)},
    **{colour: f"var(--label{i})" for i, colour in enumerate(LABELS)},
}  # fmt: skip
"""What stands for these colours, which are those of the light style sheet, in a picture inside a page."""
STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "resolute", "text.parse_math": False, "axes.xmargin": 0.03,
    "font.size": 11, "text.color": INK, "axes.labelcolor": MUTED, "axes.edgecolor": GRID, "axes.axisbelow": True,
    "grid.color": GRID, "grid.linewidth": 1, "xtick.color": GRID, "ytick.color": GRID, "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "ytick.major.size": 0, "xtick.major.size": 3,
}  # fmt: skip


def style() -> AbstractContextManager[None]:
    """Draw within this: the look of every figure, undone at its end."""
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


@dataclass(frozen=True)
class Picture:
    """One panel of a report: its title, what its axis counts, and the drawing, an ``<svg>`` element."""

    title: str
    note: str
    svg: str


def picture(figure: Figure, name: str, title: str, note: str, told: str, *, aloud: str = "") -> Picture:
    """Finish a figure: its ids start with ``name``, and ``told`` is read aloud. Call it within `style`."""
    # Colours become the page's CSS variables, fonts the page's font; matplotlib's metadata, style sheet and namespaces
    # go.
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's fonts draw the text
        figure.savefig(stream, format="svg", transparent=True)
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314 (matplotlib's own output)
    for element in list(root.iter()):
        _strip(element)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in {"metadata", "style"}]:
            parent.remove(child)
    _name_ids(root, name)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    for position, (tag, text) in enumerate((("title", aloud or title), ("desc", told))):
        child = ElementTree.Element(tag, id=f"{name}-{tag}")
        child.text = visible(text)
        root.insert(position, child)
    return Picture(title, note, ElementTree.tostring(root, encoding="unicode"))


def _strip(element: ElementTree.Element) -> None:
    element.tag = element.tag.rpartition("}")[2]
    for key in list(element.attrib):
        element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    if "style" in element.attrib:
        element.attrib["style"] = _restyle(element.attrib["style"])
    if re.fullmatch(r"rotate\(-?0 .*\)", element.attrib.get("transform", "")):
        del element.attrib["transform"]
    if "d" in element.attrib:
        element.attrib["d"] = " ".join(element.attrib["d"].split())
    if element.tag != "text":
        element.text = None
    element.tail = None


def _restyle(text: str) -> str:
    kept = "; ".join(part for part in text.split("; ") if not part.startswith("font-family"))
    for colour, variable in VARIABLES.items():
        kept = kept.replace(colour, variable)
    return kept


def _name_ids(root: ElementTree.Element, name: str) -> None:
    """Keep the ids that something refers to, and number them below ``name``."""
    pattern = re.compile(r"#([\w.-]+)")
    used = dict.fromkeys(match for _, value in _references(root) for match in pattern.findall(value))
    new = {old: f"{name}-{position}" for position, old in enumerate(used)}
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in new:
            element.attrib["id"] = new[identity]
    for element, value in list(_references(root)):
        for key, found in list(element.attrib.items()):
            if found == value:
                element.attrib[key] = pattern.sub(lambda match: f"#{new[match[1]]}", value)


def _references(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str]]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if (key == "href" and value.startswith("#")) or value.startswith("url(#"):
                yield element, value


WIDTH = 340
"""Pixels; a phone of 390 shows one panel at about its own size."""
LETTER = 6.6
"""Width of a letter in pixels, on average."""
LETTERS = 18
"""Most letters of a name in a figure."""
LINE = 13
"""Height of a label in pixels."""
MARKERS = "osD^vPX<>"


def panel(
    height: float, *, left: float, right: float, top: float = 10, bottom: float = 42, width: float = WIDTH
) -> tuple[Figure, Axes]:
    """Make one panel; sizes and margins are in pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 72, height / 72), dpi=72)
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_tick)
    axes.xaxis.labelpad = 5
    return figure, axes


def _tick(value: float, _: float | None) -> str:
    return severity(value).replace("-", "\N{MINUS SIGN}")


def margin(names: Iterable[str]) -> float:
    """Leave room for names beside the axes."""
    return 14 + LETTER * max((len(short(name)) for name in names), default=0)


def short(name: str) -> str:
    """Cut a name to the room that `margin` leaves."""
    name = brief(name)
    return name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}\N{HORIZONTAL ELLIPSIS}"


def mark(colour: int) -> str:
    """Look up a method's colour."""
    return MARKS[_round(colour, len(MARKS))]


def marker(colour: int) -> str:
    """Look up a method's marker, so that the lines differ without colour too."""
    return MARKERS[_round(colour, len(MARKERS))]


def _round(position: int, length: int) -> int:
    return (position - 1) % (length - 1) + 1 if position else 0


def label(axes: Axes, name: str, colour: int, at: tuple[float, float], offset: tuple[float, float], frame: Any) -> None:
    """Write a name beside a line, a row or a point: to its right, left or above, as the offset in pixels points."""
    sideways = (offset[0] > 0) - (offset[0] < 0)
    axes.annotate(
        short(name), at, offset, xycoords=frame, textcoords="offset points", annotation_clip=False,
        ha={1: "left", 0: "center", -1: "right"}[sideways], va="center_baseline" if sideways else "baseline",
        color=LABELS[_round(colour, len(LABELS))], fontweight="bold",
    )  # fmt: skip


def label_ends(axes: Axes, ends: Sequence[tuple[str, int, float]]) -> None:
    """Name each line at its right end, moved apart where the ends are close. Set the axes' limits first."""
    x = axes.get_xlim()[1]
    pixels = axes.transData.transform([(x, y) for _, _, y in ends])[:, 1]
    box = axes.get_window_extent()
    for (name, colour, _), y in zip(ends, spread(pixels, LINE, box.y0, box.y1), strict=True):
        label(axes, name, colour, (1, (y - box.y0) / box.height), (6, 0), "axes fraction")


def spread(wanted: ArrayLike, gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Move label positions as little as possible so that none overlap."""
    # Least squares under ``gap`` between neighbours: isotonic regression of the positions less their ranks' share.
    from scipy.optimize import isotonic_regression

    positions = np.asarray(wanted, dtype=np.float64)
    order = np.argsort(positions, kind="stable")
    steps = gap * np.arange(len(order))
    fitted = isotonic_regression(positions[order] - steps).x
    placed = np.empty(len(order))
    placed[order] = np.clip(fitted, low, max(low, high - steps[-1])) + steps
    return placed


UNITS = {
    **dict.fromkeys(("gaussian-noise", "noise"), "standard deviation, pixel units"),
    **dict.fromkeys(("fgsm", "pgd", "square", "autoattack"), "radius, pixel units"),
    **dict.fromkeys(("random-crop", "random-crop-reflect"), "padding, share of the side"),
    **dict.fromkeys(("random-horizontal-flip", "random-greyscale"), "probability"),
    "random-colour-jitter": "strength",
    "random-colour-jitter-no-hue": "strength",
    "random-five-crop": "share cut off",
    "translation": "share of the side",
    "rotation": "largest angle, degrees",
    "scale": "largest change of the factor",
    "blur": "standard deviation, pixels",
    "brightness": "largest change of the factor",
    "erasing": "share erased",
    "jpeg": "100 minus quality",
}
"""What the severity of a shift counts."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A named line."""

    name: str  # what stands at its end
    colour: int  # number of its colour and marker; 0 is the baseline's
    x: Sequence[float]  # where its points are
    y: Sequence[float]  # their heights
    band: tuple[Sequence[float], Sequence[float]] = ((), ())  # lower and upper bounds of the heights, or nothing
    each: Sequence[Sequence[float]] = ()  # thin lines that the thick one is the mean of
    marked: bool = True  # whether each point has a marker

    @property
    def told(self) -> str:
        """The curve in words."""
        points = list(zip(self.x, self.y, strict=True))
        if len(points) > 12:
            return f"{self.name}: {severity(self.y[0])} to {severity(self.y[-1])}"
        return f"{self.name}: " + ", ".join(f"{y:.4g} at {x:.4g}" for x, y in points)


def errors_of(name: str, colour: int, x: Sequence[float], errors: Sequence[Interval]) -> Curve:
    """Make the curve of some errors, in percent, with their intervals as its band."""
    mean, low, high = (100 * np.array([(e.mean, e.low, e.high) for e in errors])).T.tolist()
    return Curve(name, colour, x, mean, (low, high))


def plot(
    curves: Sequence[Curve],
    xlabel: str,
    *,
    limits: tuple[float, float | None] | None = None,
    log: str = "",
    height: float = 236,
    width: float = WIDTH,
    top: float = 10,
) -> tuple[Figure, Axes]:
    """Draw curves against one axis, each named at its end; ``log`` names the axes that are logarithmic."""
    figure, axes = panel(height, left=46, right=margin(curve.name for curve in curves), width=width, top=top)
    for curve in curves:
        colour = mark(curve.colour)
        if len(curve.band[0]):
            axes.fill_between(curve.x, *curve.band, color=colour, alpha=0.16, linewidth=0)
        for thin in curve.each:
            axes.plot(curve.x, thin, color=colour, linewidth=0.8, alpha=0.3)
        shape = marker(curve.colour) if curve.marked or len(curve.x) == 1 else None
        axes.plot(curve.x, curve.y, color=colour, linewidth=2, marker=shape, markersize=5)
    axes.locator_params(nbins=5)
    if "y" in log:
        _scale_logarithmically(axes, curves)
    if "x" in log:
        axes.set_xscale("log")
    if limits:
        axes.set_ylim(*limits)
    axes.set_xlabel(xlabel)
    axes.grid(visible=True, axis="y")
    label_ends(axes, [(curve.name, curve.colour, curve.y[-1]) for curve in curves])
    return figure, axes


def _scale_logarithmically(axes: Axes, curves: Sequence[Curve]) -> None:
    """Give the vertical axis a logarithmic scale with plain numbers, if no value is zero."""
    from matplotlib.ticker import LogLocator, NullFormatter

    values = [value for curve in curves for line in (curve.y, *curve.each) for value in line]
    if min(values) <= 0:
        return
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) < 100 * min(values) else (1,)))
    axes.yaxis.set_major_formatter(_tick)
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_severities(errors: Sequence[tuple[str, int, Key, Interval]]) -> list[Picture]:
    """Draw error against severity from (name, colour, key, error): a panel for each shift, one axis for each suite."""
    names = dict.fromkeys((name, colour) for name, colour, *_ in errors)
    mine = {name: {key: error for own, _, key, error in errors if own == name} for name, _ in names}
    suites = dict.fromkeys(key[0] for _, _, key, _ in errors)
    tops = {suite: max(e.high for _, _, key, e in errors if key[0] in ("clean", suite)) for suite in suites}
    pictures = []
    for position, place in enumerate(dict.fromkeys(key[:2] for _, _, key, _ in errors if key[2] != 0)):
        curves = []
        for name, colour in names:
            own = sorted((key for key in mine[name] if key[:2] == place), key=lambda key: key[2])
            if own and own[0][2] > 0:  # the curve begins at the clean images
                own = [key for key in mine[name] if key == ("clean", "clean", 0.0)] + own
            if own:
                curves.append(errors_of(name, colour, [key[2] for key in own], [mine[name][key] for key in own]))
        with style():
            figure, _ = plot(curves, UNITS.get(place[1], "severity"), limits=(0, 105 * tops[place[0]] or 1))
            told, aloud = "; ".join(curve.told for curve in curves), f"Error under {place[1]}, %"
            pictures.append(picture(figure, f"severity-{position}", place[1], "error, %", told, aloud=aloud))
    return pictures


def draw_differences(
    rows: Sequence[tuple[str, int, Interval]], name: str, title: str, note: str, zero: str, xlabel: str, told: str
) -> Picture:
    """Draw differences with their intervals as rows beside zero."""
    with style():
        figure, axes = panel(66 + 26 * len(rows), left=margin(row[0] for row in rows), right=16, top=24)
        axes.margins(x=0.08)
        axes.axvline(0, color=MUTED, linewidth=1)
        for row, (method, colour, found) in enumerate(rows):
            line = [found.low, found.high]
            axes.plot(line, [row, row], color=mark(colour), linewidth=3, alpha=0.5, solid_capstyle="round")
            axes.plot(found.mean, row, marker(colour), color=mark(colour), markersize=7)
            label(axes, method, colour, (0, row), (-8, 0), ("axes fraction", "data"))
        low, high = axes.get_xlim()
        axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=[], xlim=(min(low, -0.25 * high), max(high, -0.25 * low)))
        label(axes, zero, 0, (0, 1), (0, 8), ("data", "axes fraction"))
        axes.set_xlabel(xlabel)
        return picture(figure, name, title, note, told)


def draw_pairs(
    groups: Mapping[str, tuple[int, Sequence[tuple[int, float, float]]]], baseline: str, name: str, title: str
) -> Picture:
    """Draw (seed, baseline's error, own error) of each method as joined dots, a row for each seed."""
    rows = sum(len(own) for _, own in groups.values()) + 0.2 * (len(groups) - 1)
    ticks: list[tuple[float, str]] = []
    told, row = [], 0.0
    with style():
        figure, axes = panel(70 + 14 * rows, left=margin(groups) + 18, right=20, top=20)
        for method, (colour, own) in groups.items():
            begin = row
            for seed, base, ours in own:
                axes.plot([base, ours], [row, row], color=mark(colour), linewidth=1.5, alpha=0.6, zorder=1)
                axes.plot(base, row, "o", color=mark(0), markersize=5)
                axes.plot(ours, row, marker(colour), color=mark(colour), markersize=5.5)
                if row == 0:
                    label(axes, baseline, 0, (base, row), (0, 8), "data")
                told.append(f"{method} seed {seed}: {base:.2f} to {ours:.2f} %")
                ticks.append((row, str(seed)))
                row += 1
            label(axes, method, colour, (0, (begin + row - 1) / 2), (-22, 0), ("axes fraction", "data"))
            row += 0.2
        axes.set_yticks([at for at, _ in ticks], [seed for _, seed in ticks], fontsize=9)
        axes.set(ylim=(ticks[-1][0] + 0.8, -0.8), xlabel="error, %")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=True, axis="x")
        return picture(figure, name, title, "a row for each seed", "; ".join(told), aloud=f"Each seed's {title} error")
