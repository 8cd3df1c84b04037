"""The ledger: every row of the tables, what it claims, what was measured, and what the measurement says."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from resolute import methods
from resolute.config import Settings
from resolute.data import customs
from resolute.errors import InputError
from resolute.experiment.recipe import completed, to_json
from resolute.methods import settings_of
from resolute.paper import tables
from resolute.paper.rows import QUOTED, TRAINED, WEIGHTS
from resolute.paper.sizes import SIZES
from resolute.paper.tables import DATA_NAMES
from resolute.report.numbers import count, fraction
from resolute.run_folder import read_json, read_records
from resolute.stats import Interval, compare_seeds, error_interval, find

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from resolute.experiment.recipe import Recipe
    from resolute.paper.tables import Row, Value
    from resolute.run_folder import Key, Record
    from resolute.stats import Difference, Finding, Verdict


PRETRAINED = "weights"
"""Name of the method in the records of published weights."""
_ELSEWHERE = {"name", "data_dir", "methods", "baseline", "seeds", "settings", "suites", "data_info", "command"}
"""Fields of a stored recipe that do not say how base was trained."""
_HARDWARE = {"device", "devices", "tensorboard"}


@dataclass(frozen=True, slots=True)
class Pool:
    """One method, trained in one way with some seeds.

    Attributes:
        training: How: the fields of a recipe that matter, nested ones as ``train.epochs``; defaults filled in.
        method: Name of the method, without what a variant's name says of its settings.
        setting: What of `Settings` the method depends on: eps, p and where of ``r``, radius of ``fgsm``.
        counts: By seed, by (suite, shift, severity): the record.
        asked: The seeds that its runs were to have; those without records diverged or are not finished.
        base: The pool of base of the same training; None for base itself, and where it was not run.
    """

    training: Mapping[str, Any]
    method: str
    setting: Mapping[str, Any]
    counts: Mapping[int, Mapping[Key, Record]]
    asked: frozenset[int]
    base: Pool | None = None

    def errors(self, key: Key) -> dict[int, float]:
        """Give the error under a shift by seed."""
        return {seed: row[key].error for seed, row in sorted(self.counts.items()) if key in row}

    def images(self, key: Key) -> int:
        """Count the test images of a shift."""
        return max((row[key].n for row in self.counts.values() if key in row), default=0)


def results_folder(asked: Path | None = None) -> Path:
    """Say where the runs are that the ledger reads."""
    package, here = Path(str(resources.files("resolute"))), Path("experiments/results")
    known = (here, package / "results", package.parents[1] / here)
    found = asked or next((path for path in known if path.is_dir()), None)
    if found is None:
        raise InputError("there is no folder experiments/results here. Name a folder that holds runs: --results.")
    return found


def read_pools(folder: Path) -> list[Pool]:
    """Read every run below a folder."""
    # A run is a folder with ``recipe.json`` and ``records.jsonl``. Runs on the validation images and smoke runs are
    # left out. Seeds of one training may lie in several folders.
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}. Give one that holds runs: --results.")
    found: dict[str, Pool] = {}
    for run in sorted(path.parent for path in folder.rglob("recipe.json") if (path.parent / "records.jsonl").exists()):
        for key, pool in _read_run(run):
            found[key] = pool if key not in found else _joined(found[key], pool)
    bases = {_key(pool.training): pool for pool in found.values() if pool.method == "base"}
    return [
        pool if pool.method == "base" else dataclasses.replace(pool, base=bases.get(_key(pool.training)))
        for pool in found.values()
    ]


def _joined(first: Pool, second: Pool) -> Pool:
    """Put two runs of one training together; of what both measured the first counts."""
    seeds = dict.fromkeys((*first.counts, *second.counts))
    counts = {seed: {**second.counts.get(seed, {}), **first.counts.get(seed, {})} for seed in seeds}
    return dataclasses.replace(first, counts=counts, asked=first.asked | second.asked)


def _read_run(run: Path) -> Iterator[tuple[str, Pool]]:
    stored = read_json(run / "recipe.json")
    try:
        training, settings = _training(stored), Settings(**stored["settings"])
        asked, is_measurement = frozenset(stored["seeds"]), _is_measurement(stored)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{run / 'recipe.json'} is not a recipe of `resolute compare` ({error!r}).") from error
    if not is_measurement:
        return
    rows = read_records(run / "records.jsonl")
    for method in dict.fromkeys(row.method for row in rows):
        name = method.partition("@")[0]
        setting = _setting(name, dataclasses.asdict(settings_of(method, settings)))
        counts: dict[int, dict[Key, Record]] = {}
        for row in rows:
            if row.method == method:
                counts.setdefault(row.seed, {})[row.key] = row
        yield f"{name} {_key(setting)} {_key(training)}", Pool(training, name, setting, counts, asked)


def _is_measurement(stored: dict[str, Any]) -> bool:
    return stored.get("split", "test") == "test" and "smoke-digits" not in stored["data"]


def _training(stored: dict[str, Any]) -> dict[str, Any]:
    whole = {name: value for name, value in completed(stored).items() if name not in _ELSEWHERE}
    train = whole.pop("train")
    augment = train.pop("augment") or {}  # None is what follows the data set
    flat = whole | {f"train.{name}": value for name, value in train.items() if name not in _HARDWARE}
    return flat | {f"augment.{name}": value for name, value in augment.items()}


def training_of(recipe: Recipe) -> dict[str, Any]:
    """Give a recipe's training in the form of `Pool.training`."""
    return _training(to_json(recipe))


