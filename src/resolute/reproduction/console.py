"""The ledger for a terminal: a block for each table, claims beside what was measured."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from resolute.paper import CAPTIONS, DATA_NAMES
from resolute.reproduction.formats import HEADS, difference, interval, number, signed, tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType

    from resolute.reproduction.ledger import Entry, Line, Measured

LEGEND = """\
All numbers in %, differences in points. n: seeds. Intervals: Student's t over seeds; one seed: Wilson over images.
less base: over the same seeds. Verdicts: paired t test over seeds, Holm over the whole ledger.
GPU hours: for all seeds, from multiply-adds at 50 Tflop/s, a lower bound. Smoke runs measure nothing and are not shown.
Departures from a row's recipe are named in docs/tables.md. Run a row:
resolute reproduce --table 4 --row R-LeNet --data-dir DIR"""
COLOURS = {"better": "green", "worse": "red"}


def console_ledger(entries: Sequence[Entry]) -> Iterator[RenderableType]:
    """Lay the ledger out.

    Args:
        entries: Rows of the ledger, in the order of print.

    Yields:
        A heading and a table for each table of the paper, then what the columns mean.
    """
    for table, group in groupby(entries, key=lambda entry: entry.row.table):
        rows = list(group)
        quality = "accuracy" if rows[0].row.measures[0].higher_is_better else "error"
        yield f"[bold]Table {table}[/]  {CAPTIONS[table]}  [dim]{quality}, %[/]"
        yield _table(rows)
    yield _legend(entries)


def _table(entries: Sequence[Entry]) -> RenderableType:
    from rich import box
    from rich.table import Table

    heads = _aligned([HEADS[line.value.what] for line in entries[0].lines])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("row", no_wrap=True)
    measured = any(line.measured for entry in entries for line in entry.lines)
    table.add_column(f"claimed\n{heads}", justify="right", no_wrap=True)
    if measured:
        table.add_column("measured\n(95 % interval)", no_wrap=True)
        table.add_column("\nn", justify="right")
    table.add_column(
        f"less base,\nclaimed\n{heads}" if measured else f"less base, claimed\n{heads}", justify="right", no_wrap=True
    )
    if measured:
        table.add_column("less base,\nmeasured\n(95 % interval)", no_wrap=True)
        table.add_column("setting", no_wrap=True)
    table.add_column("state, verdict")
    for entry in entries:
        for cells in _rows(entry):
            table.add_row(*(cells if measured else (*cells[:2], cells[4], cells[-1])))
    return table


def _aligned(texts: list[str]) -> str:
    return " ".join(f"{text:>6}" for text in texts)


def _rows(entry: Entry) -> Iterator[tuple[str, ...]]:
    row, lines = entry.row, entry.lines
    name = row.name if row.data == "imagenet" else f"{row.name}  [dim]{DATA_NAMES[row.data]}[/]"
    claimed = _aligned([number(line.value.value) for line in lines])
    less = "" if row.method == "base" else _aligned([signed(line.claimed) for line in lines])
    found = [(line, measured) for line in lines for measured in line.measured]
    if not found:
        yield name, claimed, "", "", less, "", "", f"[dim]{entry.state}: {entry.why}[/]"
    for place, (line, measured) in enumerate(found):
        own = (name, claimed, less) if place == 0 else ("", "", "")
        yield *own[:2], *_value(line, measured, named=len(lines) > 1), own[2], *_judged(measured)


def _value(line: Line, measured: Measured, *, named: bool) -> tuple[str, str]:
    value = interval(measured.value)
    return f"{HEADS[line.value.what]} {value}" if named else value, str(measured.seeds)


def _judged(measured: Measured) -> tuple[str, str, str]:
    colour = COLOURS.get(measured.verdict.partition(",")[0], "default")
    state = f"{measured.state}{_departing(measured.departures)}"
    said = f"{state}: [{colour}]{measured.verdict}[/]" if measured.verdict else state
    return difference(measured.difference), measured.setting, said


def _departing(departures: tuple[str, ...]) -> str:
    """Name one departure from the recipe; the page of tables has more."""
    if not departures:
        return ""
    return f" ({departures[0]})" if len(departures) == 1 else f" ({len(departures)} departures)"


def _legend(entries: Sequence[Entry]) -> str:
    return f"{tally(entries)}\n[dim]{LEGEND}[/]"
