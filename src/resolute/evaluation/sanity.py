"""Was the attack real? Checks that belong to an honest evaluation, and what may be said after them.

An attack that fails looks like a robust network. Each check is a way in which attacks fail silently (Carlini et al.
2019, "On Evaluating Adversarial Robustness"; Athalye et al. 2018): none proves robustness.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import torch

from resolute.attacks import fgsm, input_gradient, is_right, losses, pgd
from resolute.evaluation.measure import predict
from resolute.stats import mcnemar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from resolute.run_folder import Record


Result = Literal["passed", "failed", "not run"]

_SLACK = 0.01
"""Share of the images by which one attack may seem weaker than another before it counts: a few images that only the
other finds."""
CHANCE = 0.05
"""p of McNemar's test above which two attacks on the same images may differ by chance."""
GONE = 0.05
"""Accuracy, as a share of the clean one, below which nothing is left worth the name."""
CHECK_COUNT = 6
STRENGTH = {"fgsm": 0, "square": 1, "pgd": 2, "autoattack": 3}
"""Attacks by name, weak to strong; the strongest one that was run speaks."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        name: What should hold.
        result: ``"passed"``, ``"failed"`` or ``"not run"``.
        found: The figures, or why it was not run.
    """

    name: str
    result: Result
    found: str


def check_attacks(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: float,
    counted: Sequence[Record],
    *,
    seed: int = 0,
    on_check: Callable[[], None] | None = None,
) -> list[Check]:
    """Run the checks on some images."""
    found = []
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        for check in (_gradient, _steps, _radii, _fgsm_or_pgd, _unbounded):
            found.append(check(model, x, y, radius))
            if on_check:
                on_check()
    found.append(_black_box(counted))
    if on_check:
        on_check()
    return found


def _check(name: str, holds: bool, found: str) -> Check:
    return Check(name, "passed" if holds else "failed", found)


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return is_right(predict(model, x), y)


def _accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    return float(_right(model, x, y).double().mean())


def _gradient(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Check:  # noqa: ARG001
    grad = input_gradient(model, x, y).flatten(1)
    usable = float(((grad != 0).any(1) & grad.isfinite().all(1)).double().mean())
    return _check(
        "The gradient of the loss is not zero",
        usable >= 1 - _SLACK,
        f"It is usable for {100 * usable:.1f} % of images.",
    )


def _steps(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Check:
    found = []
    for steps in (1, 10, 50):
        attacked = pgd(model, x, y, radius, 2.5 * radius / max(steps, 3), steps, early_stop=False)
        found.append(float(losses(model, attacked, y).mean()))
    return _check("The loss rises with the number of steps", _rises(found), _told("1, 10, 50 steps", found))


def _radii(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Check:
    radii = (0.0, radius / 4, radius / 2, radius)
    found = [float(losses(model, _twenty(model, x, y, r), y).mean()) for r in radii]
    return _check("The loss rises with the radius", _rises(found), _told("radius 0 to the customary one", found))


def _twenty(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Tensor:
    return pgd(model, x, y, radius, 2.5 * radius / 20, 20, early_stop=False)


def _rises(found: list[float]) -> bool:
    """Tell whether no value is below the one before, by more than a hundredth of it."""
    return all(later >= earlier - 0.01 * abs(earlier) for earlier, later in pairwise(found))


def _told(what: str, found: list[float]) -> str:
    return f"Mean loss at {what}: {', '.join(f'{value:.3g}' for value in found)}."


def _fgsm_or_pgd(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Check:
    """On few images chance may let either win: only what a paired test sees counts."""
    one = _right(model, fgsm(model, x, y, radius), y)
    many = _right(model, pgd(model, x, y, radius, 2.5 * radius / 50, 50, restarts=2), y)
    share, shares = float(one.float().mean()), float(many.float().mean())
    p = mcnemar(int((many & ~one).sum()), int((one & ~many).sum()))
    return _check(
        "PGD with 50 steps and 2 restarts is not weaker than FGSM",
        shares <= share + _SLACK or p > CHANCE,
        f"Right of {len(x)} images under FGSM: {100 * share:.1f} %, under PGD: {100 * shares:.1f} %.",
    )


def _unbounded(model: nn.Module, x: Tensor, y: Tensor, radius: float) -> Check:  # noqa: ARG001
    left = _accuracy(model, pgd(model, x, y, 1.0, 0.05, 100, restarts=2), y)
    return _check("Without a bound nothing is left", left <= _SLACK, f"Right at radius 1: {100 * left:.1f} %.")


def _black_box(counted: Sequence[Record]) -> Check:
    name = "The black-box attack is not stronger than the white-box one"
    right = {(record.shift, record.severity): record.correct / record.n for record in counted}
    pairs = [(right["pgd", radius], share, radius) for (shift, radius), share in right.items() if shift == "square"
             and ("pgd", radius) in right]  # fmt: skip
    if not pairs:
        return Check(name, "not run", "It takes the suite attacks, which runs both.")
    worst = max(pairs, key=lambda pair: pair[0] - pair[1])
    return _check(
        name,
        worst[0] <= worst[1] + _SLACK,
        f"At radius {worst[2]:.3g}: right under PGD {100 * worst[0]:.1f} %, under Square {100 * worst[1]:.1f} %.",
    )


def checks_sentence(counted: Sequence[Record], checks: Sequence[Check], radius: float) -> str:
    """Say what may be said of attacks, and no more."""
    clean = next(record for record in counted if record.suite == "clean")
    run = [record for record in counted if record.shift in STRENGTH and record.severity > 0]
    if not run:
        return "No attack was run: nothing is said of adversarial robustness."
    strongest = min(run, key=lambda record: (-STRENGTH[record.shift], abs(record.severity - radius)))
    name, left = strongest.shift, strongest.correct / strongest.n
    figure = f"{100 * left:.1f} % right of {strongest.n:,} under {name} at radius {strongest.severity:.3g}"
    if left <= GONE * clean.correct / clean.n:
        return f"Not an adversarial defence: {figure}."
    failed = sum(check.result == "failed" for check in checks)
    if failed:
        return f"{figure}; it cannot be trusted, since {failed} of the checks below failed."
    if name == "autoattack":
        return f"{figure}. That is an upper bound: attacks made for this network may leave less."
    return f"{figure}. No stronger attack was run, so this is no claim of adversarial robustness: run autoattack."
