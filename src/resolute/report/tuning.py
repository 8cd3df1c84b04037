"""What tuning showed: each setting beside the baseline on validation images, the best of them, and one sentence."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.report import figures
from resolute.report.comparison import how_tested, would_tell
from resolute.report.figures import Curve, errors_of
from resolute.report.numbers import bounds, brief, confidence, count, estimate, p_value, percent, points
from resolute.report.page import SHORT_VERDICTS, Written, escape, markdown_rows, terminal_table
from resolute.run_folder import write_atomic
from resolute.stats import BOTH, Finding, compare_paired, error_interval, find

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import RenderableType

    from resolute.config import Settings
    from resolute.stats import Difference, Interval, Verdict


def strength_of(settings: Settings) -> float:
    """Give what a search varies: the ratio of eps auto, else eps."""
    return float(settings.eps if settings.ratio is None else settings.ratio)


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting that was tried."""

    name: str  # the variant of the method, as in the records
    settings: Settings  # what it was trained with
    eps: tuple[float, ...]  # of its networks, which follows from the ratio; none where that was not kept
    seeds: int  # paired seeds
    error: Interval  # mean error and its 95 % interval over seeds, or with one seed over images
    paired: Difference  # against the baseline with the same seeds
    finalist: bool  # whether it was trained with every seed
    found: (
        Finding | None
    )  # for finalists, what that shows of all settings that were tried; of others nothing is claimed
    here: Finding | None  # the same for new seeds on these validation images alone

    @property
    def eps_text(self) -> str:
        """The eps of its networks."""
        low, high = (f"{end(self.eps):.2g}" if self.eps else "" for end in (min, max))
        return low if low == high else f"{low}-{high}"

    @property
    def verdict(self) -> Verdict:
        """What it shows for new seeds and new images."""
        return self.found.verdict if self.found else "no difference seen"

    @property
    def word(self) -> str:
        """The verdict where there is little room."""
        return SHORT_VERDICTS.get(self.verdict, self.verdict) if self.finalist else "dropped"


@dataclass(frozen=True, slots=True)
class Tuned:
    """All that tuning says.

    Attributes:
        method: The method that was tuned.
        baseline: What it is compared with.
        base: The baseline's error.
        seeds: Seeds of a finalist.
        n: Validation images.
        tried: The settings, in the order of their trials.
        best: The finalist with the lowest error of those that are better than the baseline; None if none is.
        nearest: The finalist, else the setting, with the lowest difference.
        stopped: Why no further setting was tried.
    """

    method: str
    baseline: str
    base: Interval
    seeds: int
    n: int
    tried: tuple[Tried, ...]
    best: Tried | None
    nearest: Tried
    stopped: str

    @property
    def sentence(self) -> str:
        """What was found, in a sentence."""
        chosen = self.best or self.nearest
        s, found = chosen.settings, chosen.found
        strength = f"{self.varied} {strength_of(s):g}"
        strength += f" (eps {chosen.eps_text})" if self.varied == "ratio" and chosen.eps else ""
        spot = strength + (f", p {s.p:g}" if self.method == "r" else "") + f" at {_place(s)}"
        own = bounds(found.difference, points) if found else ""
        span = f", {confidence(found.level)} interval {own}" if found and own else ""
        evidence = f"{points(chosen.paired.mean)} points{span}, {count(chosen.seeds, 'paired seed')}"
        if self.best and found:
            return (
                f"{self.method} with {spot} lowers the validation error of {self.baseline} to "
                f"{percent(chosen.error.mean)} % ({evidence}; significant at 5 %: {p_value(found.p_holm, 'p')}, "
                f"Holm-corrected for {count(len(self.tried), 'setting')}). It was chosen on these images, so expect a "
                "smaller gain on others."
            )
        return (
            f"No setting of {self.method} is significantly better than {self.baseline}; the lowest error came with "
            f"{spot} ({evidence}).{self._apart(chosen)}"
        )

    def _apart(self, chosen: Tried) -> str:
        """Tell these validation images from new ones."""
        found, here = chosen.found, chosen.here
        if not (found and here and chosen.paired.mean < 0) or math.isnan(found.p):  # no gain, or one seed
            return ""
        needed = would_tell(chosen.paired, found.level, BOTH)
        enough = f"about {needed} would do" if needed else "no number of images or seeds alone would do"
        if here.verdict == "better":
            return (
                f" On these {count(self.n, 'validation image')} it is better ({p_value(here.p_holm, 'p')}); for new "
                f"images they are too few to tell: {enough}."
            )
        return f" To see a difference of this size, {enough}."

    @property
    def varied(self) -> str:
        """What the search went over."""
        return "eps" if self.nearest.settings.ratio is None else "ratio"

    @property
    def places(self) -> dict[str, list[Tried]]:
        """The settings by place and form, in the order of strength and p."""
        groups: dict[str, list[Tried]] = {_place(each.settings): [] for each in self.tried}
        for each in sorted(self.tried, key=lambda each: (strength_of(each.settings), each.settings.p)):
            groups[_place(each.settings)].append(each)
        return groups


