"""What a comparison shows: errors with intervals, paired differences, costs, and the sentences about them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from resolute.report.numbers import bounds, confidence, count, listing, number, percent, points
from resolute.report.run import COUNTS_ALONE, eps_text
from resolute.stats import BOTH, Interval, compare_paired, compare_seeds, error_interval, find, median_interval

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolute.report.run import Place, Run
    from resolute.run_folder import Key
    from resolute.stats import Difference, Finding, Over, Verdict

    Table = Mapping[tuple[str, str], "Entry"]


NOT_SEEN: Verdict = "no difference seen"
LEVEL = 0.95
"""Confidence of the intervals of errors and of step times."""


@dataclass(frozen=True)
class Comparison:
    """One method against the baseline, on the seeds that both have finished."""

    error: float  # mean error of the method over the paired seeds
    baseline: float  # mean error of the baseline over the same seeds
    seeds: int
    paired: Difference
    found: Finding  # for new seeds and new images, together with all comparisons of its table
    here: Finding  # the same for new seeds on these very images; without the answers image by image both are this

    @property
    def verdict(self) -> Verdict:
        """Whether it is better for new seeds and new images."""
        return self.found.verdict

    @property
    def apart(self) -> bool:
        """Whether these very images tell what new images do not."""
        return self.here.verdict != self.verdict

    @property
    def word(self) -> str:
        """The verdict, and that for these images where it differs."""
        return f"{self.verdict} (on these images: {self.here.verdict})" if self.apart else self.verdict

    @property
    def needed(self) -> str:
        """How many images or seeds would show a difference of this size with 80 % power, in words."""
        if self.seeds == 1 or self.verdict != NOT_SEEN:
            return ""
        over = BOTH if self.paired.images else "seeds"
        return would_tell(self.paired, self.found.level, over)


@dataclass(frozen=True)
class Entry:
    """One method in one column of a table."""

    method: str
    suite: str
    keys: tuple[Key, ...]  # the shifts and severities that the error is the mean over: all of a suite, or one
    seeds: int
    error: Interval  # mean error and interval
    comparison: Comparison | None  # against the baseline; None for the baseline itself and where no seed is paired
    best: bool = False  # whether the error is the lowest of its column and differs from every other method's


@dataclass(frozen=True)
class Cost:
    """What a method's training costs."""

    step_ms: float  # median time of a step of the baseline, in milliseconds; NaN for others and if not measured
    ratio: Interval  # median of its step time over the baseline's beside it; NaN if not measured, or in doubt
    passes: float  # forward and backward passes of a batch in a step
    doubt: str = ""  # why no ratio is given although steps were timed

    @property
    def steady(self) -> bool:
        """Whether there is no spread to show."""
        return math.isnan(self.ratio.mean) or self.ratio.low == self.ratio.high


@dataclass(frozen=True)
class Summary:
    """All that the report says in numbers and words.

    Attributes:
        run: What it was computed from.
        sentence: The answer.
        lines: What else is significant, and what to do next; a sentence each.
        table: One entry for each ``(method, suite)``; its p values are adjusted together.
        details: One entry for each method and severity; these p values are adjusted together too.
        costs: One for each method.
        limits: What this does not show, a sentence or two each.
    """

    run: Run
    sentence: str
    lines: tuple[str, ...]
    table: Mapping[tuple[str, str], Entry]
    details: tuple[Entry, ...]
    costs: Mapping[str, Cost]
    limits: tuple[str, ...]

    @property
    def missing(self) -> tuple[Place, ...]:
        """The cells that have no records."""
        return self.run.missing


def summarise(run: Run) -> Summary:
    """Compute everything that the report shows; the error of a suite is the mean over its shifts and severities."""
    suites = {suite: tuple(key for key in run.keys if key[0] == suite) for suite in run.suites}
    best = _best(run, suites)
    entries = [replace(entry, best=(entry.method, entry.suite) in best) for entry in _entries(run, suites.values())]
    table = {(entry.method, entry.suite): entry for entry in entries}
    costs = {method: _cost(run, method) for method in run.methods}
    details = _entries(run, [(key,) for key in run.keys])
    sentence, *lines = advise(_shown(run, table, costs))
    return Summary(run, sentence, tuple(lines), table, details, costs, limits(run, table, costs))


def _entries(run: Run, columns: Iterable[tuple[Key, ...]]) -> tuple[Entry, ...]:
    grid = [(method, keys) for keys in columns for method in run.methods]
    pairs = [_pair(run, method, run.baseline, keys) if method != run.baseline else None for method, keys in grid]
    found, here = (find(pairs, over) for over in (_widest(run), "seeds"))
    rows = zip(grid, pairs, found, here, strict=True)
    return tuple(
        Entry(method, keys[0][0], keys, len(run.finished(method)), _error(run, method, keys),
              _comparison(run, method, keys, pair, own, on_these) if pair and own and on_these else None)
        for (method, keys), pair, own, on_these in rows
    )  # fmt: skip


