"""What is asked of the arguments of statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def require(fits: bool, wanted: str, came: object) -> None:
    """Refuse an argument.

    Args:
        fits: Whether it is as wanted.
        wanted: What is wanted, in words.
        came: The argument.

    Raises:
        ValueError: If it is not.
    """
    if not fits:
        raise ValueError(f"{wanted}; got {came}")


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """Take a row of numbers.

    Args:
        values: Numbers, shape [k] with k at least 1.

    Returns:
        The same in float64.
    """
    row = np.asarray(values, dtype=np.float64)
    require(row.ndim == 1 and row.size > 0 and bool(np.isfinite(row).all()), "a row of finite numbers is wanted", row)
    return row
