"""What can be learned of a Hessian's eigenvalues from products with vectors, each with its error."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from resolute.curvature.lanczos import quadrature, tridiagonal
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from resolute.curvature.asking import Batches
    from resolute.curvature.hessian import Hessian


TOGETHER = 4
"""Vectors of a trace that share a micro-batch's gradient; more would cost memory where there are many parameters."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that was estimated from n independent parts: its mean and the standard error of that (NaN for one)."""

    value: float
    se: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Eigenpairs:
    """Some eigenvalues with their eigenvectors.

    Attributes:
        values: float64 [k], the largest first, or the smallest first where those were asked for.
        vectors: [k, P], orthonormal.
        errors: float64 [k], |Hv - λv|: an eigenvalue of H lies no further than this from λ.
        products: Vectors that H was multiplied with.
    """

    values: Tensor
    vectors: Tensor
    errors: Tensor
    products: int


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The spectral density as the quadrature of each probe.

    Attributes:
        nodes: float64 [probes, steps].
        weights: float64 [probes, steps]; each row sums to 1.
        size: P.
    """

    nodes: Tensor
    weights: Tensor
    size: int

    def density(self, grid: Tensor, width: float) -> Tensor:
        """Draw the share of eigenvalues near each point, smoothed by a Gaussian.

        Args:
            grid: float64 [g].
            width: Standard deviation of the Gaussian, in the unit of the eigenvalues.

        Returns:
            float64 [probes, g]; each row integrates to 1.
        """
        bells = torch.exp(-0.5 * ((grid - self.nodes[..., None]) / width).square()) / (width * math.sqrt(2 * math.pi))
        return (self.weights[..., None] * bells).sum(1)

    def moment(self, power: int) -> Estimate:
        """Estimate tr(H^power); with power 1 this is Hutchinson's estimate of the trace.

        Args:
            power: 1 or more, exact per probe up to 2 * steps - 1.

        Returns:
            The estimate over probes.
        """
        return _mean(self.size * (self.weights * self.nodes**power).sum(1))


def eigenvalues(
    hessian: Hessian,
    k: int = 1,
    *,
    which: Literal["largest", "smallest"] = "largest",
    tol: float | None = None,
    restarts: int = 100,
    seed: int = 0,
) -> Eigenpairs:
    """Find the largest or the smallest eigenvalues by Lanczos with implicit restarts (ARPACK).

    ``smallest`` with k = 1 is the most negative one. Memory: max(2k + 1, 20) vectors of P numbers, whatever the number
    of products; at most P.

    Args:
        hessian: The matrix.
        k: How many, 1 <= k < P.
        which: From which end, by sign and not by magnitude.
        tol: Relative accuracy at which to stop; by default 1e-10 in float64 and 1e-4 in float32, where a product's
            rounding allows no more.
        restarts: After so many it is given up.
        seed: Seed of the vector to start from.

    Returns:
        The eigenvalues, and how far off each can be.

    Raises:
        InputError: If k is out of range, or restarts are used up.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    if not 1 <= k < hessian.size:
        raise InputError(f"k is {k}; a Hessian of {hessian.size} parameters has 1 to {hessian.size - 1} to find.")
    like, made = hessian.like, [0]
    start = _normal(hessian, 1, seed)[0]

    def multiply(v: NDArray[Any]) -> NDArray[Any]:
        made[0] += 1
        product: NDArray[Any] = hessian(torch.as_tensor(v).to(like)).cpu().numpy()
        return product

    operator = LinearOperator((hessian.size,) * 2, matvec=multiply, dtype=start.cpu().numpy().dtype)
    end: Literal["LA", "SA"] = "LA" if which == "largest" else "SA"
    accuracy = tol if tol is not None else (1e-10 if like.dtype == torch.float64 else 1e-4)
    try:
        _, vectors = eigsh(operator, k, which=end, tol=accuracy, maxiter=restarts, v0=start.cpu().numpy())
    except ArpackNoConvergence as error:
        raise InputError(
            f"the {which} eigenvalues did not settle in {made[0]} products: raise tol (now {accuracy:g}) or restarts."
        ) from error
    rows = torch.linalg.qr(torch.as_tensor(vectors).to(like)).Q.T.contiguous()
    products = hessian(rows)
    values = (rows * products).sum(1, dtype=torch.float64)
    order = values.argsort(descending=which == "largest")
    errors = (products - values[:, None].to(rows.dtype) * rows).norm(dim=1).double()
    return Eigenpairs(values[order].cpu(), rows[order], errors[order].cpu(), made[0] + k)


def sketch(hessian: Hessian, k: int, *, seed: int = 0) -> Tensor:
    """Find a basis of nearly the space where most of H acts: QR of H times k random vectors (Hutch++, Meyer et al.).

    Args:
        hessian: The matrix.
        k: Vectors, and products.
        seed: Seed of the vectors.

    Returns:
        [k, P], orthonormal.
    """
    q: Tensor = torch.linalg.qr(hessian(_signs(hessian, k, seed)).T).Q
    return q.T.contiguous()


