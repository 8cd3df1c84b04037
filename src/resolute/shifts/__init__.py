"""Shifts of the test images, in suites.

A suite is a function from the description of a data set to its shifts, so that radii and sizes can follow the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.errors import InputError, unknown
from resolute.shifts import adversarial, everyday, imagenet_c, released
from resolute.shifts.shift import Shift

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from resolute.data.dataset import DataInfo


__all__ = ["SUITES", "Shift", "find_shifts"]

TOP = 5


def clean(info: DataInfo) -> list[Shift]:  # noqa: ARG001 every suite takes the data's description
    """Leave the images as they are."""
    return [Shift("clean", "clean", 0.0, _same)]


def top5(info: DataInfo) -> list[Shift]:
    """Leave the images as they are and take an answer for right if the class is among the five highest logits."""
    if info.classes <= TOP:
        raise InputError(
            f"top5 needs more than {TOP} classes, and {info.name} has {info.classes}: every answer would be right. "
            "Leave top5 out of the suites."
        )
    return [Shift("top5", "top5", 0.0, _same, top=TOP)]


def _same(_model: nn.Module, x: Tensor, _y: Tensor, _seeds: Tensor) -> Tensor:
    return x


SUITES: dict[str, Callable[[DataInfo], list[Shift]]] = {
    "clean": clean,
    "top5": top5,
    "noise": everyday.noise,
    "disturbances": everyday.disturbances,
    "disturbance-variants": everyday.variants,
    "everyday": everyday.everyday,
    "corruptions": imagenet_c.corruptions,
    "corruptions-held-out": imagenet_c.held_out,
    "cifar10-c": released.cifar10_c,
    "cifar100-c": released.cifar100_c,
    "imagenet-c": released.imagenet_c,
    "fgsm": adversarial.fgsm_shifts,
    "pgd": adversarial.pgd_shifts,
    "attacks": adversarial.all_attack_shifts,
    "autoattack": adversarial.autoattack_shifts,
}


def find_shifts(names: Sequence[str], info: DataInfo, root: str | Path | None = None) -> list[Shift]:
    """List the shifts of several suites.

    Args:
        names: Names in `SUITES`.
        info: Description of the data set.
        root: The folder that holds released sets; see `resolute.data.data_root`.

    Returns:
        All their shifts, suite by suite.

    Raises:
        InputError: If a name is unknown or there is none.

    Example:
        >>> from resolute.data import load
        >>> [shift.severity for shift in find_shifts(["clean", "noise"], load("digits").info)]
        [0.0, 0.1, 0.2, 0.3]
    """
    if not names:
        raise InputError(f"no suite was named. There are: {', '.join(SUITES)}.")
    for name in names:
        if name not in SUITES:
            raise InputError(unknown("suite", name, SUITES))
    return [
        shift
        for name in names
        for shift in (released.released(name, root) if name in released.RELEASES else SUITES[name](info))
    ]