def _widest(run: Run) -> Over:
    """Give what can be told of: new seeds and images, without the answers image by image new seeds alone."""
    return BOTH if run.has_answers else "seeds"


def _comparison(
    run: Run, method: str, keys: tuple[Key, ...], paired: Difference, found: Finding, here: Finding
) -> Comparison:
    seeds = _shared(run, method, run.baseline)
    ours, theirs = (float(run.errors(name, seeds, keys).mean()) for name in (method, run.baseline))
    return Comparison(ours, theirs, len(seeds), paired, found, here)


def _error(run: Run, method: str, keys: tuple[Key, ...]) -> Interval:
    seeds = run.finished(method)
    return error_interval(run.errors(method, seeds, keys), run.n, LEVEL) if seeds else UNKNOWN


def _shared(run: Run, a: str, b: str) -> tuple[int, ...]:
    return tuple(seed for seed in run.finished(a) if (b, seed) in run.cells)


def _pair(run: Run, a: str, b: str, keys: tuple[Key, ...]) -> Difference | None:
    seeds = _shared(run, a, b)
    if not seeds:
        return None
    if run.has_answers:
        return compare_paired(run.wrong(a, seeds, keys), run.wrong(b, seeds, keys))
    return compare_seeds(run.errors(a, seeds, keys) - run.errors(b, seeds, keys))


def _best(run: Run, suites: Mapping[str, tuple[Key, ...]]) -> set[tuple[str, str]]:
    duels = [(suite, a, b) for suite in suites for a, b in combinations(run.methods, 2)]
    pairs = [_pair(run, a, b, suites[suite]) for suite, a, b in duels]
    wins: dict[tuple[str, str], int] = {}
    for (suite, a, b), found in zip(duels, find(pairs, _widest(run)), strict=True):
        word = found.verdict if found else NOT_SEEN
        if word != NOT_SEEN:
            place = (a if word == "better" else b, suite)
            wins[place] = wins.get(place, 0) + 1
    return {place for place, won in wins.items() if won == len(run.methods) - 1}


def _cost(run: Run, method: str) -> Cost:
    passes = _median([run.cells[method, seed].passes for seed in run.finished(method)])
    steps = run.steps.get(method)
    if not run.finished(method) or (steps is None and method != run.baseline):
        return Cost(np.nan, UNKNOWN, passes)
    if steps is None or method == run.baseline:
        ms = _median([each for steps in run.steps.values() for each in steps.ms])
        return Cost(ms, UNKNOWN if math.isnan(ms) else Interval(1, 1, 1), passes)
    ratio, doubt = median_interval(steps.ratios, LEVEL), ""
    if steps.load > BUSY * steps.cores:
        doubt = f"{number(steps.load)} processes wanted {steps.cores:g} cores while its steps were timed"
    elif not ratio.high <= WIDE * ratio.low:
        span = bounds(ratio, number) or "unknown"
        doubt = f"the 95 % interval of its step time over that of {run.baseline} is {span}"
    return Cost(np.nan, UNKNOWN if doubt else ratio, passes, doubt)


UNKNOWN = Interval(np.nan, np.nan, np.nan)
WIDE = 1.2
"""Upper over lower bound of a ratio of step times above which it is no figure to give."""
BUSY = 1.5
"""Load average for each core above which other work must have been running."""


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else np.nan


ATTACK_TITLES = {"fgsm": "FGSM", "pgd": "PGD", "autoattack": "AutoAttack", "square": "black-box attacks"}
BENCHMARKS = {"disturbances": "everyday disturbances (crops, flips, colour)", "corruptions": "the corruption benchmark"}
CONTROLS = ("gaussian", "additive", "dropout")


def _plain(method: str) -> str:
    """A variant's method: ``r`` of ``r@eps=0.3``."""
    return method.partition("@")[0]


def would_tell(paired: Difference, level: float, over: Over) -> str:
    """Say how many images or seeds would show a difference of this size with 80 % power."""
    images = paired.needed("images", level, over) if over != "seeds" else None
    seeds = paired.needed("seeds", level, over) if over != "images" else None
    parts = [count(images, "image")] if images else []
    parts += [count(seeds, "seed")] if seeds else []
    return " or ".join(parts)


