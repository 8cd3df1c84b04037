"""The ledger: every row of the paper's tables, what it claims and what was measured. Pure, but for reading records."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from resolute import paper
from resolute.recipes import QUOTED, TRAINED
from resolute.report.formats import count
from resolute.reproduction.departures import departures, fits, setting_words
from resolute.reproduction.results import WEIGHTS as PRETRAINED
from resolute.reproduction.wording import judge, needs
from resolute.stats import Interval, error_interval, holm, paired_t, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from resolute.paper import Row, Value
    from resolute.records import Key
    from resolute.reproduction.results import Pool

CLEAN: Key = ("clean", "clean", 0.0)
KEYS: dict[str, Key] = {
    "error": CLEAN,
    "top-1": CLEAN,
    "top-5": ("top5", "top5", 0.0),
    "random crop": ("disturbances", "random-crop", 1 / 8),
    "random horizontal flip": ("disturbances", "random-horizontal-flip", 0.5),
    "random greyscale": ("disturbances", "random-greyscale", 0.1),
    "random colour jitter": ("disturbances", "random-colour-jitter", 0.4),
    "random five-crop": ("disturbances", "random-five-crop", 1 / 8),
}
"""The shift that each printed measure is compared with: disturbances at their customary severity
(docs/disturbances.md)."""
FULL, REDUCED, OTHER, JUDGED = "full recipe", "reduced recipe", "another recipe", "published weights"
RUNS, QUOTE = "runs, not measured", "quoted"


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of one printed number, with one setting of the method.

    Attributes:
        value: In the printed unit, %, with its 95 % interval: Student's t over seeds, with one seed Wilson over images.
        seeds: Number of seeds.
        images: Number of test images.
        setting: ``"eps 0.3 at both"``, ``"radius 0.1"``; "" where the method has none.
        departures: In what the training departs from the row's recipe, in words.
        state: `FULL`, `REDUCED`, `OTHER` or `JUDGED`.
        difference: To base with the same seeds, in percentage points of the printed measure, with its 95 % interval;
            None for base rows and where base was not run.
        pairs: Number of seeds that method and base share.
        p: Of the paired t test over seeds; NaN where there is no difference to test, or one pair.
        p_holm: ``p`` after Holm over all differences of the ledger.
        verdict: What that says of the claim, in words; "" where there is nothing to say.
    """

    value: Interval
    seeds: int
    images: int
    setting: str
    departures: tuple[str, ...]
    state: str
    difference: Interval | None
    pairs: int
    p: float
    p_holm: float = math.nan
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One printed number of a row.

    Attributes:
        value: The number.
        claimed: Its difference to the base row of the table, in percentage points; None for base rows.
        measured: What was measured of it: first with the recipe's own setting, or what comes nearest.
    """

    value: Value
    claimed: float | None
    measured: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger.

    Attributes:
        row: The row.
        state: `FULL`, `REDUCED`, `OTHER`, `JUDGED`, `RUNS` or `QUOTE`.
        why: What a row that was not measured needs, why one is quoted, or how a measured one departs from its recipe.
        lines: Its printed measures of quality.
    """

    row: Row
    state: str
    why: str
    lines: tuple[Line, ...]


def ledger(pools: Sequence[Pool]) -> list[Entry]:
    """Put claims and measurements side by side.

    Args:
        pools: As `results.read_pools` gives them.

    Returns:
        One entry for each of the 42 rows, in the order of print.
    """
    return _adjusted([_entry(row, pools) for row in paper.ROWS.values()])


def _entry(row: Row, pools: Sequence[Pool]) -> Entry:
    lines = tuple(_line(row, value, pools) for value in row.measures)
    first = next((line.measured[0] for line in lines if line.measured), None)
    if first is not None:
        return Entry(row, first.state, "; ".join(first.departures), lines)
    if row.id in TRAINED:
        return Entry(row, RUNS, needs(row), lines)
    return Entry(row, QUOTE, QUOTED[row.id], lines)


def _line(row: Row, value: Value, pools: Sequence[Pool]) -> Line:
    claimed = None if row.method == "base" else round(value.value - _same(row.base, value).value, 4)
    key = KEYS[value.what]
    found = [_measure(row, value, pool, key) for pool in _ordered(row, pools, key)]
    return Line(value, claimed, tuple(found))


def _same(row: Row, value: Value) -> Value:
    return next(other for other in row.values if other.what == value.what)


def _ordered(row: Row, pools: Iterable[Pool], key: Key) -> list[Pool]:
    """Take the pools that measured a row, those nearest to its recipe first."""
    fitting = [pool for pool in pools if fits(row, pool) and pool.errors(key)]
    return sorted(fitting, key=lambda pool: (len(departures(row, pool, key)), -len(pool.errors(key))))


def _measure(row: Row, value: Value, pool: Pool, key: Key) -> Measured:
    errors = pool.errors(key)
    departs = departures(row, pool, key)
    difference, p, pairs = _difference(pool, key)
    return Measured(
        value=_in_metric(error_interval(list(errors.values()), pool.images(key)), value),
        seeds=len(errors),
        images=pool.images(key),
        setting=setting_words(pool),
        departures=departs,
        state=_state(row, pool, len(errors), departs),
        difference=None if difference is None else _points(difference, value),
        pairs=pairs,
        p=p,
    )


def _state(row: Row, pool: Pool, seeds: int, departs: tuple[str, ...]) -> str:
    if pool.method == PRETRAINED:
        return JUDGED
    recipe = TRAINED[row.id].recipe
    short = pool.training["train.epochs"] < recipe.train.epochs or seeds < len(recipe.seeds)
    return REDUCED if short else OTHER if departs else FULL


def _difference(pool: Pool, key: Key) -> tuple[Interval | None, float, int]:
    base = {} if pool.base is None else pool.base.errors(key)
    own = pool.errors(key)
    shared = [seed for seed in own if seed in base]
    if not shared:
        return None, math.nan, 0
    difference, p = paired_t([own[seed] - base[seed] for seed in shared])
    return difference, p if len(shared) > 1 else math.nan, len(shared)


def _in_metric(error: Interval, value: Value) -> Interval:
    if value.higher_is_better:
        error = Interval(1 - error.mean, 1 - error.high, 1 - error.low)
    return Interval(100 * error.mean, 100 * error.low, 100 * error.high)


def _points(difference: Interval, value: Value) -> Interval:
    if value.higher_is_better:
        difference = Interval(-difference.mean, -difference.high, -difference.low)
    return Interval(100 * difference.mean, 100 * difference.low, 100 * difference.high)


def _adjusted(entries: list[Entry]) -> list[Entry]:
    """Adjust all p values together and put the verdicts into words."""
    tested = [m for entry in entries for line in entry.lines for m in line.measured]
    adjusted = iter(holm([measured.p for measured in tested]).tolist()) if tested else iter(())

    def words(line: Line) -> Line:
        return replace(line, measured=tuple(_judged(line, measured, next(adjusted)) for measured in line.measured))

    return [replace(entry, lines=tuple(words(line) for line in entry.lines)) for entry in entries]


def _judged(line: Line, measured: Measured, p: float) -> Measured:
    if measured.difference is None or line.claimed is None:
        return replace(measured, p_holm=p)
    sign = -1 if line.value.higher_is_better else 1
    found = verdict(sign * measured.difference.mean, p)
    words = judge(sign * line.claimed, found, line.claimed, measured.difference)
    shared = f" (over {count(measured.pairs, 'seed')} of base)" if measured.pairs < measured.seeds else ""
    return replace(measured, p_holm=p, verdict=words + shared)
