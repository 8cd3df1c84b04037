"""The Hessian of each image's loss by its pixels: its largest and smallest eigenvalue and its trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from resolute.curvature.asking import frozen_draw, listening, walk
from resolute.curvature.lanczos import quadrature, tridiagonal
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from resolute.curvature.asking import Batches, Loss


@dataclass(frozen=True, slots=True, eq=False)
class InputHessians:
    """One number for each image, float64 [n], per squared pixel unit.

    Attributes:
        top: Largest eigenvalue.
        lowest: Smallest eigenvalue.
        trace: Hutchinson's estimate of the trace, exact in the mean over its random signs.
    """

    top: Tensor
    lowest: Tensor
    trace: Tensor


def input_hessians(
    model: nn.Module,
    loss: Loss,
    data: Batches,
    *,
    steps: int = 20,
    probes: int = 4,
    draws: int = 0,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> InputHessians:
    """Measure how each image's loss bends by its pixels.

    All images of a micro-batch run side by side, each with its own Krylov space. The Hessian of a network of rectifiers
    under the cross-entropy has a rank below the number of classes, so that as many steps as classes find it exactly;
    else the eigenvalues are bounds from inside. Memory: ``steps`` copies of a micro-batch of images, and the graph of
    its gradient.

    Args:
        model: Images in, logits out; no image's answer may hang on another's (BatchNorm is in evaluation mode).
        loss: ``(model, x, y) -> mean loss``.
        data: Micro-batches.
        steps: Lanczos steps, at most the number of pixels.
        probes: Random sign vectors for each image's trace.
        draws: 0 without noise; D for the mean over D draws.
        seed: Seed of vectors and draws.
        on_batch: Called after each micro-batch with its number of images.

    Returns:
        The numbers, in the order of the images.

    Raises:
        InputError: If steps or probes are below 1.
    """
    if min(steps, probes) < 1:
        raise InputError(f"steps is {steps} and probes {probes}; both must be 1 or more.")
    found = []
    for batch, x, y in walk(model, data):
        with listening(model, draws > 0), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            multiply = _products(model, loss, x, y, draws, seed, batch)
            generator = torch.Generator().manual_seed(seed + batch)
            shape = (len(x), x[0].numel())
            start = torch.randn(shape, generator=generator).to(x)
            nodes, _ = quadrature(*tridiagonal(multiply, start, min(steps, shape[1]), keep=True))
            traces = []
            for _ in range(probes):
                z = torch.randint(0, 2, shape, generator=generator).to(x) * 2 - 1
                traces.append((z * multiply(z)).sum(1, dtype=torch.float64))
        found.append(torch.stack([nodes[:, -1], nodes[:, 0], torch.stack(traces).mean(0)]).cpu())
        if on_batch:
            on_batch(len(x))
    return InputHessians(*torch.cat(found, 1))


def _products(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, draws: int, seed: int, batch: int
) -> Callable[[Tensor], Tensor]:
    x = x.detach().requires_grad_()
    slopes = []
    for draw in range(max(1, draws)):
        with frozen_draw(draws, seed, draw, batch):
            value = loss(model, x, y) * len(x)  # each image's own loss: the mean's share of it is 1 / n
        slopes.append(torch.autograd.grad(value, x, create_graph=True)[0])
    slope = torch.stack(slopes).mean(0)

    def multiply(v: Tensor) -> Tensor:
        if not slope.requires_grad:
            return torch.zeros_like(v)
        (product,) = torch.autograd.grad(slope, x, v.view_as(x), retain_graph=True, materialize_grads=True)
        return product.reshape(len(x), -1)

    return multiply
