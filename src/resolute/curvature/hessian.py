"""The Hessian of a mean loss by all parameters: eigenvalues, trace, spectrum, and the loss along directions.

The network is in evaluation mode. Noise that `robustify` or a control put into it is silent with 0 draws. With D >= 1
draws the mean over D draws of signs is measured: each draw is a function of (seed, draw, batch), so that the same batch
meets the same signs in every product with a vector, and the Hessian is one symmetric matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from resolute.attacks import evaluating
from resolute.errors import InputError
from resolute.models import loss
from resolute.noise import signs
from resolute.noise.robustify import carriers

if TYPE_CHECKING:
    from numpy.typing import NDArray


Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""``(model, x, y) -> mean loss over the images``, a scalar."""
Batches = Iterable[tuple[Tensor, Tensor]]
"""Pairs (x, y), gone through again for each product: a list, or anything else whose ``iter`` begins anew."""


@contextmanager
def listening(model: nn.Module, noise: bool) -> Iterator[None]:
    """Hold a network in evaluation mode, but for its noise where that is wanted."""
    loud = carriers(model) if noise else []
    if noise and not loud:
        raise InputError("draws of the noise are wanted, and the network carries none: robustify it, or use draws=0.")
    with evaluating(model):
        for module in loud:
            module.training = True
        yield


@contextmanager
def frozen_draw(draws: int, seed: int, draw: int, batch: int) -> Iterator[None]:
    """Make what is drawn inside a function of (seed, draw, batch), and give torch's generators back as they were."""
    if not draws:
        yield
        return
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(signs.key(seed, "curvature", draw, batch))
        yield


def walk(model: nn.Module, data: Batches) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Go through the batches on the network's device, in its precision."""
    if iter(data) is data:
        raise InputError("the batches can be gone through only once and are needed for each product: give a list.")
    like = next(model.parameters(), torch.empty(0))
    empty = True
    for batch, (x, y) in enumerate(data):
        empty = False
        yield batch, x.to(device=like.device, dtype=like.dtype), y.to(like.device)
    if empty:
        raise InputError("there are no batches to measure on.")


def tridiagonal(
    multiply: Callable[[Tensor], Tensor], start: Tensor, steps: int, *, keep: bool
) -> tuple[Tensor, Tensor]:
    """Run Lanczos from each row of ``start``, each with a matrix of its own."""
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
    """Turn what `tridiagonal` returned into Gauss quadrature: sum_j w_j f(t_j) is about vᵀ f(H) v."""
    matrix = torch.diag_embed(diagonal) + torch.diag_embed(beside, 1) + torch.diag_embed(beside, -1)
    nodes, vectors = torch.linalg.eigh(matrix)
    return nodes, vectors[:, 0, :].square()


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute the loss that a network is trained on, in the precision of its weights.

    Args:
        model: Images in [0, 1] in, logits out.
        x: Floating point [n, C, H, W].
        y: Labels, int64 [n].

    Returns:
        The mean over the images: of the cross-entropy, or of the network's own loss where it has one.

    Example:
        >>> cross_entropy(nn.Identity(), torch.zeros(1, 2), torch.tensor([0]))
        tensor(0.6931)
    """
    outputs = model(x)
    if hasattr(loss.network(model), "per_image_loss"):
        return loss.loss(model, x, y, outputs)
    return nn.functional.cross_entropy(loss.logits(outputs), y)


@dataclass(frozen=True, slots=True, eq=False)
class Hessian:
    """H = d²L/dθ², where L(θ) is the mean over all images (and over the draws of the noise) of the loss.

    Call it with vectors. The size of the micro-batches changes nothing but rounding: the mean over all images is
    exact. Memory: one micro-batch's graph of the gradient (about three times that of a training step's), and per
    vector twice the parameters.

    Attributes:
        model: The network; its parameters that require a gradient are θ, in the order of ``model.parameters()``.
        loss: ``(model, x, y) -> mean loss``; twice differentiable.
        data: Micro-batches, as `Batches`.
        draws: 0 for the network without noise; D >= 1 for the mean over D draws of the noise that it carries.
        seed: Seed of the draws.
        on_batch: Called after each micro-batch with the number of images times vectors that it took.

    Raises:
        InputError: If draws are below 0, or no parameter requires a gradient.

    Example:
        >>> model = nn.Linear(2, 1, bias=False)
        >>> data = [(torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.zeros(2, 1))]
        >>> half_square = Hessian(model, lambda model, x, y: (model(x) - y).square().mean() / 2, data)
        >>> half_square(torch.eye(2))
        tensor([[4.5000, 0.0000],
                [0.0000, 0.5000]])
    """

    model: nn.Module
    loss: Loss
    data: Batches
    draws: int = 0
    seed: int = 0
    on_batch: Callable[[int], None] | None = None

    def __post_init__(self) -> None:
        if self.draws < 0:
            raise InputError(f"draws is {self.draws}; it is a number of draws of the noise, 0 for none.")
        if not self.parameters:
            raise InputError("the network has no parameter that requires a gradient.")

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the Hessian is taken by."""
        return [p for p in self.model.parameters() if p.requires_grad]

    @property
    def size(self) -> int:
        """Number of parameters, P."""
        return sum(p.numel() for p in self.parameters)

    @property
    def like(self) -> Tensor:
        """A tensor of the device and dtype of the vectors."""
        return self.parameters[0].detach()

    def __call__(self, v: Tensor) -> Tensor:
        """Multiply each row of [..., P] with H."""
        rows = torch.atleast_2d(v)
        if rows.shape[-1] != self.size:
            raise InputError(f"the Hessian has {self.size} rows and was given vectors of {rows.shape[-1]} entries.")
        total, n = torch.zeros_like(rows), 0
        for batch, x, y in walk(self.model, self.data):
            self._add_batch(batch, x, y, rows, total, len(y))
            n += len(y)
        return total.div_(n).view_as(v)

    def quotients(self, v: Tensor) -> tuple[Tensor, Tensor]:
        """Compute vᵀ H_b v / vᵀv for each micro-batch b on its own.

        Args:
            v: [P].

        Returns:
            The quotients and the numbers of images, float64 [batches]; their weighted mean is that of all images.
        """
        found = []
        for batch, x, y in walk(self.model, self.data):
            product = torch.zeros_like(v[None])
            self._add_batch(batch, x, y, v[None], product, 1.0)
            found.append((float((v * product[0]).sum(dtype=torch.float64)), len(y)))
        values, counts = torch.tensor(found, dtype=torch.float64).unbind(1)
        return values / float(v.double().square().sum()), counts

    def _add_batch(self, batch: int, x: Tensor, y: Tensor, rows: Tensor, total: Tensor, weight: float) -> None:
        """Add the weighted products with one micro-batch's Hessian to ``total``, without another copy of the rows."""
        repeats = max(1, self.draws)
        for draw in range(repeats):
            with listening(self.model, self.draws > 0), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
                with frozen_draw(self.draws, self.seed, draw, batch):
                    value = self.loss(self.model, x, y)
                self._add_products(value, rows, total, weight / repeats)
        if self.on_batch:
            self.on_batch(len(y) * len(rows))

    def _add_products(self, value: Tensor, rows: Tensor, total: Tensor, weight: float) -> None:
        parameters = self.parameters
        slopes = torch.autograd.grad(value, parameters, create_graph=True, materialize_grads=True)
        bending = [i for i, slope in enumerate(slopes) if slope.requires_grad]
        if not bending:
            return
        sizes = [p.numel() for p in parameters]
        for number, (row, into) in enumerate(zip(rows, total, strict=True), start=1):
            parts = row.split(sizes)
            found = torch.autograd.grad(
                [slopes[i] for i in bending],
                parameters,
                [parts[i].view_as(slopes[i]) for i in bending],
                retain_graph=number < len(rows),
                materialize_grads=True,
            )
            for part, place in zip(found, into.split(sizes), strict=True):
                place.add_(part.reshape(-1), alpha=weight)


