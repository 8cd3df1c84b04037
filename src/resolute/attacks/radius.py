"""The budget of an attack, as people write it."""

from __future__ import annotations

from resolute.errors import InputError


def parse_radius(radius: float | str, largest: float = 1.0) -> float:
    """Read a radius given as a number or as a fraction in text.

    Args:
        radius: 0.03 or ``"0.03"`` or ``"8/255"``, in pixel units.
        largest: The largest that makes sense: 1 for the change of a pixel.

    Returns:
        The radius as a float in [0, largest].

    Raises:
        InputError: If it is not a number in [0, largest].

    Example:
        >>> parse_radius("51/255")
        0.2
    """
    over, _, under = str(radius).partition("/")
    try:
        value = float(over) / (float(under) if under else 1.0)
    except (ValueError, ZeroDivisionError):
        value = float("nan")
    if not 0 <= value <= largest:
        raise InputError(
            f"radius is {radius!r}; it is a number of pixel units from 0 to {largest:g}, such as 0.1 or 8/255."
        )
    return value