def _place(settings: Settings) -> str:
    """Name the place of the noise, and its form and schedule where they are not the usual ones."""
    grain = f", {settings.grain} signs" if settings.grain != "element" else ""
    share = f", share {settings.share:g}" if settings.share != 1 else ""
    schedule = f", {settings.eps_schedule}" if settings.eps_schedule != "constant" else ""
    return f"{settings.where}{grain}{', random strength' if settings.spread == 'random' else ''}{share}{schedule}"


def sum_up(
    method: str,
    wrong: Mapping[str, NDArray[np.bool_]],
    settings: Mapping[str, Settings],
    eps: Mapping[str, tuple[float, ...]] | None = None,
    *,
    baseline: str = "base",
    stopped: str = "",
) -> Tuned:
    """Compare each setting with the baseline."""
    base = wrong[baseline]
    paired = {name: compare_paired(wrong[name], base[: len(wrong[name])]) for name in settings}
    finalists = [name for name in settings if len(wrong[name]) == len(base)]
    dropped = len(settings) - len(finalists)  # those were looked at too, though with fewer seeds
    differences = [paired[name] for name in finalists]
    found, here = (dict(zip(finalists, find(differences, over, more=dropped), strict=True)) for over in (BOTH, "seeds"))
    tried = tuple(
        Tried(
            name=name,
            settings=own,
            eps=(eps or {}).get(name, ()),
            seeds=len(wrong[name]),
            error=_error(wrong[name]),
            paired=paired[name],
            finalist=name in found,
            found=found.get(name),
            here=here.get(name),
        )
        for name, own in settings.items()
    )
    ranked = sorted(tried, key=lambda each: (not each.finalist, each.paired.mean))
    best = next((each for each in ranked if each.verdict == "better"), None)
    n = base.shape[-1]
    return Tuned(method, baseline, _error(base), len(base), n, tried, best, ranked[0], stopped)


def _error(wrong: NDArray[np.bool_]) -> Interval:
    return error_interval(wrong.mean(axis=(1, 2)), wrong.shape[-1])


def console_tuned(tuned: Tuned) -> Iterator[RenderableType]:
    """Lay the settings out for a terminal: the curve as a table, a block for each place; then what was found."""
    by_ratio = ("ratio",) * (tuned.varied == "ratio")
    sides = ("left", *("right",) * (len(by_ratio) + 4), "left", "right", "left")
    names = (
        "where",
        *by_ratio,
        "eps",
        "p",
        "seeds",
        "error, %",
        "95 % interval",
        f"to {tuned.baseline}, points",
        "verdict",
    )
    table = terminal_table(dict(zip(names, sides, strict=True)))
    base = (
        tuned.baseline,
        *("",) * (len(by_ratio) + 2),
        str(tuned.seeds),
        percent(tuned.base.mean),
        bounds(tuned.base),
    )
    table.add_row(*base, "", "", end_section=True)
    for place, own in tuned.places.items():
        for each in own:
            s, mark = each.settings, " *" if each is tuned.best else ""
            strength = (f"{s.ratio:g}", each.eps_text) if by_ratio else (f"{s.eps:g}",)
            cells = (*strength, f"{s.p:g}", str(each.seeds), percent(each.error.mean) + mark, bounds(each.error))
            change = points(each.paired.mean)
            table.add_row(place if each is own[0] else "", *cells, change, each.word, end_section=each is own[-1])
    yield table
    yield tuned.sentence
    yield f"{tuned.stopped}."


def write_tuning(folder: Path, tuned: Tuned) -> Written[Tuned]:
    """Write ``curve.svg``, ``curve.png`` and ``tuned.md``."""
    for kind in ("svg", "png"):
        write_atomic(folder / f"curve.{kind}", draw_tuned(tuned, kind))
    write_atomic(folder / "tuned.md", markdown_tuned(tuned))
    return Written(folder / "tuned.md", tuned)