PLACES = {
    "clean": "on clean images", "disturbances": "on disturbed images", "corruptions": "on corrupted images",
    "noise": "under Gaussian noise", "fgsm": "under FGSM", "pgd": "under PGD", "autoattack": "under AutoAttack",
}  # fmt: skip
ATTACKS = {"fgsm", "pgd", "attacks", "autoattack"}
HELPS, AGAINST_ATTACKS, HARMS, NOTHING = range(4)


@dataclass(frozen=True)
class Shown:
    """What an answer is drawn from."""

    table: Table
    costs: Mapping[str, Cost]
    baseline: str = "base"
    new_images: bool = True  # whether verdicts hold for new images too, or for these alone
    names: Mapping[str, str] = field(default_factory=dict)  # by method: with its strength, where its name lacks it
    diverged: Mapping[str, str] = field(default_factory=dict)  # by method: "2 of 5 seeds"
    falling: tuple[float, float, int] | None = None  # as `still_falling` says it


def leading(suites: Iterable[str]) -> str:
    """Choose the suite that an answer speaks of first: disturbed images, or what comes nearest to them."""
    order = {suite: at for at, suite in enumerate(("disturbances", "corruptions", "everyday", "noise"))}
    last = {"clean": 2, "top5": 3, **dict.fromkeys(ATTACKS, 1)}
    return min(suites, key=lambda suite: (last.get(suite, 0), order.get(suite, 9)))


def advise(shown: Shown) -> tuple[str, ...]:
    """Say which method to use for clean and disturbed images, then what else is significant, then what to do next."""
    methods, rows = list(dict.fromkeys(method for method, _ in shown.table)), dict[str, dict[str, Comparison]]()
    for (method, suite), entry in shown.table.items():
        if entry.comparison:
            rows.setdefault(method, {})[suite] = entry.comparison
    if not rows:
        return (_alone(shown, methods),)
    first = leading(suite for _, suite in shown.table)
    ranks = {method: _rank(own, first) for method, own in rows.items()}
    best, *others = sorted(ranks, key=lambda method: ranks[method])
    kind, several, name = ranks[best][0], len(methods) > 2, shown.names.get(best, best)
    lead = (
        f"Use {name}",
        f"Use {name} against attacks only",
        f"No method helps without harm; nearest comes {name}" if several else f"{name} helps, but not without harm",
        f"None of these methods helped; nearest came {name}" if several else f"{name} did not help",
    )[kind]
    if all(own[first].seeds == 1 for own in rows.values()):
        lead = f"One seed cannot tell whether {name} helps"
    text = f"{lead}: {_body(shown, best, rows[best], first, kind)}"
    cheaper = (m for m in others if shown.costs[m].ratio.high < shown.costs[best].ratio.low)
    if rival := next((m for m in cheaper if ranks[m][:2] == ranks[best][:2] == (HELPS, False)), None):
        text += f"; {shown.names.get(rival, rival)} costs less, {number(shown.costs[rival].ratio.mean)} times, with "
        text += _clause(shown, first, rows[rival][first], HELPS)
    also = [f"{shown.names.get(m, m)} is {told}" for m in others if (told := ", ".join(_differs(shown, rows[m])))]
    lines = [f"Also significant: {'; '.join(also)}."] if also else []
    return (f"{text}.", *lines, *_next(shown, best, rows[best], first, kind))


def _rank(own: Mapping[str, Comparison], first: str) -> tuple[int, bool, bool, float]:
    """Sort what helps before what helps against attacks alone, what harms too, and what does nothing."""
    better = {suite for suite, each in own.items() if each.verdict == "better"}
    harm = any(each.verdict == "worse" for suite, each in own.items() if suite in (first, "clean", "corruptions"))
    helps = HELPS if better - ATTACKS or first in ATTACKS else AGAINST_ATTACKS
    kind = NOTHING if not better else HARMS if harm else helps
    return kind, first not in better, own[first].seeds == 1, own[first].found.difference.mean


def _clause(shown: Shown, suite: str, own: Comparison, kind: int) -> str:
    mean, told = own.found.difference.mean, "not significant"
    if own.verdict != NOT_SEEN or own.seeds == 1:
        many = f"{points(abs(mean)).lstrip('+')} points {'more' if mean > 0 else 'fewer'} errors"
        told = "one seed" if own.seeds == 1 else f"significant{'' if shown.new_images else ' on these images'}"
    elif own.apart:
        many, told = own.here.verdict, "significant on these images, not for new ones"
    else:
        many = "no better" if kind == NOTHING else "perhaps worse" if mean > 0 else "no worse"
    return f"{many} {_place(suite)} ({percent(own.baseline)} to {percent(own.error)} %, {told})"


