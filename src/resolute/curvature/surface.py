"""The loss along directions of the parameters, where the Hessian says only how it begins to bend."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from resolute.curvature.asking import frozen_draw, listening, walk
from resolute.errors import InputError

if TYPE_CHECKING:
    from resolute.curvature.hessian import Hessian


def loss_along(hessian: Hessian, directions: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    """Compute the mean loss at θ + r·d, or at θ + r₁·d₁ + r₂·d₂.

    Args:
        hessian: Whose network, loss, data and draws.
        directions: [1, P] or [2, P]: eigenvectors, say.
        radii: [g], distances along each direction, in the unit of the parameters.

    Returns:
        float64 [g], or [g, g] with the first direction first. The network has its parameters back, also after an error.

    Raises:
        InputError: If there are not 1 or 2 directions.
    """
    if len(directions) not in (1, 2):
        raise InputError(f"there are {len(directions)} directions; a loss is drawn along 1 or 2.")
    parameters = hessian.parameters
    sizes = [p.numel() for p in parameters]
    kept = torch.cat([p.detach().reshape(-1) for p in parameters])

    def place(theta: torch.Tensor) -> None:
        with torch.no_grad():
            for parameter, part in zip(parameters, theta.split(sizes), strict=True):
                parameter.copy_(part.view_as(parameter))

    values = []
    try:
        with torch.no_grad():
            for steps in itertools.product(radii.tolist(), repeat=len(directions)):
                moved = kept + sum(step * direction for step, direction in zip(steps, directions, strict=True))
                place(moved)
                values.append(_mean_loss(hessian))
    finally:
        place(kept)
    return torch.tensor(values, dtype=torch.float64).view((len(radii),) * len(directions))


def _mean_loss(hessian: Hessian) -> float:
    total, n, repeats = 0.0, 0, max(1, hessian.draws)
    with listening(hessian.model, hessian.draws > 0):
        for batch, x, y in walk(hessian.model, hessian.data):
            for draw in range(repeats):
                with frozen_draw(hessian.draws, hessian.seed, draw, batch):
                    total += float(hessian.loss(hessian.model, x, y)) * len(y) / repeats
            n += len(y)
            if hessian.on_batch:
                hessian.on_batch(len(y))
    return total / n
