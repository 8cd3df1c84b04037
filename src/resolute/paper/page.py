"""The ledger for a terminal and as a page of Markdown: the five tables, claimed beside measured."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from resolute.noise.strength import RATIO
from resolute.paper.ledger import FULL, OTHER, PUBLISHED, QUOTE, REDUCED, RUNS
from resolute.paper.rows import OPEN, QUOTED, TRAINED, WEIGHTS
from resolute.paper.sizes import SIZES
from resolute.paper.tables import CAPTIONS, DATA_NAMES, NOTES
from resolute.report.numbers import NONE, change, count, estimate, listing, number
from resolute.report.page import escape, markdown_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from resolute.config import Augment, Settings, TrainConfig
    from resolute.experiment.recipe import Recipe
    from resolute.paper.ledger import LedgerRow, Line, Measured
    from resolute.paper.tables import Row, Value
    from resolute.stats import Interval


MEASURED = {
    FULL: "the full recipe", REDUCED: "a reduced recipe", OTHER: "another recipe", PUBLISHED: "published weights",
}  # fmt: skip
"""States of a row that was measured, in words."""
HEADS = {
    "error": "error", "top-1": "top-1", "top-5": "top-5", "random crop": "crop", "random horizontal flip": "flip",
    "random greyscale": "grey", "random colour jitter": "colour", "random five-crop": "five",
}  # fmt: skip
"""Short names of what the rows measure, of six letters at most."""


def printed(value: Value) -> str:
    """Write a printed number with its ±, and what the source has where the print is wrong."""
    spread = "" if value.plus_minus is None else f" ± {number(value.plus_minus)}"
    true = "" if value.source_value is None else f" (misprint: {number(value.source_value)})"
    return number(value.value) + spread + true


def difference(value: Interval | None) -> str:
    """Write a difference with its bounds, or nothing."""
    return "" if value is None else estimate(value, change)


def _claimed(line: Line) -> str:
    return "" if line.claimed is None else change(line.claimed)


def tally(entries: Sequence[LedgerRow]) -> str:
    """Count the rows of each state."""
    counts = Counter(entry.state for entry in entries)
    measured = [f"{counts[state]} at {words}" for state, words in MEASURED.items() if counts[state]]
    parts = [f"{sum(counts[state] for state in MEASURED)} measured"]
    if measured:
        parts[0] += f" ({listing(measured)})"
    parts += [f"{counts[RUNS]} run and are not measured", f"{counts[QUOTE]} quoted"]
    return f"{count(len(entries), 'row')}: {listing(parts)}."


def training_words(recipe: Recipe, loss: str) -> str:
    """Say how a network is trained."""
    train = recipe.train
    optimizer = {"sgd": "Nesterov SGD" if train.nesterov else "SGD", "adam": "Adam", "rmsprop": "RMSProp"}
    parts = [
        f"`{recipe.model}`",
        f"{train.epochs} epochs of batch {train.batch_size:,}",
        f"{optimizer[train.optimizer]} at {train.lr:g}, {_schedule(train)}",
        f"weight decay {train.weight_decay:g}",
        _augmentation(train.augment),
        *([f"average of the weights {train.ema:g}"] if train.ema else []),
        *([f"gradients clipped at {train.clip_norm:g}"] if train.clip_norm else []),
        loss,
        *(["validation images held out"] if recipe.hold_out else []),
        *([f"R: {_strength(recipe.settings)} at {recipe.settings.where}"] if "r" in recipe.methods else []),
    ]
    return f"{'; '.join(parts)}."


def _strength(settings: Settings) -> str:
    return f"noise-to-signal {settings.ratio or RATIO:g}" if settings.eps == "auto" else f"eps {settings.eps:g}"


def _schedule(train: TrainConfig) -> str:
    falls = {
        "cosine": "cosine to 0",
        "linear": "linear to 0",
        "step": f"times {train.gamma:g} at epochs {', '.join(map(str, train.milestones))}",
        "exponential": f"times {train.gamma:g} each {train.decay_epochs:.3g} epochs, smoothly",
        "staircase": f"times {train.gamma:g} each {train.decay_epochs:.3g} epochs",
    }
    warm = f" after {train.warmup_epochs:g} of warm-up" if train.warmup_epochs else ""
    return falls[train.schedule] + warm


def _augmentation(augment: Augment | None) -> str:
    if augment is None:
        return "crops of 8 to 100 % and flips"
    parts = [
        f"shifts of {augment.shift}{' (reflected)' if augment.padding == 'reflect' else ''}" if augment.shift else "",
        "flips" if augment.flip else "",
        f"turns of {augment.rotation:g} degrees" if augment.rotation else "",
        f"erasing with probability {augment.erase:g}" if augment.erase else "",
    ]
    return ", ".join(filter(None, parts)) or "no augmentation"


LEGEND = """\
All numbers are in %, differences in points: method minus base, over the same seeds. n: number of seeds.
95 % intervals of values: Student's t over seeds; with one seed Wilson's over images.
Differences: paired by seed, for new seeds on these images, Holm-corrected for the whole ledger, as their intervals.
GPU hours are for all seeds, from multiply-adds at 50 Tflop/s: a lower bound. Smoke runs measure nothing and are not
shown. docs/tables.md names how each run departs from its row's recipe. To run a row:
resolute reproduce --table 4 --row R-LeNet --data-dir DIR"""

MEASURED_HEAD = "measured            seeds to base, measured\n  setting; state: verdict"
"""Above what `_measured` writes."""
STATE_COLOURS = {"better": "green", "worse": "red"}


def console_ledger(entries: Sequence[LedgerRow]) -> Iterator[RenderableType]:
    """Lay the ledger out."""
    for table, group in groupby(entries, key=lambda entry: entry.row.table):
        rows = list(group)
        quality = "accuracy" if rows[0].row.measures[0].higher_is_better else "error"
        yield f"[bold]Table {table}[/]  {CAPTIONS[table]}  [dim]{quality}, %[/]"
        yield _table(rows)
    yield _legend(entries)


def _table(entries: Sequence[LedgerRow]) -> RenderableType:
    from rich import box
    from rich.table import Table

    heads = _aligned([HEADS[line.value.what] for line in entries[0].lines])
    measured = any(line.measured for entry in entries for line in entry.lines)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("row", no_wrap=True)
    table.add_column(f"{heads}\nclaimed\nto base", justify="right", no_wrap=True)
    table.add_column(f"\n{MEASURED_HEAD}" if measured else "\nstate")
    for entry in entries:
        row, lines = entry.row, entry.lines
        name = row.name if row.data == "imagenet" else f"{row.name}  [dim]{DATA_NAMES[row.data]}[/]"
        claimed = _aligned([number(line.value.value) for line in lines])
        less = "" if row.method == "base" else f"\n{_aligned([_claimed(line) for line in lines])}"
        found = [_cell(line, one, named=len(lines) > 1) for line in lines for one in line.measured]
        table.add_row(name, claimed + less, "\n".join(found) or f"[dim]{entry.state}: {entry.why}[/]")
    return table


def _aligned(texts: list[str]) -> str:
    return " ".join(f"{text:>6}" for text in texts)


def _cell(line: Line, measured: Measured, *, named: bool) -> str:
    """Two lines: the numbers, then what they are worth."""
    what = f"{HEADS[line.value.what]:>6} " if named else ""
    numbers = (
        f"{what}{estimate(measured.value, number):<19} n {measured.seeds:<3}{difference(measured.difference)}".rstrip()
    )
    colour = STATE_COLOURS.get(measured.verdict.partition(",")[0], "default")
    state = f"{measured.state}{_departing(measured.departures)}"
    said = f"{state}: [{colour}]{measured.verdict}[/]" if measured.verdict else state
    return f"{numbers}\n  {'; '.join(filter(None, (measured.setting, said)))}"


def _departing(departures: tuple[str, ...]) -> str:
    """Name one departure from the recipe; the page of tables has more."""
    if not departures:
        return ""
    return f" ({departures[0]})" if len(departures) == 1 else f" ({len(departures)} departures)"


def _legend(entries: Sequence[LedgerRow]) -> str:
    return f"{tally(entries)}\n[dim]{LEGEND}[/]"


_HEAD = """\
# The paper's tables, claimed and measured

