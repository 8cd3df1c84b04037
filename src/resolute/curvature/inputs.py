"""Derivatives by the pixels: the Jacobian norm of each image, and the Hessian of each image's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from resolute.curvature.hessian import frozen_draw, listening, quadrature, tridiagonal, walk
from resolute.errors import InputError
from resolute.models import loss

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from resolute.curvature.hessian import Batches, Loss


_EXACT = 32
"""Outputs up to which the norm is exact: one backward pass each."""
PROBES = 8
"""Random vectors beyond: a relative standard error of an image's norm of about 1 / (2 sqrt(8)), and of their mean
over n images of that divided by sqrt(n)."""


def jacobian_norms(
    model: nn.Module,
    data: Batches,
    *,
    wrt: Literal["input", "parameters"] = "input",
    probes: int | None = None,
    draws: int = 0,
    seed: int = 0,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """Compute the Frobenius norm of the Jacobian of the logits for each image.

    Exact: the root of the sum over classes of the squared gradients' norms. Randomised: |J|² is the mean of |Jᵀv|² over
    normal v, so that the square is unbiased.

    Args:
        model: Images in, logits out.
        data: Micro-batches; by parameters each image is gone through on its own.
        wrt: By the pixels, or by the parameters that require a gradient.
        probes: Random vectors; None is exact up to `EXACT` outputs, and `PROBES` vectors beyond.
        draws: 0 without noise; D for the root of the mean of |J|² over D draws of the noise.
        seed: Seed of the vectors and the draws.
        on_batch: Called after each micro-batch with its number of images.

    Returns:
        float64 [n], in logits per pixel unit or per unit of the parameters.

    Raises:
        InputError: If there are fewer than 1 probes.

    Example:
        >>> jacobian_norms(torch.nn.Identity(), [(torch.rand(3, 4), torch.zeros(3))])
        tensor([2., 2., 2.], dtype=torch.float64)
    """
    if probes is not None and probes < 1:
        raise InputError(f"probes is {probes}; it is a number of random vectors, 1 or more, or None.")
    squares = []
    for batch, x, _ in walk(model, data):
        pieces = [x] if wrt == "input" else list(x.split(1))
        rows = [
            _squares(model, piece, wrt, probes, draws, seed, batch * 1_000_003 + at) for at, piece in enumerate(pieces)
        ]
        squares.append(torch.cat(rows))
        if on_batch:
            on_batch(len(x))
    return torch.cat(squares).sqrt().cpu()


def _squares(model: nn.Module, x: Tensor, wrt: str, probes: int | None, draws: int, seed: int, batch: int) -> Tensor:
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    repeats = max(1, draws)
    generator = torch.Generator().manual_seed(seed + batch)
    for draw in range(repeats):
        with listening(model, draws > 0), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            x = x.detach().requires_grad_(wrt == "input")
            with frozen_draw(draws, seed, draw, batch):
                logits = loss.logits(model(x))
            by = [x] if wrt == "input" else [p for p in model.parameters() if p.requires_grad]
            for v, share in _vectors(logits, probes, generator):
                slopes = torch.autograd.grad(logits, by, v, retain_graph=True, materialize_grads=True)
                total += share * sum(s.double().square().reshape(len(x), -1).sum(1) for s in slopes)
    return total / repeats


def _vectors(logits: Tensor, probes: int | None, generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    n, outputs = logits.shape
    if probes is None and outputs <= _EXACT:
        for unit in torch.eye(outputs).to(logits):
            yield unit.expand(n, -1), 1.0
        return
    count = probes or PROBES
    for _ in range(count):
        yield torch.randn(n, outputs, generator=generator).to(logits), 1 / count


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
        model: Images in, logits out; no image's answer may depend on another's (BatchNorm is in evaluation mode).
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

    Example:
        >>> from resolute.curvature import cross_entropy
        >>> data = [(torch.eye(2), torch.tensor([0, 1]))]
        >>> input_hessians(torch.nn.Linear(2, 2), cross_entropy, data).top.shape
        torch.Size([2])
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
