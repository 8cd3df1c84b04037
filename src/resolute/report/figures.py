"""The report's pictures, one narrow SVG each, so that a phone shows them one below the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from resolute.report import svg
from resolute.report.formats import points, severity, signed_bounds
from resolute.report.panel import label_above, label_ends, label_left, line, log_scale, margin, mark, marker, panel
from resolute.report.wording import headline

if TYPE_CHECKING:
    from resolute.report.run import Run
    from resolute.report.summary import Entry, Summary

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
    with svg.style():
        figure, axes = panel(66 + 26 * len(rows), left=margin(name for name, _ in rows), right=16, top=24, bottom=42)
        axes.margins(x=0.08)
        axes.axvline(0, color=svg.MUTED, linewidth=1)
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
        return Picture(title, "mean, 95 % interval", svg.render(figure, "headline", title, "; ".join(told)))


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
    with svg.style():
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
        return Picture(place[1], "error, %", svg.render(figure, name, title, "; ".join(told)))


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
    with svg.style():
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
        drawing = svg.render(figure, name, f"Each seed's {suite} error", "; ".join(told))
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
    with svg.style():
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
        return Picture(title, note, svg.render(figure, f"curve-{curve.replace('_', '-')}", title, "; ".join(told)))
