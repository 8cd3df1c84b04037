"""Gradient attacks in pixel space: pure functions of (model, images, labels, radius)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def fgsm(model: nn.Module, x: Tensor, y: Tensor, radius: float | str) -> Tensor:
    """Take one step of the fast gradient sign method (Goodfellow et al. 2014).

    x' = clip(x + radius * sgn(dL/dx), 0, 1) with the cross-entropy loss L. The network is in evaluation mode while
    the gradient is taken (running BatchNorm statistics, no dropout, no noise): the network that will be deployed is
    the one attacked. Its modes, buffers, parameters and their gradients are left as they were.

    Args:
        model: Images in [0, 1] in, logits out; any normalisation is inside it.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, int64 [n].
        radius: Largest change of a pixel, in pixel units: 0.1 or ``"8/255"``.

    Returns:
        The attacked images, detached, in [0, 1], within ``radius`` of ``x``.

    Raises:
        InputError: If the radius is not a number in [0, 1].
    """
    size = parse_radius(radius)
    return (x + size * input_gradient(model, x, y).sign()).clamp(0, 1)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: float | str,
    step: float | str,
    steps: int,
    restarts: int = 1,
    norm: Literal["linf", "l2"] = "linf",
) -> Tensor:
    """Ascend the loss by projected gradient steps from random starts (Madry et al. 2018).

    Args:
        model: As in `fgsm`, and treated the same way.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, int64 [n].
        radius: Size of the ball around each image, in pixel units.
        step: Length of a step, in pixel units.
        steps: Number of steps, at least 1.
        restarts: Random starts; for each image the result with the highest loss is kept.
        norm: ``"linf"`` bounds every pixel, ``"l2"`` the Euclidean norm of an image's change.

    Returns:
        The attacked images, detached, in [0, 1], within ``radius`` of ``x``.

    Raises:
        InputError: If a number is out of range or the norm unknown.
    """
    size, length = parse_radius(radius), parse_radius(step)
    if steps < 1 or restarts < 1:
        raise InputError(f"pgd got steps={steps}, restarts={restarts}; both must be at least 1.")
    if norm not in _BALLS:
        raise InputError(f"pgd got norm={norm!r}; it is one of {', '.join(_BALLS)}.")
    ball = _BALLS[norm]
    best, best_loss = x, torch.full((len(x),), -torch.inf, device=x.device)
    for _ in range(restarts):
        delta = ball.start(x, size)
        for _ in range(steps):
            grad = input_gradient(model, (x + delta).clamp(0, 1), y)
            delta = ball.project(delta + length * ball.direct(grad), size)
        attacked = (x + delta).clamp(0, 1)
        with evaluating(model), torch.no_grad():
            loss = F.cross_entropy(model(attacked).float(), y, reduction="none")
        best = torch.where((loss > best_loss).view(-1, 1, 1, 1), attacked, best)
        best_loss = torch.maximum(loss, best_loss)
    return best


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Differentiate the cross-entropy loss with respect to the images.

    Args:
        model: As in `fgsm`, and treated the same way.
        x: Images, float [n, C, H, W].
        y: Labels, int64 [n].

    Returns:
        The gradient of each image's own loss, of the shape and dtype of ``x``.
    """
    with evaluating(model), torch.enable_grad():
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(model(x).float(), y, reduction="sum")
        (grad,) = torch.autograd.grad(loss, x)
    return grad


def parse_radius(radius: float | str) -> float:
    """Read a radius given as a number or as a fraction in text.

    Args:
        radius: 0.03 or ``"0.03"`` or ``"8/255"``, in pixel units.

    Returns:
        The radius as a float in [0, 1].

    Raises:
        InputError: If it is not a number in [0, 1].

    Example:
        >>> parse_radius("51/255")
        0.2
    """
    over, _, under = str(radius).partition("/")
    try:
        value = float(over) / (float(under) if under else 1.0)
    except (ValueError, ZeroDivisionError):
        value = float("nan")
    if not 0 <= value <= 1:
        raise InputError(f"radius is {radius!r}; it is a number of pixel units from 0 to 1, such as 0.1 or 8/255.")
    return value


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode and give each module its own mode back.

    Args:
        model: The network.

    Yields:
        Nothing; the network is in evaluation mode meanwhile.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


class _Ball(NamedTuple):
    """A random point of it, the direction of steepest ascent, the projection onto it."""

    start: Callable[[Tensor, float], Tensor]
    direct: Callable[[Tensor], Tensor]
    project: Callable[[Tensor, float], Tensor]


def _norm(x: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length.clamp_min(1e-12).view(-1, 1, 1, 1)


def _l2_start(x: Tensor, radius: float) -> Tensor:
    direction = torch.randn_like(x)
    share = torch.rand(len(x), 1, 1, 1, device=x.device, dtype=x.dtype) ** (1 / x[0].numel())
    return radius * share * direction / _norm(direction)


_BALLS: dict[str, _Ball] = {
    "linf": _Ball(
        start=lambda x, radius: torch.empty_like(x).uniform_(-radius, radius),
        direct=torch.sign,
        project=lambda delta, radius: delta.clamp(-radius, radius),
    ),
    "l2": _Ball(
        start=_l2_start,
        direct=lambda grad: grad / _norm(grad),
        project=lambda delta, radius: delta * (radius / _norm(delta)).clamp_max(1),
    ),
}
