"""Shifts of the test images, in suites.

A suite is a function from the description of a data set to its shifts, so that radii and sizes can follow the data.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from resolute import attacks
from resolute.data.dataset import SMALL
from resolute.errors import InputError, unknown
from resolute.shifts import draws, everyday, imagenet_c, released
from resolute.shifts.shift import Shift

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from resolute.data.dataset import DataInfo


if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from resolute.data.dataset import DataInfo

    Apply = Callable[..., Tensor]

STEPS, RESTARTS = 50, 2
"""Fewer than 50 steps, or one start, often leave a network looking better than it is (Carlini et al. 2019)."""


COSTS = {"fgsm": 4.0, "pgd": 1.0 + 3 * STEPS * RESTARTS, "square": 1000.0, "autoattack": 5000.0}
"""`Shift.cost`: a gradient counts three. PGD and the library's attacks leave out images that they have won, of which
there are more or fewer: their numbers are for a network that holds some."""

BLOCKS = (100, 20)
"""Images, small and large, that Square and AutoAttack look at together: the library draws for a batch as a whole."""


def fgsm_shifts(info: DataInfo) -> list[Shift]:
    """Attack by one gradient sign step at the radii that are customary for the data."""
    return _at_radii("fgsm", "fgsm", _fgsm, info)


def pgd_shifts(info: DataInfo) -> list[Shift]:
    """Attack by projected gradient steps within each pixel's radius: 50 steps, 2 random starts."""
    # A step is 2.5 radii over the number of steps, so that every point of the ball can be reached (Madry et al. 2018).
    return _at_radii("pgd", "pgd", _pgd, info)


def all_attack_shifts(info: DataInfo) -> list[Shift]:
    """Attack with FGSM, PGD and the black-box Square (needs the extra ``attacks``)."""
    # Square draws for a batch as a whole. It is always given the same images together, the first 100 of the set or of a
    # sample, the next 100 and so on (20 if a side has more than 64 pixels), with a seed from the first of them: the
    # batch size does not matter, and with a smaller sample only the last block changes.
    attacks.torchattacks()
    each = (("fgsm", _fgsm), ("pgd", _pgd), ("square", _square))
    return [shift for name, apply in each for shift in _at_radii("attacks", name, apply, info)]


def autoattack_shifts(info: DataInfo) -> list[Shift]:
    """Attack with AutoAttack's standard ensemble (needs the extra ``attacks``), in blocks as `all_attacks`' Square."""
    attacks.torchattacks()
    return _at_radii("autoattack", "autoattack", _autoattack, info)


def _at_radii(suite: str, name: str, apply: Apply, info: DataInfo) -> list[Shift]:
    block = BLOCKS[max(info.shape[1:]) > SMALL] if apply in {_square, _autoattack} else None
    cost = COSTS[name]
    return [Shift(suite, name, r, functools.partial(apply, radius=r), block=block, cost=cost) for r in info.radii]


def _fgsm(model: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, *, radius: float) -> Tensor:  # noqa: ARG001
    return attacks.fgsm(model, x, y, radius, check=False)


def _pgd(model: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, *, radius: float) -> Tensor:
    def start(restart: int) -> Tensor:
        return ((2 * draws.uniform(seeds, x[0].numel(), restart) - 1) * radius).to(x.dtype).view_as(x)

    length = min(1.0, 2.5 * radius / STEPS)
    return attacks.pgd(model, x, y, radius, length, STEPS, RESTARTS, starts=start, early_stop=True, check=False)


def _square(model: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, *, radius: float) -> Tensor:
    return attacks.square(model, x, y, radius, seed=_seed(seeds), check=False)


def _autoattack(model: nn.Module, x: Tensor, y: Tensor, seeds: Tensor, *, radius: float) -> Tensor:
    return attacks.autoattack(model, x, y, radius, seed=_seed(seeds), check=False)


def _seed(seeds: Tensor) -> int:
    """One seed for a library that takes one for a batch."""
    return int(seeds[0]) % 2**31


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
    "fgsm": fgsm_shifts,
    "pgd": pgd_shifts,
    "attacks": all_attack_shifts,
    "autoattack": autoattack_shifts,
}


def find_shifts(names: Sequence[str], info: DataInfo, root: str | Path | None = None) -> list[Shift]:
    """List the shifts of several suites.

    Args:
        names: Names in `SUITES`.
        info: Description of the data set.
        root: The folder that holds released sets; see `resolute.data.dataset.data_root`.

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
