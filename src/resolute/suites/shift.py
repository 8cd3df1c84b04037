"""The one protocol of everything that is done to test images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from resolute.records import Key


@dataclass(frozen=True, slots=True)
class Shift:
    """One change of the test images at one strength.

    Attributes:
        suite: Name of its suite.
        name: What is done: ``"gaussian-noise"``.
        severity: How strongly, in its own unit; 0 for clean.
        apply: ``(model, x, y, seeds) -> x'``. x is float [n, C, H, W] in [0, 1], y int64 [n]; ``seeds`` is int64 [n],
            one for each image, derived from (seed, shift, severity, index of the image in its data set), so that an
            image meets the same disturbance whatever the batch, the order or the network. x' is like x, in [0, 1].
    """

    suite: str
    name: str
    severity: float
    apply: Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]

    @property
    def key(self) -> Key:
        """The column of the evaluation that this shift fills."""
        return (self.suite, self.name, self.severity)
