"""Numbers as people read them: errors in percent, differences in percentage points, p values to three decimals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resolute.stats import Interval

NONE = "\N{EM DASH}"
WORDS = {"no difference seen": "none seen"}
"""Verdicts where there is little room."""


def percent(share: float) -> str:
    """Write a share as a percentage with two decimals, without the sign.

    Args:
        share: In [0, 1], or NaN.

    Returns:
        The number, or a dash for NaN.

    >>> percent(0.0152)
    '1.52'
    """
    return NONE if math.isnan(share) else f"{100 * share:.2f}"


def points(difference: float) -> str:
    """Write a difference of shares in percentage points, always signed.

    Args:
        difference: In [-1, 1], or NaN.

    Returns:
        The number, or a dash for NaN.

    >>> points(-0.0021), points(0.0002), points(-0.00001)
    ('-0.21', '+0.02', '0.00')
    """
    if math.isnan(difference):
        return NONE
    text = f"{100 * difference:+.2f}"
    return text[1:] if float(text) == 0 else text


def p_value(p: float) -> str:
    """Write a p value to three decimals.

    Args:
        p: In [0, 1], or NaN.

    Returns:
        The number, ``"<0.001"``, or a dash for NaN.

    >>> p_value(0.0625), p_value(1e-9)
    ('0.062', '<0.001')
    """
    if math.isnan(p):
        return NONE
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def times(ratio: float) -> str:
    """Write a ratio of step times.

    Args:
        ratio: Above 0, or NaN.

    Returns:
        The number with two decimals, or a dash for NaN.
    """
    return NONE if math.isnan(ratio) else f"{ratio:.2f}"


def severity(value: float) -> str:
    """Write a severity as short as it is exact to four digits.

    Args:
        value: In the shift's own unit.

    Returns:
        The number.

    >>> severity(8 / 255), severity(3.0)
    ('0.03137', '3')
    """
    return f"{value:.4g}"


def fraction(radius: float) -> str:
    """Write a radius as it is customary: two decimals where they are exact, else in whole grey levels of 255.

    Args:
        radius: In pixel units.

    Returns:
        ``"8/255"``, or the number to four digits.

    >>> fraction(8 / 255), fraction(0.2)
    ('8/255', '0.2')
    """
    levels = round(255 * radius)
    in_levels = math.isclose(255 * radius, levels, abs_tol=1e-6) and not math.isclose(radius, round(radius, 2))
    return f"{levels}/255" if in_levels else severity(radius)


def bounds(interval: Interval) -> str:
    """Write an error's interval in percent.

    Args:
        interval: Of shares.

    Returns:
        ``"LOW to HIGH"``, or "" where there is none.
    """
    return "" if math.isnan(interval.low) else f"{percent(interval.low)} to {percent(interval.high)}"


def signed_bounds(interval: Interval) -> str:
    """Write a difference's interval in percentage points.

    Args:
        interval: Of differences of shares.

    Returns:
        ``"LOW to HIGH"``, or "" where there is none.
    """
    return "" if math.isnan(interval.low) else f"{points(interval.low)} to {points(interval.high)}"


def count(number: int, noun: str, plural: str = "") -> str:
    """Write a count with its noun.

    Args:
        number: How many.
        noun: In the singular.
        plural: The plural, where it is more than an s.

    Returns:
        ``"1 seed"``, ``"5 seeds"``.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(names: list[str]) -> str:
    """Join names as in a sentence.

    Args:
        names: At least one.

    Returns:
        ``"a, b and c"``.

    >>> listing(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), names[-1]])


def brief(method: str) -> str:
    """Write a method's name where there is little room: a variant's eps and place as they are, without their names.

    Args:
        method: As in the records.

    Returns:
        The name, shorter for a variant.

    >>> brief("r@eps=0.3@where=both"), brief("fgsm")
    ('r@0.3@both', 'fgsm')
    """
    return method.replace("@eps=", "@").replace("@where=", "@")