{tally}

This page is written by `resolute reproduce --write docs/tables.md` from the records in `experiments/results`; a test
holds it to that. `resolute reproduce` shows the same on a terminal.

```sh
resolute reproduce --table 4 --row R-LeNet --scale smoke         # everything runs, on a few images, in seconds
resolute reproduce --table 4 --row R-LeNet --data-dir data       # the row's recipe: R and base, 5 paired seeds
resolute reproduce --results runs/reproduce                      # what you measured, beside the paper
resolute compare 4-r-lenet --eps 0.3 --where both                # a row's recipe with other settings
resolute compare 4-r-lenet --methods base,r,gaussian --suites clean,disturbances,noise,fgsm  # and a control
```

How to read it:

- Numbers are in %, as each table prints them: accuracy in Tables 1 and 2, error in Tables 3 to 5. Differences are in
  percentage points: method minus base.
- Measured values have a 95 % interval (Student's t over n seeds; with one seed Wilson's over images). Differences are
  taken over the same seeds and tested by Student's t, Holm-corrected for the whole ledger. Each has the interval of the
  level at which it was tested: it excludes 0 where the difference is significant at 5 % and nowhere else
  ([statistics.md](statistics.md)). The records hold counts alone, so this covers new seeds on these test images, not
  new images.
- "Claim possible": the claimed difference lies in this interval. "Claim excluded": it does not.
- *Full recipe*: the row's recipe below, with its seeds. *Reduced recipe*: fewer epochs or seeds. *Another recipe*: as
  many epochs and seeds, with other settings. *Runs, not measured*: a smoke run works; the table says what a measurement
  needs. GPU hours are for all seeds, from multiply-adds at 50 Tflop/s, and so a lower bound. *Quoted*: not trained
  here.
