"""Turn a matplotlib figure into SVG for one HTML page: coloured by its style sheet, same bytes each time."""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np

from resolute.report.comparison import headline
from resolute.report.numbers import brief, points, severity, signed_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from resolute.report.comparison import Entry, Summary
    from resolute.report.numbers import Run
    from resolute.report.tuning import Tuned


INK, MUTED, GRID = "#010101", "#020202", "#030303"
MARKS = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
"""Stand-ins for the style sheet's colours: the baseline's, then those of up to eight methods, over again after that."""
LABELS = ("#141414", "#151515", "#161616", "#171717", "#181818", "#191919", "#1a1a1a", "#1b1b1b", "#1c1c1c")
"""The same for text, which needs more contrast than a mark."""
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{colour: f"var(--mark{i})" for i, colour in enumerate(MARKS)},
    **{colour: f"var(--label{i})" for i, colour in enumerate(LABELS)},
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "resolute",
    "text.parse_math": False,
    "axes.xmargin": 0.03,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
}


def style() -> AbstractContextManager[None]:
    """Draw within this: the look of every figure, undone at its end.

    Returns:
        A context manager.
    """
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def render(figure: Figure, name: str, title: str, description: str) -> str:
    """Write a figure as an ``<svg>`` element to stand inside a page. Call it within `style`.

    Colours become the page's CSS variables, fonts the page's font, ids start with ``name``; matplotlib's metadata,
    style sheet and namespaces go.

    Args:
        figure: What to write.
        name: Unique in the page; letters, digits and hyphens.
        title: For screen readers, and the tooltip.
        description: What is to be seen, for screen readers.

    Returns:
        The element. All text in it is escaped.
    """
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
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(tag, id=f"{name}-{tag}")
        child.text = text
        root.insert(position, child)
    return ElementTree.tostring(root, encoding="unicode")


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
    new = {old: f"{name}-{number}" for number, old in enumerate(used)}
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
    return MARKS[_round(colour, len(MARKS))]


def label(colour: int) -> str:
    """Look up the colour of a method's name.

    Args:
        colour: The method's number; 0 is the baseline.

    Returns:
        As `mark`, with the contrast that text needs.
    """
    return LABELS[_round(colour, len(LABELS))]


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
    "jpeg": "100 less quality",
}
CURVES = {"loss": "Training loss", "train_error": "Training error", "validation_error": "Validation error"}


@dataclass(frozen=True)
class Picture:
    """One panel of the report.

    Attributes:
        title: What it shows, plain text.
        note: What its axis counts, plain text.
        svg: The drawing, an ``<svg>`` element.
    """

    title: str
    note: str
    svg: str


def colour_of(run: Run, method: str) -> int:
    """Number the methods for their colours and markers.

    Args:
        run: The run.
        method: Name of a method.

    Returns:
        0 for the baseline, then 1, 2, ... in the recipe's order.
    """
    others = [name for name in run.methods if name != run.baseline]
    return 0 if method == run.baseline else 1 + others.index(method)


def draw_headline(run: Run, summary: Summary) -> Picture | None:
    """Draw the verdict's figure: each method's difference to the baseline with its interval, beside zero.

    Args:
        run: The run.
        summary: Its summary.

    Returns:
        The picture, or None if no difference has an interval.
    """
    _, suite = headline(run)
    entries = [summary.table[method, suite] for method in run.methods]
    rows = [(e.method, e.comparison) for e in entries if e.comparison and e.comparison.seeds > 1]
    if not rows:
        return None
    with style():
        figure, axes = panel(66 + 26 * len(rows), left=margin(name for name, _ in rows), right=16, top=24, bottom=42)
        axes.margins(x=0.08)
        axes.axvline(0, color=MUTED, linewidth=1)
        for row, (method, comparison) in enumerate(rows):
            change, colour = comparison.paired.difference, colour_of(run, method)
            ends = [100 * change.low, 100 * change.high]
            axes.plot(ends, [row, row], color=mark(colour), linewidth=3, alpha=0.5, solid_capstyle="round")
            axes.plot(100 * change.mean, row, marker(colour), color=mark(colour), markersize=7)
            label_left(axes, row, method, colour)
        low, high = axes.get_xlim()
        axes.set(ylim=(len(rows) - 0.4, -0.6), yticks=[], xlim=(min(low, -0.25 * high), max(high, -0.25 * low)))
        label_above(axes, (0, 1), f"as {run.baseline}", "axes fraction")
        axes.set_xlabel("percentage points: fewer errors to the left")
        told = [f"{name} {points(c.paired.difference.mean)} ({signed_bounds(c.paired.difference)})" for name, c in rows]
        title = f"Difference to {run.baseline} in the {suite} error"
        return Picture(title, "mean, 95 % interval", render(figure, "headline", title, "; ".join(told)))


