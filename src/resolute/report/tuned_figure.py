"""The figure of tuning: error against eps, a line for each place, the baseline as a band."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.report.panel import LINE, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from resolute.report.tuned import Tuned

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