def _place(suite: str) -> str:
    return PLACES.get(suite, f"on {suite}")


def _body(shown: Shown, method: str, own: Mapping[str, Comparison], first: str, kind: int) -> str:
    """Tell of a method where it helps most and on clean images, what it costs, and of all else where it differs."""
    better = [suite for suite, each in own.items() if each.verdict == "better"]
    start = first if first in better or not better else leading(better)
    told = list(dict.fromkeys(suite for suite in (start, first, "clean") if suite in own))
    parts = [_clause(shown, suite, own[suite], kind) for suite in told]
    rest = _differs(shown, {suite: each for suite, each in own.items() if suite not in told})
    parts += [f"also {words}" for words in rest if words.startswith("better")]
    ratio, plain = shown.costs[method].ratio.mean, "plain training" if shown.baseline == "base" else shown.baseline
    if kind != NOTHING and not math.isnan(ratio):
        parts.append(f"{number(ratio)} times the step time of {plain}")
    parts += [f"but {words}" for words in rest if words.startswith("worse")]
    parts += [f"but training diverged with {shown.diverged[method]}"] if method in shown.diverged else []
    return ", ".join(parts)


def _differs(shown: Shown, own: Mapping[str, Comparison]) -> list[str]:
    """Name every suite with a significant difference, be it for these images alone."""
    places: dict[str, list[str]] = {}
    for suite, each in own.items():
        only = " for these images, not for new ones," if each.apart else "" if shown.new_images else " for these images"
        places.setdefault(f"{each.here.verdict}{only}", []).append(_place(suite))
    return [f"{word} {listing(where)}" for word, where in places.items() if NOT_SEEN not in word]


def _next(shown: Shown, best: str, own: Mapping[str, Comparison], first: str, kind: int) -> list[str]:
    found, plain = [], _plain(best)
    if own[first].seeds == 1:
        found.append("Next: train several seeds (--seeds 5); one says nothing about others.")
    if shown.falling:
        before, after, epochs = shown.falling
        found.append(
            f"Next: train longer (--epochs {2 * epochs}); the validation error of {shown.baseline} was still falling "
            f"at the end, from {percent(before)} to {percent(after)} %."
        )
    if suite := next((suite for suite in (first, "clean") if suite in own and own[suite].needed), None):
        change = points(own[suite].found.difference.mean)
        found.append(
            f"Next: a new run with {own[suite].needed} would show a difference of this size {_place(suite)} ({change} "
            "points) with 80 % power."
        )
    tune = f"tune the strength of {plain} on validation images (resolute tune --method {plain})"
    ways = [tune] if plain in ("r", *CONTROLS) else []
    ways += ["try other methods (resolute list methods)"] if kind == NOTHING else []
    return [*found, *([f"Next: {', or '.join(ways)}."] if ways else [])][:2]