def draw_severities(run: Run, summary: Summary) -> list[Picture]:
    """Draw error against severity: a panel for each shift, the vertical axis shared within a suite.

    Args:
        run: The run.
        summary: Its summary.

    Returns:
        A picture for each shift that has a severity other than zero.
    """
    shifts = dict.fromkeys((suite, shift) for suite, shift, value in run.keys if value != 0)
    clean = [entry for entry in summary.details if entry.suite == "clean"]
    pictures = []
    for number, (suite, shift) in enumerate(shifts):
        shown = [entry for entry in summary.details if entry.suite == suite] + clean
        top = max(entry.error.high for entry in shown if not math.isnan(entry.error.high))
        pictures.append(_draw_severity(run, summary, (suite, shift), f"severity-{number}", top))
    return pictures


def _draw_severity(run: Run, summary: Summary, place: tuple[str, str], name: str, top: float) -> Picture:
    title, told = f"Error under {place[1]}", []
    with style():
        figure, axes = panel(236, left=36, right=margin(run.methods))
        ends = {}
        for method in run.methods:
            curve = _curve(summary, method, place)
            if not curve:
                continue
            x, colour = [entry.keys[0][2] for entry in curve], colour_of(run, method)
            mean, low, high = 100 * np.array([(e.error.mean, e.error.low, e.error.high) for e in curve]).T
            axes.fill_between(x, low, high, color=mark(colour), alpha=0.16, linewidth=0)
            line(axes, x, mean, colour)
            ends[method] = (x[-1], float(mean[-1]), colour)
            told += [f"{method}: " + ", ".join(f"{y:.2f} % at {severity(at)}" for at, y in zip(x, mean, strict=True))]
        axes.set(ylim=(0, 105 * top or 1), xlabel=UNITS.get(place[1], "severity"))
        axes.locator_params(nbins=5)
        axes.grid(visible=True, axis="y")
        label_ends(axes, ends)
        return Picture(place[1], "error, %", render(figure, name, title, "; ".join(told)))


def _curve(summary: Summary, method: str, place: tuple[str, str]) -> list[Entry]:
    """A method's errors by severity, from clean images on where the shift starts above zero."""
    mine = [entry for entry in summary.details if entry.method == method and entry.seeds]
    curve = sorted((e for e in mine if e.keys[0][:2] == place), key=lambda e: e.keys[0][2])
    clean = [e for e in mine if e.keys[0] == ("clean", "clean", 0.0)]
    return (clean if curve and curve[0].keys[0][2] > 0 else []) + curve


def draw_seeds(run: Run, summary: Summary) -> list[Picture]:
    """Draw each seed's error of baseline and method, joined: a panel for each suite.

    Args:
        run: The run.
        summary: Its summary.

    Returns:
        The pictures; none if no method can be paired.
    """
    others = [method for method in run.methods if method != run.baseline]
    pairs = [(m, s) for m in others for s in run.finished(m) if (run.baseline, s) in run.cells]
    return [_draw_pairs(run, summary, suite, pairs) for suite in run.suites] if pairs else []


