"""How far the logits move when an image or the parameters move: the norm of the Jacobian of each image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from resolute.curvature.asking import frozen_draw, listening, walk
from resolute.errors import InputError
from resolute.models import objective

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from resolute.curvature.asking import Batches

EXACT = 32
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
                logits = objective.logits(model(x))
            by = [x] if wrt == "input" else [p for p in model.parameters() if p.requires_grad]
            for v, share in _vectors(logits, probes, generator):
                slopes = torch.autograd.grad(logits, by, v, retain_graph=True, materialize_grads=True)
                total += share * sum(s.double().square().reshape(len(x), -1).sum(1) for s in slopes)
    return total / repeats


def _vectors(logits: Tensor, probes: int | None, generator: torch.Generator) -> Iterator[tuple[Tensor, float]]:
    n, outputs = logits.shape
    if probes is None and outputs <= EXACT:
        for unit in torch.eye(outputs).to(logits):
            yield unit.expand(n, -1), 1.0
        return
    count = probes or PROBES
    for _ in range(count):
        yield torch.randn(n, outputs, generator=generator).to(logits), 1 / count
