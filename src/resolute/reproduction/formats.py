"""Numbers of the ledger as people read them; they are in % and in points already."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from resolute.report.formats import NONE, count, listing
from resolute.reproduction.ledger import FULL, JUDGED, OTHER, QUOTE, REDUCED, RUNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolute.paper import Value
    from resolute.reproduction.ledger import Entry
    from resolute.stats import Interval
__all__ = ["HEADS", "MEASURED", "NONE", "difference", "interval", "number", "printed", "signed", "tally"]

MEASURED = {
    FULL: "the full recipe", REDUCED: "a reduced recipe", OTHER: "another recipe", JUDGED: "published weights",
}  # fmt: skip
"""States of a row that was measured, in words."""
HEADS = {
    "error": "error", "top-1": "top-1", "top-5": "top-5", "random crop": "crop", "random horizontal flip": "flip",
    "random greyscale": "grey", "random colour jitter": "colour", "random five-crop": "five",
}  # fmt: skip
"""Short names of what the rows measure, of six letters at most."""


def number(value: float) -> str:
    """Write a percentage.

    Args:
        value: In %.

    Returns:
        Two decimals.
    """
    return f"{value:.2f}"


def printed(value: Value) -> str:
    """Write a printed number with its ±, and what the source has where the print is wrong.

    Args:
        value: In %.

    Returns:
        ``"70.38 ± 0.03"``.
    """
    spread = "" if value.plus_minus is None else f" ± {number(value.plus_minus)}"
    true = "" if value.source_value is None else f" (misprint: {number(value.source_value)})"
    return number(value.value) + spread + true


def signed(points: float | None) -> str:
    """Write a difference.

    Args:
        points: In percentage points; None where there is none.

    Returns:
        Two decimals with a sign, or "".

    >>> signed(-0.22), signed(0.001), signed(None)
    ('-0.22', '0.00', '')
    """
    if points is None:
        return ""
    text = f"{points:+.2f}"
    return text[1:] if float(text) == 0 else text


def interval(value: Interval) -> str:
    """Write a value with its bounds.

    Args:
        value: In %.

    Returns:
        ``"0.52 (0.38 to 0.66)"``.
    """
    return f"{number(value.mean)} ({number(value.low)} to {number(value.high)})"


def difference(value: Interval | None) -> str:
    """Write a difference with its bounds.

    Args:
        value: In percentage points; None where there is none.

    Returns:
        ``"-0.02 (-0.22 to +0.17)"``, without bounds where there are none.
    """
    if value is None:
        return ""
    bounds = "" if math.isnan(value.low) else f" ({signed(value.low)} to {signed(value.high)})"
    return signed(value.mean) + bounds


def tally(entries: Sequence[Entry]) -> str:
    """Count the rows of each state.

    Args:
        entries: Rows of the ledger.

    Returns:
        A sentence.
    """
    counts = Counter(entry.state for entry in entries)
    measured = [f"{counts[state]} at {words}" for state, words in MEASURED.items() if counts[state]]
    parts = [f"{sum(counts[state] for state in MEASURED)} measured"]
    if measured:
        parts[0] += f" ({listing(measured)})"
    parts += [f"{counts[RUNS]} run and are not measured", f"{counts[QUOTE]} quoted"]
    return f"{count(len(entries), 'row')}: {listing(parts)}."