def markdown_tuned(tuned: Tuned) -> str:
    """Write what was found as a page of Markdown."""
    by_ratio = tuned.varied == "ratio"
    head = [
        "setting",
        *["eps"] * by_ratio,
        "seeds",
        "error, %",
        "interval",
        "difference, points",
        "p, Holm-corrected",
        "verdict",
    ]
    base = [
        escape(tuned.baseline),
        *[""] * by_ratio,
        str(tuned.seeds),
        percent(tuned.base.mean),
        bounds(tuned.base),
        "",
        "",
        "",
    ]
    rows = [head, base]
    for each in (each for _, own in sorted(tuned.places.items()) for each in own):
        own = each.found
        moved = estimate(own.difference, points) if own else points(each.paired.mean)
        p = p_value(own.p_holm) if own else ""
        apart = f" (on these images: {each.here.verdict})" if each.here and each.here.verdict != each.verdict else ""
        word = each.verdict + apart if own else "dropped"
        name, mean = escape(brief(each.name)), percent(each.error.mean)
        rows.append([name, *[each.eps_text] * by_ratio, str(each.seeds), mean, bounds(each.error), moved, p, word])
    table = markdown_rows(rows, ("setting", "interval", "difference, points", "verdict"))
    images = f"{count(tuned.n, 'validation image')}; {tuned.stopped}."
    title = f"# Tuning of {tuned.method}\n\n{tuned.sentence}\n\n{images}\n\n![Error against {tuned.varied}](curve.svg)"
    cover = how_tested("new seeds and new images", [each.found for each in tuned.tried if each.found])
    return f"{title}\n\n{table}\n{cover}\n"


def draw_tuned(tuned: Tuned, kind: str) -> bytes:
    """Draw error against ratio or eps: a line for each place, the baseline across."""
    # Settings with p other than 0.5 are single open markers, as they lie on no line.
    lines = {place: [each for each in own if each.settings.p == 0.5] for place, own in tuned.places.items()}
    aside = [each for each in tuned.tried if each.settings.p != 0.5]
    colours = {place: at for at, place in enumerate(tuned.places, start=1)}
    eps = sorted({strength_of(each.settings) for each in tuned.tried})
    ends = [eps[0], eps[-1]]
    curves = [replace(errors_of(tuned.baseline, 0, ends, [tuned.base] * 2), marked=False)] + [
        errors_of(place, colours[place], [strength_of(each.settings) for each in own], [each.error for each in own])
        for place, own in lines.items()
        if own
    ]
    log = "x" if eps[0] > 0 else ""
    with figures.style():
        figure, axes = figures.plot(
            curves, tuned.varied, limits=_limits(curves), log=log, height=300, width=520, top=44
        )
        for each in aside:
            colour = figures.mark(colours[_place(each.settings)])
            axes.plot(
                strength_of(each.settings),
                100 * each.error.mean,
                "o",
                mfc="white",
                color=colour,
                markersize=5,
                zorder=3,
            )
        if log:
            _mark_strengths(axes, sorted({strength_of(each.settings) for own in lines.values() for each in own}))
        axes.set_title(f"{tuned.method}: error against {tuned.varied}, %", loc="left", fontsize=11, pad=20)
        note = f"{count(tuned.n, 'validation image')}; mean and 95 % interval over seeds"
        note += "; open: p other than 0.5" if aside else ""
        axes.annotate(note, (0, 1), (0, 6), "axes fraction", "offset points", color=figures.MUTED, fontsize=9)
        stream = io.BytesIO()
        undated: dict[str, Any] = {"png": {"Software": None}, "svg": {"Date": None}}[kind]
        figure.savefig(stream, format=kind, dpi=200, metadata=undated)
    return stream.getvalue()


def _limits(curves: list[Curve]) -> tuple[float, float]:
    """Show every mean; bands may be cut off above, so that one bad setting does not flatten the rest."""
    means = np.concatenate([curve.y for curve in curves])
    low, high = (np.concatenate([np.nan_to_num(curve.band[at], nan=means.max()) for curve in curves]) for at in (0, 1))
    bottom = max(0.0, min(low.min(), means.min()))
    span = max(means.max() - bottom, 0.1)
    return max(0.0, bottom - 0.05 * span), min(max(high.max(), means.max()) + 0.05 * span, means.max() + 1.2 * span)


def _mark_strengths(axes: Any, eps: list[float]) -> None:
    """Name the strengths that were tried on a logarithmic axis, as far as there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    shown = [value for at, value in enumerate(eps) if at == 0 or value / eps[at - 1] > 1.15]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