def trace(hessian: Hessian, probes: int = 16, *, basis: Tensor | None = None, seed: int = 0) -> Estimate:
    """Estimate the trace with its standard error: Hutchinson's, or with a basis Hutch++'s.

    On the basis Q the trace is computed exactly, tr(QᵀHQ); on its complement it is the mean of zᵀHz over random signs
    z. With the top eigenvectors or `sketch` as the basis the error falls, since the large eigenvalues leave the
    random part.

    Args:
        hessian: The matrix.
        probes: Random vectors, at least 2; as many products.
        basis: [k, P] with orthonormal rows; k more products.
        seed: Seed of the vectors; another one than that of the basis is derived from it.

    Returns:
        The estimate; its error is over probes and says nothing of other images.

    Raises:
        InputError: If there are fewer than 2 probes.
    """
    if probes < 2:
        raise InputError(f"probes is {probes}; a standard error needs at least 2.")
    basis = hessian.like.new_zeros(0, hessian.size) if basis is None else basis
    exact = float(torch.cat([_quotients(hessian, part) for part in basis.split(TOGETHER)]).sum()) if len(basis) else 0.0
    signs = _signs(hessian, probes, seed + 1).split(TOGETHER)
    rest = _mean(torch.cat([_quotients(hessian, z - (z @ basis.T) @ basis) for z in signs]))
    return replace(rest, value=exact + rest.value)


def spectrum(hessian: Hessian, steps: int = 40, probes: int = 4, *, seed: int = 0) -> Spectrum:
    """Estimate the spectral density by stochastic Lanczos quadrature (Ubaru et al. 2017, Ghorbani et al. 2019).

    All probes run side by side and share each micro-batch's gradient. Memory: four vectors of P numbers a probe.

    Args:
        hessian: The matrix.
        steps: Products for each probe, at most P.
        probes: Random vectors.
        seed: Seed of the vectors.

    Returns:
        The quadrature of each probe.
    """
    start = _normal(hessian, probes, seed)
    nodes, weights = quadrature(*tridiagonal(hessian, start, min(steps, hessian.size), keep=False))
    return Spectrum(nodes.cpu(), weights.cpu(), hessian.size)


def over_batches(hessian: Hessian, v: Tensor) -> Estimate:
    """Say how far vᵀHv is from that of all images that could have been drawn, from how its micro-batches differ.

    With v a unit eigenvector this is the sampling error of its eigenvalue to first order.

    Args:
        hessian: The matrix; its data in 2 or more micro-batches of independent images.
        v: [P].

    Returns:
        The quotient of all images and its standard error over micro-batches.
    """
    values, counts = hessian.quotients(v)
    share = counts / counts.sum()
    mean = float((share * values).sum())
    n = len(values)
    spread = n / (n - 1) * float((share.square() * (values - mean).square()).sum()) if n > 1 else math.nan
    return Estimate(mean, math.sqrt(spread), n)


def over_subsets(
    hessian: Hessian, parts: int = 4, *, tol: float | None = None, restarts: int = 100, seed: int = 0
) -> list[float]:
    """Find the largest eigenvalue on each of some disjoint parts of the data.

    The largest eigenvalue is a convex function of the matrix: on fewer images it is larger on average. How much their
    mean exceeds that of all images says how much the number of images matters.

    Args:
        hessian: The matrix; its data in ``parts`` or more micro-batches.
        parts: How many; micro-batch i belongs to part i % parts.
        tol: As in `eigenvalues`.
        restarts: As in `eigenvalues`.
        seed: As in `eigenvalues`.

    Returns:
        One eigenvalue a part.
    """
    subsets = [replace(hessian, data=_Part(hessian.data, part, parts)) for part in range(parts)]
    return [float(eigenvalues(part, tol=tol, restarts=restarts, seed=seed).values[0]) for part in subsets]


@dataclass(frozen=True, slots=True)
class _Part:
    data: Batches
    part: int
    parts: int

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (batch for i, batch in enumerate(self.data) if i % self.parts == self.part)


def _quotients(hessian: Hessian, rows: Tensor) -> Tensor:
    return (rows * hessian(rows)).sum(1, dtype=torch.float64)


def _mean(samples: Tensor) -> Estimate:
    n = samples.numel()
    return Estimate(float(samples.mean()), float(samples.std() / n**0.5) if n > 1 else math.nan, n)


def _normal(hessian: Hessian, k: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(k, hessian.size, generator=generator, dtype=torch.float32).to(hessian.like)


def _signs(hessian: Hessian, k: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (k, hessian.size), generator=generator, dtype=torch.int8).to(hessian.like) * 2 - 1
