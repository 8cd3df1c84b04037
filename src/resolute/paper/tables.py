"""The rows of the five tables and the sources that their figures were taken from; published.json holds them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from resolute.errors import InputError, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping


DATA_NAMES = {
    "imagenet": "ImageNet-1k",
    "mnist": "MNIST",
    "svhn": "SVHN",
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
}
"""What the paper calls each data set, by its name in ``data.DATASETS``."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row's network was first published.

    Attributes:
        name: Its key in `SOURCES`.
        paper: Authors, title or number of the article.
        published: What it reports, by name: errors and accuracies in %, counts as printed.
        where: Where that was read.
        confirmed: Whether the row's figure stands there: ``"yes"`` or ``"no"``, with what limits it.
    """

    name: str
    paper: str
    published: Mapping[str, Any]
    where: str
    confirmed: str


@dataclass(frozen=True, slots=True)
class Value:
    """One printed number.

    Attributes:
        column: Header as printed, misspellings included.
        what: What it is in plain words: ``"error"``, ``"top-1"``, ``"random crop"``, ``"parameters"``.
        unit: ``"%"``, ``"count"`` or ``"px"``.
        value: The number as printed, in that unit.
        plus_minus: The printed ±, of which the paper says neither what it is nor over how many runs; None where none.
        metric: ``"top-1 error"`` and the like for measures of quality; None for sizes.
        higher_is_better: Whether a larger value is better; None for sizes.
        source_value: What the source has, where the print is evidently wrong; None elsewhere.
    """

    column: str
    what: str
    unit: Literal["%", "count", "px"]
    value: float
    plus_minus: float | None = None
    metric: str | None = None
    higher_is_better: bool | None = None
    source_value: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        id: TABLE-NAME, with the data set where the name stands in its table twice; unique.
        table: 1 to 5.
        data: Name in ``data.DATASETS``.
        name: As it should read.
        printed_name: As it is printed.
        method: ``"base"``, ``"fgsm"`` or ``"r"``.
        network: The network, said exactly.
        source: Where the network's figures come from.
        printed: The row as printed.
        values: Its numbers, in the order of the columns.
        printed_recipe: What Tables 4 and 5 print of the training: depth, factor (of the width), and the ticks dropout,
            standard_aug, random_erase; None where the print has a dash. Empty for Tables 1 to 3.
        citation: The article that the row cites, as printed; "" where none.
        notes: Where the print disagrees with its source or with itself.
    """

    id: str
    table: int
    data: str
    name: str
    printed_name: str
    method: Literal["base", "fgsm", "r"]
    network: str
    source: Source
    printed: str
    values: tuple[Value, ...]
    printed_recipe: Mapping[str, Any]
    citation: str
    notes: tuple[str, ...]

    @property
    def measures(self) -> tuple[Value, ...]:
        """The numbers that say how good the network is, without its size."""
        return tuple(value for value in self.values if value.metric is not None)

    @property
    def base(self) -> Row:
        """The row of the same table whose network was trained plainly."""
        return next(
            row
            for row in ROWS.values()
            if (row.table, row.source.name, row.method) == (self.table, self.source.name, "base")
        )

    @property
    def misprints(self) -> tuple[tuple[str, str, str], ...]:
        """What is evidently wrong in print, as (what, printed, at the source)."""
        names = [("name", self.printed_name, self.name)] if self.printed_name != self.name else []
        return (
            *names,
            *((v.what, f"{v.value:g}", f"{v.source_value:g}") for v in self.values if v.source_value is not None),
        )


def _read() -> Any:
    text = (resources.files("resolute.paper") / "published.json").read_text(encoding="utf-8")
    return json.loads(text)


def _row(stored: dict[str, Any]) -> Row:
    return Row(
        **{
            **stored,
            "source": SOURCES[stored["source"]],
            "values": tuple(Value(**value) for value in stored["values"]),
            "printed_recipe": stored.get("printed_recipe", {}),
            "citation": stored.get("citation", ""),
            "notes": tuple(stored["notes"]),
        }
    )


_STORED = _read()
CAPTIONS: dict[int, str] = {int(table): caption for table, caption in _STORED["captions"].items()}
"""The printed captions by table."""
NOTES: dict[int, tuple[str, ...]] = {int(table): tuple(notes) for table, notes in _STORED["notes"].items()}
"""What is evidently wrong or missing in a table as a whole."""
SOURCES: dict[str, Source] = {name: Source(name=name, **stored) for name, stored in _STORED["sources"].items()}
"""Where the networks come from."""
ROWS: dict[str, Row] = {stored["id"]: _row(stored) for stored in _STORED["rows"]}
"""All 42 rows by id, in the order of print."""


def find(name: str, table: int | None = None) -> Row:
    """Find the row that a name means.

    Args:
        name: The row's id, or its name as printed or as it should read; letters and digits count, case does not.
        table: Look in this table alone; None for all.

    Returns:
        The row.

    Raises:
        InputError: If there is no such table or row (the nearest names are named), or several rows have the name.

    Example:
        >>> find("R-LeNet", 4).values[0].value
        0.28
    """
    rows = of_table(table)
    found = _called(name, rows)
    if not found and (elsewhere := _called(name, of_table(None))):
        raise InputError(f"table {table} has no row {name}; table {elsewhere[0].table} has.")
    if not found:
        kind = f"row of table {table}" if table else "row"
        raise InputError(unknown(kind, name, [row.id for row in rows]))
    if len(found) > 1:
        raise InputError(f"{name} stands in several rows: {', '.join(row.id for row in found)}. Name one of these.")
    return found[0]


def _called(name: str, rows: list[Row]) -> list[Row]:
    return (
        [row for row in rows if name == row.printed_name]
        or [row for row in rows if _plain(name) in (_plain(row.id), _plain(row.name))]
        or [row for row in rows if _plain(name) == _plain(row.printed_name)]
    )


def of_table(table: int | None) -> list[Row]:
    """List the rows of a table.

    Args:
        table: 1 to 5; None for all.

    Returns:
        The rows in the order of print.

    Raises:
        InputError: If there is no such table.
    """
    if table is not None and table not in CAPTIONS:
        raise InputError(f"there is no table {table}; the paper has {min(CAPTIONS)} to {max(CAPTIONS)}.")
    return [row for row in ROWS.values() if table in (None, row.table)]


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
