"""Numbers as people read them: one rounding rule for every report, table and picture."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from resolute.errors import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from resolute.stats import Interval

NONE = "\N{EM DASH}"
LONG = 20
"""Entries of a list that are written out."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a text begins that spreadsheets compute, or the mark that says it is text."""


def number(value: float, *, signed: bool = False) -> str:
    """Write a number with two decimals; NaN is a dash and a zero has no sign."""
    if math.isnan(value):
        return NONE
    text = f"{value:{'+' if signed else ''}.2f}"
    return text if float(text) else text.lstrip("+-")


def percent(share: float) -> str:
    """Write a share as a percentage, without the sign."""
    return number(100 * share)


def change(value: float) -> str:
    """Write a difference, always signed."""
    return number(value, signed=True)


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, always signed; what would round to 0 to its first digit."""
    value = 100 * difference
    return f"{value:+.1g}" if 1e-6 < abs(value) < 0.005 else change(value)


def significant(value: float) -> str:
    """Write a quantity that may have any size, with three significant digits, or all before the point."""
    if 1000 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:#.3g}".removesuffix(".") if 1e-4 <= abs(value) < 1000 else f"{value:.3g}"


def severity(value: float) -> str:
    """Write a severity or a position on an axis, as short as four significant digits allow."""
    return f"{value:.4g}"


def fraction(radius: float) -> str:
    """Write a radius as it is customary: two decimals where they are exact, else in whole grey levels of 255."""
    levels = round(255 * radius)
    in_levels = math.isclose(255 * radius, levels, abs_tol=1e-6) and not math.isclose(radius, round(radius, 2))
    return f"{levels}/255" if in_levels else severity(radius)


def p_value(p: float, name: str = "") -> str:
    """Write a p value to three decimals, after its name if one is given: ``p < 0.001``, ``p = 0.031``."""
    if math.isnan(p):
        return NONE
    if 0.05 < p < 0.051:  # is not rounded to what is significant
        p = 0.051
    if p < 0.001:
        return f"{name} < 0.001" if name else "<0.001"
    return f"{name} = {p:.3f}" if name else f"{p:.3f}"


def confidence(level: float) -> str:
    """Write a level of confidence: ``95 %``, ``99.58 %``."""
    return f"{100 * level:.4g} %"


def bounds(interval: Interval, write: Callable[[float], str] = percent) -> str:
    """Write an interval without its middle; nothing where there is none."""
    return "" if math.isnan(interval.low) else f"{write(interval.low)} to {write(interval.high)}"


def estimate(interval: Interval, write: Callable[[float], str] = percent) -> str:
    """Write a value with its interval behind it, where there is one."""
    own = bounds(interval, write)
    return f"{write(interval.mean)} ({own})" if own else write(interval.mean)


def count(many: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun."""
    return f"{many:,} {noun if many == 1 else plural or noun + 's'}"


def listing(names: Sequence[str]) -> str:
    """Join names as in a sentence."""
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def brief(method: str) -> str:
    """Write a method's name where there is little room: a variant's eps and place as they are, without their names."""
    return visible(method.replace("@eps=", "@").replace("@where=", "@"))


def spreadsheet(text: str) -> str:
    """Write a name into a table of comma-separated values, such that no spreadsheet takes it for a formula."""
    marked = text.startswith(_FORMULA) and not re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?", text, re.ASCII | re.IGNORECASE)
    return f"'{visible(text)}" if marked else visible(text)


def from_spreadsheet(text: str) -> str:
    """Read what `spreadsheet` wrote."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """List what a nested object holds, as pairs of text."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        more = f" and {len(value) - LONG} more" if len(value) > LONG else ""
        return ", ".join(_shown(item) for item in value[:LONG]) + more
    return str(value)
