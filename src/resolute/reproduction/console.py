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
All numbers in %, differences in points. n: seeds. 95 % intervals: Student's t over seeds; one seed: Wilson, images.
less base: over the same seeds. Verdicts: paired t test over seeds, Holm over the whole ledger.
GPU hours: for all seeds, from multiply-adds at 50 Tflop/s, a lower bound. Smoke runs measure nothing and are not shown.
Departures from a row's recipe are named in docs/tables.md. Run a row:
resolute reproduce --table 4 --row R-LeNet --data-dir DIR"""
MEASURED = "measured            seeds less base, measured\n  setting; state: verdict"
"""Above what `_measured` writes."""
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
    measured = any(line.measured for entry in entries for line in entry.lines)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("row", no_wrap=True)
    table.add_column(f"{heads}\nclaimed\nless base", justify="right", no_wrap=True)
    table.add_column(f"\n{MEASURED}" if measured else "\nstate")
    for entry in entries:
        row, lines = entry.row, entry.lines
        name = row.name if row.data == "imagenet" else f"{row.name}  [dim]{DATA_NAMES[row.data]}[/]"
        claimed = _aligned([number(line.value.value) for line in lines])
        less = "" if row.method == "base" else f"\n{_aligned([signed(line.claimed) for line in lines])}"
        found = [_measured(line, one, named=len(lines) > 1) for line in lines for one in line.measured]
        table.add_row(name, claimed + less, "\n".join(found) or f"[dim]{entry.state}: {entry.why}[/]")
    return table


def _aligned(texts: list[str]) -> str:
    return " ".join(f"{text:>6}" for text in texts)


def _measured(line: Line, measured: Measured, *, named: bool) -> str:
    """Two lines: the numbers, then what they are worth."""
    what = f"{HEADS[line.value.what]:>6} " if named else ""
    numbers = f"{what}{interval(measured.value):<19} n {measured.seeds:<3}{difference(measured.difference)}".rstrip()
    colour = COLOURS.get(measured.verdict.partition(",")[0], "default")
    state = f"{measured.state}{_departing(measured.departures)}"
    said = f"{state}: [{colour}]{measured.verdict}[/]" if measured.verdict else state
    return f"{numbers}\n  {'; '.join(filter(None, (measured.setting, said)))}"


def _departing(departures: tuple[str, ...]) -> str:
    """Name one departure from the recipe; the page of tables has more."""
    if not departures:
        return ""
    return f" ({departures[0]})" if len(departures) == 1 else f" ({len(departures)} departures)"


def _legend(entries: Sequence[Entry]) -> str:
    return f"{tally(entries)}\n[dim]{LEGEND}[/]"
