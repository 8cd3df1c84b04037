"""What tuning showed: each setting beside the baseline on validation images, the best of them, and one sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resolute.report.numbers import WORDS, bounds, brief, count, percent, points, signed_bounds
from resolute.stats import compare_paired, error_interval, holm, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import RenderableType

    from resolute.methods import Settings
    from resolute.stats import Interval, Paired, Verdict


@dataclass(frozen=True, slots=True)
class Tried:
    """One setting that was tried.

    Attributes:
        name: The variant of the method, as in the records.
        settings: What it was trained with.
        seeds: Paired seeds.
        error: Mean error and its 95 % interval over seeds, or with one seed over images.
        paired: Against the baseline with the same seeds.
        finalist: Whether it was trained with every seed.
        p_holm: For finalists, ``paired.p`` after Holm over all settings that were tried; else NaN.
        verdict: For finalists, what that shows; of others nothing is claimed.
    """

    name: str
    settings: Settings
    seeds: int
    error: Interval
    paired: Paired
    finalist: bool
    p_holm: float
    verdict: Verdict


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
        s, change = chosen.settings, chosen.paired.difference
        spot = f"eps {s.eps:g}" + (f", p {s.p:g}" if self.method == "r" else "") + f" at {s.where}"
        span = f", 95 % interval {signed_bounds(change)}" if chosen.seeds > 1 else ""
        evidence = f"{points(change.mean)} points{span}, {count(chosen.seeds, 'paired seed')}"
        if self.best:
            return (
                f"{self.method} with {spot} lowers the validation error of {self.baseline} to "
                f"{percent(chosen.error.mean)} % ({evidence}, p = {chosen.p_holm:.2g} after Holm over "
                f"{count(len(self.tried), 'setting')}). It was chosen on these images: its gain here is too good."
            )
        return (
            f"No setting of {self.method} differs from {self.baseline} for the better; the lowest error came with "
            f"{spot} ({evidence})."
        )


def sum_up(
    method: str,
    wrong: Mapping[str, NDArray[np.bool_]],
    settings: Mapping[str, Settings],
    *,
    baseline: str = "base",
    stopped: str = "",
) -> Tuned:
    """Compare each setting with the baseline.

    Args:
        method: The method that was tuned.
        wrong: For the baseline and for each variant where it erred, bool [seeds, shifts, n]; variants have the
            baseline's first seeds, or all.
        settings: What each variant was trained with, in the order of the trials.
        baseline: Name of the baseline.
        stopped: Why no further setting was tried.

    Returns:
        Intervals, p values and the choice.
    """
    base = wrong[baseline]
    paired = {name: compare_paired(wrong[name], base[: len(wrong[name])]) for name in settings}
    finalists = [name for name in settings if len(wrong[name]) == len(base)]
    dropped = [1.0] * (len(settings) - len(finalists))  # those were looked at too, though with fewer seeds
    adjusted = dict(zip(finalists, holm([paired[name].p for name in finalists] + dropped).tolist(), strict=False))
    tried = tuple(
        Tried(
            name=name,
            settings=own,
            seeds=len(wrong[name]),
            error=_error(wrong[name]),
            paired=paired[name],
            finalist=name in adjusted,
            p_holm=float(adjusted.get(name, math.nan)),
            verdict=verdict(paired[name], float(adjusted.get(name, math.nan))),
        )
        for name, own in settings.items()
    )
    ranked = sorted(tried, key=lambda each: (not each.finalist, each.paired.difference.mean))
    best = next((each for each in ranked if each.verdict == "better"), None)
    n = base.shape[-1]
    return Tuned(method, baseline, _error(base), len(base), n, tried, best, ranked[0], stopped)


def _error(wrong: NDArray[np.bool_]) -> Interval:
    return error_interval(wrong.mean(axis=(1, 2)), wrong.shape[-1])


def console_tuned(tuned: Tuned) -> RenderableType:
    """Lay the settings out for a terminal: the curve as a table, a block for each place.

    Args:
        tuned: What tuning showed.

    Returns:
        A rich table.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in ("where", "eps", "p", "seeds", "error, %", "95 % interval", f"less {tuned.baseline}", "difference"):
        table.add_column(name, justify="left" if name in ("where", "95 % interval", "difference") else "right")
    base = ("", "", "", str(tuned.seeds), percent(tuned.base.mean), _span(tuned.base))
    table.add_row(tuned.baseline, *base[1:], "", "", end_section=True)
    places = list(dict.fromkeys(str(each.settings.where) for each in tuned.tried))
    for place in places:
        own = sorted(_at(tuned.tried, place), key=lambda each: (each.settings.eps, each.settings.p))
        for number, each in enumerate(own):
            s, last = each.settings, number == len(own) - 1
            word = WORDS.get(each.verdict, each.verdict) if each.finalist else "dropped"
            mark = " *" if each is tuned.best else ""
            cells = (f"{s.eps:g}", f"{s.p:g}", str(each.seeds), percent(each.error.mean) + mark, _span(each.error))
            change = points(each.paired.difference.mean)
            table.add_row(place if number == 0 else "", *cells, change, word, end_section=last)
    return table


def _at(tried: Sequence[Tried], place: str) -> list[Tried]:
    return [each for each in tried if each.settings.where == place]


def _span(interval: Interval) -> str:
    return f"({bounds(interval).replace(' to ', '-')})" if bounds(interval) else ""


def markdown_tuned(tuned: Tuned) -> str:
    """Write what was found as a page of Markdown.

    Args:
        tuned: What tuning showed.

    Returns:
        The page.
    """
    head = "| setting | seeds | error, % | interval | difference, points | p after Holm | verdict |"
    rows = [f"| {tuned.baseline} | {tuned.seeds} | {percent(tuned.base.mean)} | {bounds(tuned.base)} | | | |"]
    for each in sorted(tuned.tried, key=lambda each: (str(each.settings.where), each.settings.eps, each.settings.p)):
        change = each.paired.difference
        p = "" if math.isnan(each.p_holm) else f"{each.p_holm:.3f}"
        word = each.verdict if each.finalist else "dropped"
        moved = f"{points(change.mean)} ({signed_bounds(change)})" if each.seeds > 1 else points(change.mean)
        shown = (brief(each.name), each.seeds, percent(each.error.mean), bounds(each.error), moved, p, word)
        rows.append(f"| {' | '.join(map(str, shown))} |")
    return "\n".join([
        f"# Tuning of {tuned.method}", "", tuned.sentence, "",
        f"{count(tuned.n, 'validation image')}; {tuned.stopped}.", "", "![Error against eps](curve.svg)", "",
        head, "|---|--:|--:|---|---|--:|---|", *rows, "",
    ])  # fmt: skip