def still_falling(run: Run) -> tuple[float, float, int] | None:
    """Give base's validation error in the last two quarters and its epochs, if it fell: by 5 % and beyond scatter."""
    logged = [run.cells[run.baseline, seed].curves["validation_error"] for seed in run.finished(run.baseline)]
    rows = [values[np.isfinite(values)] for values in logged]
    if not rows or min(map(len, rows)) < 6 or len({*map(len, rows)}) > 1:
        return None
    mean, last = np.mean(rows, axis=0), max(3, len(rows[0]) // 4)
    parts = mean[-2 * last : -last], mean[-last:]
    before, after = (float(part.mean()) for part in parts)
    scatter = math.sqrt(sum(float(part.var(ddof=1)) for part in parts) / last)
    return (before, after, len(logged[0])) if before - after > max(0.05 * before, 2 * scatter) else None


def _shown(run: Run, table: Table, costs: Mapping[str, Cost]) -> Shown:
    eps = {method: eps_text(run, method) for method in run.methods if "@eps" not in method}
    lost = {method: sum(each == method for each, _ in run.diverged) for method in run.methods}
    names = {method: f"{method} at eps {own}" for method, own in eps.items() if own}
    diverged = {method: f"{many} of {count(len(run.seeds), 'seed')}" for method, many in lost.items() if many}
    return Shown(table, costs, run.baseline, run.has_answers, names, diverged, still_falling(run))


def _alone(shown: Shown, methods: list[str]) -> str:
    done = next(method for (method, _), entry in shown.table.items() if entry.seeds)
    errors = {suite: entry.error.mean for (method, suite), entry in shown.table.items() if method == done}
    told = listing([f"{percent(error)} % errors {_place(suite)}" for suite, error in errors.items()])
    reason = f"no seed is finished with both {shown.baseline} and another method"
    return f"{done} has {told}; {reason if len(methods) > 1 else 'there is nothing to compare it with'}."


def limits(run: Run, table: Table, costs: Mapping[str, Cost]) -> tuple[str, ...]:
    """List what the run does not show, from what was and was not run."""
    data, model = run.recipe.get("data", "one data set"), run.recipe.get("model", "one network")
    absent = [title for key, title in BENCHMARKS.items() if key not in run.suites]
    found = [
        _unfinished(run),
        "" if run.has_answers else COUNTS_ALONE,
        f"One data set ({data}, {count(run.n, 'image')} of its {run.recipe.get('split', 'test')} split) and one "
        f"network ({model}): other data and other networks may give other results.",
        _intervals(run),
        '"No difference seen" does not mean that there is none: the interval says how large it may be.'
        if any(own.comparison and own.comparison.seeds > 1 for own in table.values())
        else "",
        _attacks(run),
        f"Not run: {listing(absent)}." if absent else "",
        _controls(run),
        "All methods were trained with the same hyper-parameters. A method with its own might do better.",
        _step_times(run, costs),
    ]
    return tuple(text for text in found if text)


def _unfinished(run: Run) -> str:
    if not run.missing:
        return ""
    cells, lost = count(len(run.missing) + len(run.cells), "cell"), run.diverged
    missing = [cell for cell in run.missing if cell not in lost]
    texts = [f"The run is not finished: {len(missing)} of {cells} are missing ({_named(missing)})."] if missing else []
    means = "they are left out of all means. A lower learning rate may help."
    return " ".join(
        [*texts, *([f"Training diverged in {len(lost)} of {cells} ({_named(lost)}); {means}"] if lost else [])]
    )


def _named(cells: Iterable[Place]) -> str:
    return listing([f"{method} seed {seed}" for method, seed in cells])


def _intervals(run: Run) -> str:
    finished = {method: len(run.finished(method)) for method in run.methods if run.finished(method)}
    single = [method for method, seeds in finished.items() if seeds == 1]
    if len(single) == len(finished):
        return (
            "One seed each: the intervals (Wilson) cover new images, not new seeds, so no difference is tested. "
            "Differences between seeds are often as large as those between methods."
        )
    over = f"Student's t over {max(finished.values())} seeds"
    alone = f" {listing(single)}: one seed only, so its interval (Wilson) covers new images." if single else ""
    return f"The intervals of errors ({over}) cover new seeds on the same images, not new images.{alone}"


def covered(run: Run) -> str:
    """Say what the verdicts of a comparison cover."""
    return "new seeds and new images" if run.has_answers else "new seeds on these images, not new images"


def how_tested(cover: str, found: Iterable[Finding]) -> str:
    """Say under a table where its intervals, p values and verdicts come from, and what they cover."""
    levels = sorted(each.level for each in found)
    if not levels:
        return ""
    span = " to ".join(dict.fromkeys(confidence(level) for level in (levels[0], levels[-1])))
    return (
        f"Interval, p and verdict of a difference come from one model and cover {cover}. p is Holm-corrected for the "
        f"{count(len(levels), 'comparison')} of the table, and each interval is at the level at which it was tested "
        f"({span}), so that it excludes 0 where p is at most 0.05 and nowhere else."
    )


def _attacks(run: Run) -> str:
    names = {name.lower() for suite, shift, _ in run.keys for name in (suite, shift)}
    ran = [title for key, title in ATTACK_TITLES.items() if key in names]
    absent = [title for key, title in ATTACK_TITLES.items() if key not in names]
    if "autoattack" in names or not absent:
        return ""
    start = f"Of attacks only {listing(ran)} was run" if ran else "No attack was run"
    if ran == ["FGSM"]:
        start += ", one step along the gradient; stronger attacks often find what it misses"
    return f"{start}. Not run: {listing(absent)}. This is no proof of adversarial robustness."


def _step_times(run: Run, costs: Mapping[str, Cost]) -> str:
    if not run.steps:
        return "No cost is given: no steps were timed side by side."
    doubts = "".join(f" No cost is given for {name}: {cost.doubt}." for name, cost in costs.items() if cost.doubt)
    return (
        f"A step of each method was timed beside one of {run.baseline}, in turn, on one batch of this machine, without "
        f"reading and augmentation.{doubts} Other networks, batch sizes and devices give other ratios."
    )


def _controls(run: Run) -> str:
    plain = {_plain(method) for method in run.methods}
    told = f"No control of equal power ({', '.join(CONTROLS)}) was trained: any noise of the same strength might have "
    return "" if "r" not in plain or plain.intersection(CONTROLS) else f"{told}the same effect as r."
