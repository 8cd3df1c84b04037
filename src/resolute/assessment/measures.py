"""Everything that a survey of curvature measures of one network."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from resolute import surgery
from resolute.curvature import (
    Estimate,
    Hessian,
    cross_entropy,
    eigenvalues,
    input_hessians,
    jacobian_norms,
    loss_along,
    over_batches,
    over_subsets,
    spectrum,
    trace,
)
from resolute.data import Images, batches
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from resolute.assessment.subjects import Subject

BATCHES = 16
"""Micro-batches at least: how they differ is the sampling error of the largest eigenvalue."""
PARTS = 4
"""Parts of the images on which the largest eigenvalue is found again."""
TRACE_PROBES = 16
RADII_LOSS = 1.0
"""The surface reaches as far as a loss that went on bending as at the network's own place would rise by this much."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is measured.

    Attributes:
        images: Number of images, drawn at random from the split by ``seed``.
        top: Eigenvalues by the parameters that are found.
        steps: Lanczos steps of the density and of each image.
        probes: Random vectors of the density.
        surface: Points along each of the two leading directions; 0 for no surface.
        surface_images: Images of the surface.
        eps: Strength of sign noise that sounds during the measurement; 0 for none.
        where: Its places.
        draws: Draws of it that are averaged.
        batch_size: Images in a micro-batch, which bounds the memory and changes no number.
        double: Measure in float64.
        seed: Seed of images, vectors and draws.
        command: The command line to quote.
    """

    images: int = 1000
    top: int = 5
    steps: int = 30
    probes: int = 4
    surface: int = 15
    surface_images: int = 200
    eps: float = 0.0
    where: str = "hidden"
    draws: int = 4
    batch_size: int = 250
    double: bool = False
    seed: int = 0
    command: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("images", "top", "steps", "draws", "batch_size", "probes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 <= self.surface <= 101:
            raise InputError(f"surface is {self.surface}; it is a number of points from 0 (none) to 101.")


@dataclass(frozen=True, slots=True)
class _Micro:
    """The images again and again, as micro-batches; decoded anew each time where they stream from the disk."""

    images: Images
    order: Tensor
    size: int
    device: torch.device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return batches(self.images, self.size, order=self.order, device=self.device)


def measure_network(
    subject: Subject,
    images: Images,
    order: Tensor,
    plan: Survey,
    tell: Callable[[int], None],
    finish: Callable[[str, str], None],
) -> dict[str, Any]:
    """Measure one network.

    Args:
        subject: The network, on its device.
        images: What the loss is taken over.
        order: int64, which of them.
        plan: What to measure.
        tell: Called after each micro-batch with images times vectors.
        finish: Called after each part with the network's name and the part's.

    Returns:
        What ``networks/NAME.json`` holds.
    """
    model = subject.model.double() if plan.double else subject.model
    draws = plan.draws if plan.eps else 0
    if plan.eps:
        surgery.robustify(model, plan.eps, where=plan.where)
    size = min(plan.batch_size, math.ceil(len(order) / BATCHES))
    data = _Micro(images, order, size, next(model.parameters()).device)
    noise: dict[str, Any] = {"draws": draws, "seed": plan.seed}
    norms = jacobian_norms(model, data, on_batch=tell, **noise)
    finish(subject.name, "input Jacobian")
    by_input = input_hessians(model, cross_entropy, data, steps=plan.steps, on_batch=tell, **noise)
    finish(subject.name, "input Hessian")
    hessian = Hessian(model, cross_entropy, data, on_batch=tell, **noise)
    seed = plan.seed
    tol = 1e-8 if plan.double else 1e-3
    top = eigenvalues(hessian, plan.top, tol=tol, seed=seed)
    sampled = over_batches(hessian, top.vectors[0])
    parts = over_subsets(hessian, min(PARTS, math.ceil(len(order) / size)), tol=10 * tol, seed=seed)
    finish(subject.name, "largest eigenvalues")
    lowest = _lowest(hessian, seed)
    finish(subject.name, "most negative eigenvalue")
    whole = trace(hessian, TRACE_PROBES, basis=top.vectors, seed=seed)
    finish(subject.name, "trace")
    density = spectrum(hessian, plan.steps, plan.probes, seed=seed)
    finish(subject.name, "spectral density")
    found = {
        "input-jacobian": _over_images(norms),
        "input-top": _over_images(by_input.top),
        "input-trace": _over_images(by_input.trace),
        "parameter-top": dataclasses.replace(sampled, value=float(top.values[0])),
        "parameter-lowest": lowest,
        "parameter-trace": whole,
        "parameter-top-of-a-part": _over_images(torch.tensor(parts, dtype=torch.float64)),
    }
    return {
        "name": subject.name,
        "architecture": subject.architecture,
        "sha256": subject.sha256,
        "parameters": hessian.size,
        "quantities": {key: _json(estimate) for key, estimate in found.items() if estimate is not None},
        "top": top.values.tolist(),
        "top_errors": top.errors.tolist(),
        "nodes": density.nodes.tolist(),
        "weights": density.weights.tolist(),
        "jacobian_norms": [round(value, 6) for value in norms.tolist()],
        "surface": _surface(hessian, top.vectors[:2], top.values, plan),
    }


def _lowest(hessian: Hessian, seed: int) -> Estimate | None:
    """Find the most negative eigenvalue, which lies so near others that it may not settle; then there is none."""
    try:
        found = eigenvalues(hessian, which="smallest", tol=0.05, restarts=15, seed=seed)
    except InputError:
        return None
    return Estimate(float(found.values[0]), float(found.errors[0]), 1)


def _over_images(values: Tensor) -> Estimate:
    n = len(values)
    return Estimate(float(values.mean()), float(values.std() / n**0.5) if n > 1 else math.nan, n)


def _json(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "se": None if math.isnan(estimate.se) else estimate.se, "n": estimate.n}


def _surface(hessian: Hessian, directions: Tensor, values: Tensor, plan: Survey) -> dict[str, Any] | None:
    if plan.surface < 2 or len(directions) < 2 or float(values[0]) <= 0:
        return None
    reach = math.sqrt(2 * RADII_LOSS / float(values[0]))
    radii = torch.linspace(-reach, reach, plan.surface, dtype=torch.float64)
    data = hessian.data
    if isinstance(data, _Micro):
        data = dataclasses.replace(data, order=data.order[: plan.surface_images])
    losses = loss_along(dataclasses.replace(hessian, data=data), directions, radii)
    return {"radii": radii.tolist(), "loss": [[_finite(v) for v in row] for row in losses.tolist()]}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