def _draw_pairs(run: Run, summary: Summary, suite: str, pairs: list[tuple[str, int]]) -> Picture:
    keys, told = summary.table[run.baseline, suite].keys, []
    groups = list(dict.fromkeys(method for method, _ in pairs))
    rows = [row + 1.2 * groups.index(method) for row, (method, _) in enumerate(pairs)]
    with style():
        figure, axes = panel(70 + 14 * (rows[-1] + 1), left=margin(groups) + 18, right=20, top=20)
        for row, (method, seed) in zip(rows, pairs, strict=True):
            ours, base = (100 * float(run.wrong(m, (seed,), keys).mean()) for m in (method, run.baseline))
            colour = colour_of(run, method)
            axes.plot([base, ours], [row, row], color=mark(colour), linewidth=1.5, alpha=0.6, zorder=1)
            axes.plot(base, row, "o", color=mark(0), markersize=5)
            axes.plot(ours, row, marker(colour), color=mark(colour), markersize=5.5)
            told.append(f"{method} seed {seed}: {base:.2f} to {ours:.2f} %")
            if row == 0:
                label_above(axes, (base, row), run.baseline, "data")
        for method in groups:
            own = [row for row, (name, _) in zip(rows, pairs, strict=True) if name == method]
            label_left(axes, float(np.mean(own)), method, colour_of(run, method), offset=-22)
        axes.set_yticks(rows, [str(seed) for _, seed in pairs], fontsize=9)
        axes.set(ylim=(rows[-1] + 0.8, -0.8), xlabel="error, %")
        axes.locator_params(axis="x", nbins=5)
        axes.grid(visible=True, axis="x")
        name = f"seeds-{run.suites.index(suite)}"
        drawing = render(figure, name, f"Each seed's {suite} error", "; ".join(told))
        return Picture(suite, "a row for each seed", drawing)


def draw_curves(run: Run) -> list[Picture]:
    """Draw loss and errors against the epoch: thin lines the seeds, a thick line their mean.

    Args:
        run: The run.

    Returns:
        A picture for each curve that was logged.
    """
    pictures = [_draw_curve(run, curve) for curve in CURVES]
    return [picture for picture in pictures if picture]


def _draw_curve(run: Run, curve: str) -> Picture | None:
    scale, note = (1, "as each method minimises it") if curve == "loss" else (100, "error, %")
    drawn, ends, told = [], {}, []
    with style():
        figure, axes = panel(216, left=42, right=margin(run.methods))
        for method in run.methods:
            logged = [scale * run.cells[method, seed].curves[curve] for seed in run.finished(method)]
            lines = np.array([values for values in logged if len(values) == len(logged[0])])
            seen = np.flatnonzero(np.isfinite(lines).all(axis=0)) if lines.size else np.empty(0, dtype=int)
            if not seen.size:
                continue
            epochs, lines, colour = seen + 1, lines[:, seen], colour_of(run, method)
            axes.plot(epochs, lines.T, color=mark(colour), linewidth=0.8, alpha=0.3)
            alone = "o" if len(epochs) == 1 else None
            axes.plot(epochs, lines.mean(axis=0), color=mark(colour), linewidth=2, marker=alone)
            ends[method] = (float(epochs[-1]), float(lines[:, -1].mean()), colour)
            told.append(f"{method} ends at {lines[:, -1].mean():.3g}")
            drawn.append(lines)
        if not drawn:
            return None
        log_scale(axes, drawn)
        axes.set_xlabel("epoch")
        axes.locator_params(axis="x", integer=True, nbins=6)
        axes.grid(visible=True, axis="y")
        label_ends(axes, ends)
        title = CURVES[curve]
        return Picture(title, note, render(figure, f"curve-{curve.replace('_', '-')}", title, "; ".join(told)))


COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of Okabe and Ito (2008), told apart by colour-blind readers; after the last they come round again."""
GREY = "#666666"
_STYLE: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "resolute", "font.size": 10, "text.parse_math": False,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "xtick.color": GREY,
    "ytick.color": GREY, "axes.axisbelow": True,
}  # fmt: skip


def draw_tuned(tuned: Tuned, kind: str) -> bytes:
    """Draw the curve.

    Settings with p other than 0.5 are single open markers, as they lie on no line.

    Args:
        tuned: What tuning showed.
        kind: ``"png"`` or ``"svg"``.

    Returns:
        The file, the same bytes at each call.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.4, 3.9), dpi=72)
        axes = figure.add_axes((0.1, 0.14, 0.72, 0.74))
        places = list(dict.fromkeys(str(each.settings.where) for each in tuned.tried))
        ends = [_draw_place(axes, tuned, place, COLOURS[k % len(COLOURS)]) for k, place in enumerate(places)]
        _draw_base(axes, tuned)
        _scale(axes, tuned)
        base = (tuned.baseline, 100 * tuned.base.mean, GREY)
        _name_lines(axes, [*(end for end in ends if end), base])
        title = f"{tuned.method}: error against eps, {tuned.n:,} validation images"
        axes.set_title(title, loc="left", fontsize=11, pad=18)
        aside = "; open: p other than 0.5" if any(each.settings.p != 0.5 for each in tuned.tried) else ""
        note = f"mean and 95 % interval over seeds{aside}"
        axes.annotate(note, (0, 1), (0, 5), "axes fraction", "offset points", color=GREY, fontsize=9)
        axes.set_xlabel("eps", color="#333333")
        axes.set_ylabel("error, %", color="#333333")
        stream = io.BytesIO()
        undated: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
        figure.savefig(stream, format=kind, dpi=200, metadata=undated)
    return stream.getvalue()


def _draw_place(axes: Axes, tuned: Tuned, place: str, colour: str) -> tuple[str, float, str] | None:
    own = sorted((e for e in tuned.tried if e.settings.where == place), key=lambda e: e.settings.eps)
    curve, aside = [e for e in own if e.settings.p == 0.5], [e for e in own if e.settings.p != 0.5]
    for each in aside:
        axes.plot(each.settings.eps, 100 * each.error.mean, "o", mfc="white", color=colour, markersize=5, zorder=3)
    if not curve:
        return None
    x = [e.settings.eps for e in curve]
    low, high = [100 * max(0, e.error.low) for e in curve], [100 * min(1, e.error.high) for e in curve]
    axes.fill_between(x, low, high, color=colour, alpha=0.1, linewidth=0)
    axes.plot(x, low, x, high, color=colour, linewidth=0.8, alpha=0.6)
    axes.plot(x, [100 * e.error.mean for e in curve], "o-", color=colour, linewidth=2, markersize=5)
    return (place, 100 * curve[-1].error.mean, colour)


def _draw_base(axes: Axes, tuned: Tuned) -> None:
    axes.axhspan(100 * max(0, tuned.base.low), 100 * tuned.base.high, color=GREY, alpha=0.18, linewidth=0, zorder=0)
    axes.axhline(100 * tuned.base.mean, color=GREY, linewidth=1.2, linestyle="--", zorder=1)


def _scale(axes: Axes, tuned: Tuned) -> None:
    """Show every mean; bands may be cut off above, so that one bad setting does not flatten the rest."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    errors = [each.error for each in tuned.tried] + [tuned.base]
    low, mean, high = (100 * np.array([(e.low, e.mean, e.high) for e in errors])).T
    low, high = np.maximum(np.nan_to_num(low), 0), np.nan_to_num(high, nan=mean.max())
    span = max(mean.max() - low.min(), 0.1)
    axes.set_ylim(max(0.0, low.min() - 0.05 * span), min(high.max() + 0.05 * span, mean.max() + 1.2 * span))
    eps = sorted({each.settings.eps for each in tuned.tried if each.settings.p == 0.5})
    if eps and eps[0] > 0:
        axes.set_xscale("log")
        shown = [value for k, value in enumerate(eps) if k == 0 or value / eps[k - 1] > 1.15]
        axes.xaxis.set_major_locator(FixedLocator(shown))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(visible=True, axis="y", color="#e4e4e4")


def _name_lines(axes: Axes, ends: list[tuple[str, float, str]]) -> None:
    box = axes.get_window_extent()
    wanted = axes.transData.transform([(axes.get_xlim()[1], y) for _, y, _ in ends])[:, 1]
    for (name, _, colour), y in zip(ends, spread(wanted, LINE, box.y0, box.y1), strict=True):
        axes.annotate(
            name, (1, (y - box.y0) / box.height), (6, 0), xycoords="axes fraction", textcoords="offset points",
            va="center_baseline", color=colour, fontweight="bold",
        )  # fmt: skip