def _setting(method: str, settings: dict[str, Any]) -> dict[str, Any]:
    names = {
        "base": (),
        PRETRAINED: (),
        "fgsm": ("radius",),
        "pgd": ("radius",),
        "r": ("eps", "p", "where", "ratio", "grain", "spread", "share", "eps_schedule"),
    }
    return {name: settings[name] for name in names.get(method, tuple(settings)) if name != "ratio" or settings[name]}


def _key(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, sort_keys=True)


COPIES = {"cifar10-jpeg": "cifar10"}
"""Folders that hold a data set in another form, by their names."""


def fits(row: Row, pool: Pool) -> bool:
    """Tell whether a pool measured a row: its method, its network and its data, in whatever copy."""
    if pool.method == PRETRAINED:
        weights = WEIGHTS.get(row.id)
        return row.method == "base" and weights is not None and weights.model == pool.training["model"]
    if row.id not in TRAINED or pool.method != row.method or pool.training["train_fraction"] < 1:
        return False
    recipe, data = TRAINED[row.id].recipe, _folder(pool.training["data"])
    same_network = _plain_form(pool.training["model"]) == _plain_form(recipe.model)
    return same_network and COPIES.get(data, data) == recipe.data


def departures(row: Row, pool: Pool, key: Key) -> tuple[str, ...]:
    """Say in what a measurement departs from the row's recipe."""
    if pool.method == PRETRAINED:
        return WEIGHTS[row.id].deviations
    recipe = TRAINED[row.id].recipe.resolved(*customs(row.data))
    ours, theirs = training_of(recipe), {**pool.training, **pool.setting}
    ours |= {name: getattr(recipe.settings, name) for name in pool.setting}
    said = [
        f"{_plain(name)} {_shown(name, theirs[name])} instead of {_shown(name, ours[name])}"
        for name in theirs
        if name in ours and theirs[name] != ours[name]
    ]
    if (seeds := len(pool.errors(key))) < len(recipe.seeds):
        said.append(f"{seeds} of {len(recipe.seeds)} seeds")
    if lost := len(pool.asked - pool.counts.keys()):
        said.append(f"{count(lost, 'more seed')} asked for and without a result")
    return tuple(said)


def setting_words(pool: Pool) -> str:
    """Say how strong the method was and where."""
    setting = pool.setting
    if "eps" in setting:
        p = "" if setting["p"] == 0.5 else f", p {setting['p']:g}"
        eps = f"noise-to-signal {setting['ratio']:g}" if "ratio" in setting else f"eps {setting['eps']:g}"
        forms = "".join(f", {_plain(name)} {form}" for name, form in Settings(**setting).unusual.items())
        return f"{eps} at {setting['where']}{p}{forms}"
    return f"radius {fraction(setting['radius'])}" if "radius" in setting else ""


def _folder(data: str) -> str:
    return PurePath(data).name


def _plain_form(model: str) -> str:
    """Name a network without its rate of dropout, and without what Caffe's form of LeNet leaves out."""
    return model.partition("-drop")[0].removesuffix("-caffe")


def _plain(name: str) -> str:
    return name.removeprefix("train.").replace("augment.", "augmentation's ").replace("_", " ")