- The paper's ± is kept as printed; the paper does not define it.
- Table 3 prints other figures of the CondenseNets of Table 1. One run of a row of Table 1 serves both tables.

What the paper leaves open for every row, and what we chose:

{open}
"""


_TEXT = ("row", "data", "state")
"""Columns of words; the others are numbers and stand to the right."""


def markdown(entries: Sequence[LedgerRow]) -> str:
    """Write the page."""
    left_open = "\n".join(f"- {text}" for text in OPEN.values())
    parts = [_HEAD.format(tally=tally(entries), open=left_open)]
    for table, group in groupby(entries, key=lambda entry: entry.row.table):
        parts += _section(table, list(group))
    return "\n".join([*parts, *_misprints(entries)])


def _section(table: int, entries: list[LedgerRow]) -> Iterator[str]:
    yield f"\n## Table {table}\n\n{escape(CAPTIONS[table])}\n"
    yield _rows(_values(entries))
    yield "\nDifference to base, in points:\n"
    yield _rows(_differences(entries))
    yield f"\nRecipes of Table {table}:\n"
    yield from _recipes(entries)


def _rows(rows: Iterator[list[str]]) -> str:
    """Lay out a table; the first row is its head."""
    return markdown_rows(rows, _TEXT).rstrip("\n")


def _values(entries: list[LedgerRow]) -> Iterator[list[str]]:
    sizes = [value.what for value in entries[0].row.values if value.unit == "count"]
    single = len(entries[0].lines) == 1
    whats = [line.value.what.removeprefix("random ") for line in entries[0].lines]
    columns = [f"{what} {side}" for what in whats for side in ("claimed", "measured")]
    counts = [f"{what} {side}" for what in sizes for side in ("claimed", "counted")]
    yield ["row", *(["data"] if single else []), *counts, *columns, "state"]
    for entry in entries:
        row = entry.row
        data = [DATA_NAMES[row.data]] if single else []
        cells = [cell for line in entry.lines for cell in (printed(line.value), _measured(line))]
        yield [escape(row.name), *data, *_counted(row), *cells, _state(entry)]


def _measured(line: Line) -> str:
    return "<br>".join(f"{estimate(found.value, number)}{_with(found)}" for found in line.measured) or NONE


def _with(found: Measured) -> str:
    setting = f", {escape(found.setting)}" if found.setting else ""
    return f", n = {found.seeds}{setting}"


def _state(entry: LedgerRow) -> str:
    return escape(f"{entry.state}: {entry.why}" if entry.why else entry.state)


def _counted(row: Row) -> list[str]:
    name = _network(row)
    size = SIZES.get(f"{name}-condensed", SIZES.get(name)) if name else None
    counted = {} if size is None else {"parameters": size.parameters, "multiply-adds": size.multiply_adds}
    return [
        cell
        for value in row.values
        if value.unit == "count"
        for cell in (_count(value), _short(counted[value.what]) if counted else NONE)
    ]


def _network(row: Row) -> str | None:
    if row.id in TRAINED:
        return TRAINED[row.id].recipe.model
    if row.id in WEIGHTS:
        return WEIGHTS[row.id].model
    return "shufflenet-v1-2x" if row.id == "3-shufflenet" else None


def _count(value: Value) -> str:
    if value.source_value is None:
        return _short(value.value)
    return f"{_short(value.value)} (misprint: {_short(value.source_value)})"


def _short(count: float) -> str:
    return f"{count / 1e6:,.1f}M" if count < 1e9 else f"{count / 1e9:,.1f}B"


def _differences(entries: list[LedgerRow]) -> Iterator[list[str]]:
    whats = [line.value.what.removeprefix("random ") for line in entries[0].lines]
    single = len(whats) == 1
    yield [
        "row",
        *(["data"] if single else []),
        *[f"{what} {side}" for what in whats for side in ("claimed", "measured")],
    ]
    for entry in entries:
        if entry.row.method != "base":
            data = [DATA_NAMES[entry.row.data]] if single else []
            cells = [cell for line in entry.lines for cell in (_claimed(line), _compared(line))]
            yield [escape(entry.row.name), *data, *cells]


def _compared(line: Line) -> str:
    found = [measured for measured in line.measured if measured.difference is not None]
    return "<br>".join(f"{difference(m.difference)}{_with(m)}: {m.verdict}" for m in found) or NONE


def _recipes(entries: list[LedgerRow]) -> Iterator[str]:
    """Describe each network's training once, for its base, FGSM and R rows."""
    for entry in entries:
        if entry.row.method == "base":
            own = [other.row for other in entries if other.row.base is entry.row]
            yield f"- **{escape(entry.row.network)}**, {DATA_NAMES[entry.row.data]}. {_how(entry.row, own)}"


