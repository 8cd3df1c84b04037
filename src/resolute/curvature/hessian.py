"""The Hessian of a mean loss by all parameters, as a matrix that is only ever multiplied with."""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 the field's type is part of the signature
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from resolute.curvature.asking import Batches, Loss, frozen_draw, listening, walk
from resolute.errors import InputError
from resolute.models import objective


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute the loss that a network is trained on, in the precision of its weights.

    Args:
        model: Images in [0, 1] in, logits out.
        x: Floating point [n, C, H, W].
        y: Labels, int64 [n].

    Returns:
        The mean over the images: of the cross-entropy, or of the network's own loss where it has one.
    """
    outputs = model(x)
    if hasattr(objective.network(model), "per_image_loss"):
        return objective.loss(model, x, y, outputs)
    return nn.functional.cross_entropy(objective.logits(outputs), y)


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
        """Multiply.

        Args:
            v: [P], or [k, P] for k vectors, which share each micro-batch's gradient.

        Returns:
            Hv, like ``v``.

        Raises:
            InputError: If ``v`` has not P entries, or the data cannot be gone through.
        """
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