def _shown(name: str, value: Any) -> str:
    if name == "data":
        return _folder(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{item:g}" for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


TRAINING_IMAGES = {
    "mnist": 60_000, "svhn": 604_388, "cifar10": 50_000, "cifar100": 50_000, "imagenet": 1_281_167,
}  # fmt: skip
SUSTAINED = 50e12
"""Floating-point operations a second that a GPU is taken to sustain in training, generously."""
ROUNDING = 0.01
"""In points: a claimed difference is that of two numbers of two decimals, each half a hundredth off at most."""
OPERATIONS = 2 * 3
"""For each multiply-add of a forward pass: two operations, and twice as many again in backward."""


def needs(row: Row) -> str:
    """Say what it takes to measure a row at its full recipe."""
    recipe = TRAINED[row.id].recipe
    size = SIZES[recipe.model.partition("-drop")[0]]
    passes = sum(methods.find_method(method).passes for method in recipe.methods)
    operations = OPERATIONS * size.multiply_adds * TRAINING_IMAGES[row.data] * recipe.train.epochs * passes
    hours = operations * len(recipe.seeds) / SUSTAINED / 3600
    rounded = round(hours, -2) if hours > 950 else round(hours)
    return f"needs {DATA_NAMES[row.data]}, {count(int(rounded), 'GPU hour') if rounded else 'minutes of a GPU'}"


def compare_claim(claim: float, found: Verdict, claimed: float, measured: Interval, seeds: int) -> str:
    """Say what a measured difference to base means for the claimed one."""
    wanted = "better" if claim < 0 else "worse" if claim > 0 else "the same"
    if math.isnan(measured.low):  # equal differences bound nothing
        return "no difference seen" if seeds > 1 else "one seed, not tested"
    within = measured.low - ROUNDING <= claimed <= measured.high + ROUNDING
    if found == "no difference seen":
        return f"{found}, claim {'possible' if within else 'excluded'}"
    if found == wanted:
        return f"{found}, as claimed" if within else f"{found}, by {_beside(claimed, measured)}"
    return f"{found}, where {wanted} is claimed"


def _beside(claimed: float, measured: Interval) -> str:
    return "more than claimed" if abs(measured.mean) > abs(claimed) else "less than claimed"


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
FULL, REDUCED, OTHER, PUBLISHED = "full recipe", "reduced recipe", "another recipe", "published weights"
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
        state: `FULL`, `REDUCED`, `OTHER` or `PUBLISHED`.
        difference: To base with the same seeds, in percentage points of the printed measure, with its interval, which
            excludes 0 where ``p_holm`` is at most 0.05; None for base rows and where base was not run.
        pairs: Number of seeds that method and base share.
        paired: The same difference as a share, to be tested for new seeds on these images.
        p_holm: Its p after Holm over all differences of the ledger; NaN where there is none to test, or one pair.
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
    paired: Difference | None
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
class LedgerRow:
    """One row of the ledger.

    Attributes:
        row: The row.
        state: `FULL`, `REDUCED`, `OTHER`, `PUBLISHED`, `RUNS` or `QUOTE`.
        why: What a row that was not measured needs, why one is quoted, or how a measured one departs from its recipe.
        lines: Its printed measures of quality.
    """

    row: Row
    state: str
    why: str
    lines: tuple[Line, ...]


def ledger(pools: Sequence[Pool]) -> list[LedgerRow]:
    """Put claims and measurements side by side."""
    return _adjusted([_entry(row, pools) for row in tables.ROWS.values()])


def _entry(row: Row, pools: Sequence[Pool]) -> LedgerRow:
    lines = tuple(_line(row, value, pools) for value in row.measures)
    first = next((line.measured[0] for line in lines if line.measured), None)
    if first is not None:
        return LedgerRow(row, first.state, "; ".join(first.departures), lines)
    if row.id in TRAINED:
        return LedgerRow(row, RUNS, needs(row), lines)
    return LedgerRow(row, QUOTE, QUOTED[row.id], lines)


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
    paired = _paired(pool, key)
    return Measured(
        value=_in_metric(error_interval(list(errors.values()), pool.images(key)), value),
        seeds=len(errors),
        images=pool.images(key),
        setting=setting_words(pool),
        departures=departs,
        state=_state(row, pool, len(errors), departs),
        difference=None,
        pairs=0 if paired is None else paired.seeds,
        paired=paired,
    )


def _state(row: Row, pool: Pool, seeds: int, departs: tuple[str, ...]) -> str:
    if pool.method == PRETRAINED:
        return PUBLISHED
    recipe = TRAINED[row.id].recipe
    short = pool.training["train.epochs"] < recipe.train.epochs or seeds < len(recipe.seeds)
    return REDUCED if short else OTHER if departs else FULL


def _paired(pool: Pool, key: Key) -> Difference | None:
    base = {} if pool.base is None else pool.base.errors(key)
    own = pool.errors(key)
    shared = [seed for seed in own if seed in base]
    return compare_seeds([own[seed] - base[seed] for seed in shared]) if shared else None


def _in_metric(error: Interval, value: Value) -> Interval:
    if value.higher_is_better:
        error = Interval(1 - error.mean, 1 - error.high, 1 - error.low)
    return Interval(100 * error.mean, 100 * error.low, 100 * error.high)


def _points(difference: Interval, value: Value) -> Interval:
    if value.higher_is_better:
        difference = Interval(-difference.mean, -difference.high, -difference.low)
    return Interval(100 * difference.mean, 100 * difference.low, 100 * difference.high)


def _adjusted(entries: list[LedgerRow]) -> list[LedgerRow]:
    """Decide on all differences together and put the verdicts into words."""
    tested = [m.paired for entry in entries for line in entry.lines for m in line.measured]
    found = iter(find(tested, "seeds"))

    def words(line: Line) -> Line:
        return replace(line, measured=tuple(_with_verdict(line, measured, next(found)) for measured in line.measured))

    return [replace(entry, lines=tuple(words(line) for line in entry.lines)) for entry in entries]


def _with_verdict(line: Line, measured: Measured, found: Finding | None) -> Measured:
    if found is None:
        return measured
    difference = _points(found.difference, line.value)
    told = replace(measured, difference=difference, p_holm=found.p_holm)
    if line.claimed is None:
        return told
    sign = -1 if line.value.higher_is_better else 1
    words = compare_claim(sign * line.claimed, found.verdict, line.claimed, difference, measured.pairs)
    shared = f" (over {count(measured.pairs, 'seed')} of base)" if measured.pairs < measured.seeds else ""
    return replace(told, verdict=words + shared)