def _how(row: Row, own: list[Row]) -> str:
    weights = WEIGHTS.get(row.id)
    evaluated = (
        f" `--row {row.id} --pretrained` evaluates published weights: {' '.join(weights.deviations)}" if weights else ""
    )
    if row.id in QUOTED:
        return f"Quoted: {QUOTED[row.id]}. From {escape(row.source.paper)}.{evaluated}"
    recipes = [TRAINED[other.id] for other in own]
    said = dict.fromkeys(text for recipe in recipes for text in recipe.deviations if text not in OPEN.values())
    trained = training_words(recipes[-1].recipe, recipes[-1].source.loss)
    names = ", ".join(f"`{recipe.row}`" for recipe in recipes)
    notes = escape(" ".join([f"Source: {recipes[-1].source.where}.", *said]))
    return f"{trained} {notes}{evaluated} Rows {names}."


def _misprints(entries: Sequence[LedgerRow]) -> Iterator[str]:
    yield "\n## Misprints and mismatches\n"
    yield "Evident misprints, and printed figures that differ from their source.\n"
    for table, notes in NOTES.items():
        yield f"- Table {table}: {escape(' '.join(notes))}"
    for entry in entries:
        if entry.row.notes:
            yield f"- Table {entry.row.table}, {escape(entry.row.name)}: {escape(' '.join(entry.row.notes))}"
    yield ""
