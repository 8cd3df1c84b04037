"""Lanczos for many symmetric matrices at once, and the quadrature that it gives (Golub and Welsch 1969)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def tridiagonal(
    multiply: Callable[[Tensor], Tensor], start: Tensor, steps: int, *, keep: bool
) -> tuple[Tensor, Tensor]:
    """Run Lanczos from each row of ``start``, each with a matrix of its own.

    Args:
        multiply: Maps [r, d] to [r, d]: row i times the i-th symmetric matrix.
        start: [r, d], no row zero; normalised here.
        steps: m, at least 1: products that are made.
        keep: Keep all vectors and orthogonalise against them, twice: m * r * d numbers. Without it three vectors are
            kept; eigenvalues that have converged may then come again, which leaves the quadrature right
            (Greenbaum 1989).

    Returns:
        The diagonals [r, m] and what is beside them [r, m - 1], float64. Where the Krylov space is exhausted early the
        rest is 0, of no weight in the quadrature.
    """
    vector = start / start.norm(dim=1, keepdim=True)
    before, basis = torch.zeros_like(vector), []
    coupling = torch.zeros(len(start), 1, dtype=torch.float64, device=start.device)
    diagonal, beside = [], []
    for step in range(steps):
        product = multiply(vector)
        middle = (product * vector).sum(1, keepdim=True, dtype=torch.float64)
        diagonal.append(middle)
        if step + 1 == steps:
            break
        scale = product.norm(dim=1, keepdim=True).double()
        product = product - middle.to(product.dtype) * vector - coupling.to(product.dtype) * before
        if keep:
            basis.append(vector)
            for _ in range(2):
                for other in basis:
                    product = product - (product * other).sum(1, keepdim=True) * other
        coupling = product.norm(dim=1, keepdim=True).double()
        alive = coupling > 100 * torch.finfo(product.dtype).eps * scale
        coupling = torch.where(alive, coupling, 0)
        beside.append(coupling)
        unit = product / torch.where(alive, coupling, 1).to(product.dtype)
        before, vector = vector, torch.where(alive, unit, 0)
    couplings = torch.cat(beside, 1) if beside else coupling[:, :0]
    return torch.cat(diagonal, 1), couplings


def quadrature(diagonal: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
    """Turn what `tridiagonal` returned into Gauss quadrature: sum_j w_j f(t_j) is about vᵀ f(H) v.

    Args:
        diagonal: [r, m].
        beside: [r, m - 1].

    Returns:
        Nodes [r, m], ascending, and weights [r, m] that sum to 1 in each row.
    """
    matrix = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    nodes, vectors = torch.linalg.eigh(matrix)
    return nodes, vectors[:, 0, :].square()
