"""Find rows by what people write."""

from __future__ import annotations

from resolute.errors import InputError, unknown
from resolute.paper.facts import CAPTIONS, ROWS, Row


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
