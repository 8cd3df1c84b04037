"""The ledger as a page of Markdown: the five tables as in the paper, claimed beside measured."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from resolute.models.facts import SIZES
from resolute.paper import CAPTIONS, DATA_NAMES, NOTES
from resolute.recipes import OPEN, QUOTED, TRAINED, WEIGHTS
from resolute.report.tables import escape
from resolute.reproduction.formats import NONE, difference, interval, printed, signed, tally
from resolute.reproduction.training_words import training_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resolute.paper import Row, Value
    from resolute.reproduction.ledger import Entry, Line, Measured

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
  percentage points, method less base.
- Measured values have a 95 % interval (Student's t over n seeds; with one seed Wilson's over images). Differences are
  over the same seeds, tested by the paired t test over seeds, adjusted by Holm over the whole ledger; p of 0.05 or less
  is called a difference. The test looks at seeds, not at images: it speaks of new seeds on these test images.
- "The claimed one possible": the claimed difference lies in the measured 95 % interval, which is that of this one
  difference, not adjusted for their number. "Excluded": it does not.
- *Full recipe*: the row's recipe below, with its seeds. *Reduced recipe*: fewer epochs or seeds. *Another
  recipe*: as long, and different. *Runs, not measured*: a smoke run goes through, and what a measurement would take is
  said; GPU hours are for all seeds, from multiply-adds at 50 Tflop/s, and so a lower bound. *Quoted*: not trained here.
- The paper's ± is kept as printed; it does not say what it is.
- Table 3 prints other figures of the CondenseNets of Table 1: a run of a row of Table 1 fills in that of Table 3 too.

What the paper leaves open for every row, and what is done here:

{open}
"""


_TEXT = ("row", "data", "state")
"""Columns of words; the others are numbers and stand to the right."""


def markdown(entries: Sequence[Entry]) -> str:
    """Write the page.

    Args:
        entries: All rows of the ledger.

    Returns:
        Markdown; the same ledger gives the same text.
    """
    left_open = "\n".join(f"- {text}" for text in OPEN.values())
    parts = [_HEAD.format(tally=tally(entries), open=left_open)]
    for table, group in groupby(entries, key=lambda entry: entry.row.table):
        parts += _section(table, list(group))
    return "\n".join([*parts, *_misprints(entries)])


def _section(table: int, entries: list[Entry]) -> Iterator[str]:
    yield f"\n## Table {table}\n\n{escape(CAPTIONS[table])}\n"
    yield _rows(_values(entries))
    yield "\nAgainst base, in points:\n"
    yield _rows(_differences(entries))
    yield f"\nRecipes of Table {table}:\n"
    yield from _recipes(entries)


def _rows(rows: Iterator[list[str]]) -> str:
    """Lay out a table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---" if name in _TEXT else "---:" for name in head], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _values(entries: list[Entry]) -> Iterator[list[str]]:
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
    return "<br>".join(f"{interval(found.value)}{_with(found)}" for found in line.measured) or NONE


def _with(found: Measured) -> str:
    setting = f", {escape(found.setting)}" if found.setting else ""
    return f", n = {found.seeds}{setting}"


def _state(entry: Entry) -> str:
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


def _differences(entries: list[Entry]) -> Iterator[list[str]]:
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
            cells = [cell for line in entry.lines for cell in (signed(line.claimed), _compared(line))]
            yield [escape(entry.row.name), *data, *cells]


def _compared(line: Line) -> str:
    found = [measured for measured in line.measured if measured.difference is not None]
    return "<br>".join(f"{difference(m.difference)}{_with(m)}: {m.verdict}" for m in found) or NONE


def _recipes(entries: list[Entry]) -> Iterator[str]:
    """Describe each network's training once, for its base, FGSM and R rows."""
    for entry in entries:
        if entry.row.method == "base":
            own = [other.row for other in entries if other.row.base is entry.row]
            yield f"- **{escape(entry.row.network)}**, {DATA_NAMES[entry.row.data]}. {_how(entry.row, own)}"


def _how(row: Row, own: list[Row]) -> str:
    weights = WEIGHTS.get(row.id)
    judged = (
        f" `--row {row.id} --pretrained` judges published weights: {' '.join(weights.deviations)}" if weights else ""
    )
    if row.id in QUOTED:
        return f"Quoted: {QUOTED[row.id]}. From {escape(row.source.paper)}.{judged}"
    recipes = [TRAINED[other.id] for other in own]
    said = dict.fromkeys(text for recipe in recipes for text in recipe.deviations if text not in OPEN.values())
    trained = training_words(recipes[-1].recipe, recipes[-1].source.loss)
    names = ", ".join(f"`{recipe.row}`" for recipe in recipes)
    notes = escape(" ".join([f"Source: {recipes[-1].source.where}.", *said]))
    return f"{trained} {notes}{judged} Rows {names}."


def _misprints(entries: Sequence[Entry]) -> Iterator[str]:
    yield "\n## Misprints and mismatches\n"
    yield "What is evidently wrong in print, and where the print disagrees with the source of its figures.\n"
    for table, notes in NOTES.items():
        yield f"- Table {table}: {escape(' '.join(notes))}"
    for entry in entries:
        if entry.row.notes:
            yield f"- Table {entry.row.table}, {escape(entry.row.name)}: {escape(' '.join(entry.row.notes))}"
    yield ""