TOGETHER = 4
"""Vectors of a trace that share a micro-batch's gradient; more would cost memory where there are many parameters."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number that was estimated from independent parts.

    Attributes:
        value: Their mean.
        se: Its standard error; NaN for one part.
        n: Number of parts.
    """

    value: float
    se: float
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Eigenpairs:
    """Some eigenvalues with their eigenvectors.

    Attributes:
        values: float64 [k], the largest first, or the smallest first with ``which="smallest"``.
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

    Example:
        >>> hessian = Hessian(nn.Linear(2, 2), cross_entropy, [(torch.eye(2), torch.tensor([0, 1]))])
        >>> eigenvalues(hessian, 2).values.shape
        torch.Size([2])
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


def trace(hessian: Hessian, probes: int = 16, *, basis: Tensor | None = None, seed: int = 0) -> Estimate:
    """Estimate the trace with its standard error: Hutchinson's, or with a basis Hutch++'s.

    On the basis Q the trace is computed exactly, tr(QᵀHQ); on its complement it is the mean of zᵀHz over random signs
    z. With the top eigenvectors as the basis the error falls, since the large eigenvalues leave the
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

    Example:
        >>> hessian = Hessian(nn.Linear(2, 2), cross_entropy, [(torch.eye(2), torch.tensor([0, 1]))])
        >>> trace(hessian, 4).n
        4
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

    Example:
        >>> hessian = Hessian(nn.Linear(2, 2), cross_entropy, [(torch.eye(2), torch.tensor([0, 1]))])
        >>> spectrum(hessian, steps=3, probes=2).nodes.shape
        torch.Size([2, 3])
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

    Example:
        >>> parts = [(torch.eye(2), torch.tensor([0, 1])), (torch.ones(1, 2), torch.tensor([0]))]
        >>> over_batches(Hessian(nn.Linear(2, 2), cross_entropy, parts), torch.ones(6)).n
        2
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

    Example:
        >>> parts = [(torch.eye(2), torch.tensor([0, 1])), (torch.ones(1, 2), torch.tensor([0]))]
        >>> len(over_subsets(Hessian(nn.Linear(2, 2), cross_entropy, parts), 2))
        2
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


def loss_along(hessian: Hessian, directions: Tensor, radii: Tensor) -> Tensor:
    """Compute the mean loss at θ + r·d, or at θ + r₁·d₁ + r₂·d₂.

    Args:
        hessian: Whose network, loss, data and draws.
        directions: [1, P] or [2, P]: eigenvectors, say.
        radii: [g], distances along each direction, in the unit of the parameters.

    Returns:
        float64 [g], or [g, g] with the first direction first. The network has its parameters back, also after an error.

    Raises:
        InputError: If there are not 1 or 2 directions.

    Example:
        >>> hessian = Hessian(nn.Linear(2, 2), cross_entropy, [(torch.eye(2), torch.tensor([0, 1]))])
        >>> loss_along(hessian, torch.eye(6)[:1], torch.linspace(-1, 1, 3)).shape
        torch.Size([3])
    """
    if len(directions) not in (1, 2):
        raise InputError(f"there are {len(directions)} directions; a loss is drawn along 1 or 2.")
    parameters = hessian.parameters
    sizes = [p.numel() for p in parameters]
    kept = torch.cat([p.detach().reshape(-1) for p in parameters])

    def place(theta: Tensor) -> None:
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
