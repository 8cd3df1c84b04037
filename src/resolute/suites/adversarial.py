"""Images moved against the network that looks at them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from resolute import attacks
from resolute.suites.shift import Shift

if TYPE_CHECKING:
    from torch import Tensor, nn

    from resolute.data import DataInfo


def fgsm(info: DataInfo) -> list[Shift]:
    """Attack by one gradient sign step at the radii that are customary for the data.

    Args:
        info: Description of the data set.

    Returns:
        One shift for each of ``info.radii``.
    """
    return [Shift("fgsm", "fgsm", radius, functools.partial(_fgsm, radius=radius)) for radius in info.radii]


def _fgsm(model: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, *, radius: float) -> Tensor:  # noqa: ARG001
    return attacks.fgsm(model, x, y, radius)
