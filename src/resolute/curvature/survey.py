"""Measure the curvature of finished networks on the same images; each network is a file, written when it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import Timeout

from resolute.curvature.hessian import (
    Estimate,
    Hessian,
    cross_entropy,
    eigenvalues,
    loss_along,
    over_batches,
    over_subsets,
    spectrum,
    trace,
)
from resolute.curvature.inputs import input_hessians, jacobian_norms
from resolute.curvature.report import ERRORS, Curvature, write_curvature
from resolute.data.dataset import Images, batches, epoch_order, fingerprint
from resolute.errors import InputError
from resolute.evaluation.measure import check_network
from resolute.noise import robustify
from resolute.progress import progress
from resolute.run_folder import (
    LOCKS,
    RunFolder,
    cell_name,
    digest,
    file_name,
    go_through,
    identity_of,
    locked,
    read_records,
    read_sealed,
    refuse_others,
    versions,
    write_sealed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console
    from torch import Tensor

    from resolute.config import CurvatureConfig
    from resolute.evaluation.networks import Network


BATCHES = 16
"""Micro-batches at least: how they differ is the sampling error of the largest eigenvalue."""
_PARTS = 4
"""Parts of the images on which the largest eigenvalue is found again."""
TRACE_PROBES = 16
RADII_LOSS = 1.0
"""The surface reaches as far as a loss that went on bending as at the network's own place would rise by this much."""


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
    subject: Network,
    images: Images,
    order: Tensor,
    plan: CurvatureConfig,
    tell: Callable[[int], None],
    finish: Callable[[str, str], None],
) -> dict[str, Any]:
    """Measure one network."""
    model = subject.model.double() if plan.double else subject.model
    draws = plan.draws if plan.eps else 0
    if plan.eps:
        robustify.robustify(model, plan.eps, where=plan.where)
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
    parts = over_subsets(hessian, min(_PARTS, math.ceil(len(order) / size)), tol=10 * tol, seed=seed)
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


def _surface(hessian: Hessian, directions: Tensor, values: Tensor, plan: CurvatureConfig) -> dict[str, Any] | None:
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


_Tell = tuple["Callable[[int], None]", "Callable[[str, str], None]"]


def survey(
    subjects: Sequence[Network],
    images: Images,
    plan: CurvatureConfig,
    out: Path,
    *,
    errors: Mapping[str, Mapping[str, float]] | None = None,
    console: Console | None = None,
) -> Curvature:
    """Measure networks and write ``networks/NAME.json``, ``curvature.json`` and ``report.html``."""
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        subjects = [dataclasses.replace(s, name=f"{s.name}-{i}") for i, s in enumerate(subjects, start=1)]
    order = epoch_order(len(images), plan.seed, 0)[: plan.images]
    for subject in subjects:
        place = next(subject.model.parameters()).device
        x, _ = next(batches(images, 16, order=order[:16], device=place))
        check_network(subject.model, x, images.info)
    identity = _identity(subjects, images, plan)
    folder = RunFolder(out, "survey.json", "curvature run", ("networks",))
    folder.claim(identity, identity | {"command": plan.command})
    shared = {key: value for key, value in identity.items() if key != "networks"}
    own = {s.name: identity_of(shared, network={"name": s.name, "sha256": s.sha256}) for s in subjects}
    files = {subject.name: out / "networks" / f"{file_name(subject.name)}.json" for subject in subjects}
    found = {name for name, path in files.items() if _is_measured(path, own[name])}
    with _progress(subjects, found, plan, len(order), console) as (tell, finish):

        def measured(subject: Network) -> bool:
            path, mine = files[subject.name], own[subject.name]
            with contextlib.suppress(Timeout), folder.lock(subject.name):
                if not _is_measured(path, mine):
                    measured = measure_network(subject, images, order, plan, tell, finish)
                    write_sealed(path, measured | {"identity": mine})
            if done := _is_measured(path, mine):
                finish(subject.name, "all")
            return done

        go_through(subjects, measured)
    if errors:
        path = out / ERRORS
        with locked(out / LOCKS, "errors", wait=True):  # another process may add its own
            write_sealed(path, (read_sealed(path) if path.exists() else {}) | dict(errors))
    return write_curvature(out).built


def _is_measured(path: Path, own: Mapping[str, Any]) -> bool:
    """Tell whether a network's file is there; refuse it if it is damaged or belongs to other work."""
    if not path.exists():
        return False
    refuse_others(path, read_sealed(path).get("identity"), own)
    return True


def errors_beside(checkpoints: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Read what `resolute compare` found of its cells: the mean error under each suite."""
    found: dict[str, dict[str, float]] = {}
    for folder in checkpoints:
        if (folder / "records.jsonl").exists():
            rows = read_records(folder / "records.jsonl")
            by_suite = {suite: [row.error for row in rows if row.suite == suite] for suite in {r.suite for r in rows}}
            name = cell_name(rows[0].method, rows[0].seed)
            found[name] = {suite: sum(own) / len(own) for suite, own in sorted(by_suite.items())}
    return found


def survey_folder(subjects: Sequence[Network], images: Images, plan: CurvatureConfig) -> Path:
    """Name the run folder: the same work is continued there, other work gets another."""
    return Path("runs") / f"curvature-{digest(_identity(subjects, images, plan))[:8]}"


def _identity(subjects: Sequence[Network], images: Images, plan: CurvatureConfig) -> dict[str, Any]:
    return {
        "data": images.info.name,
        "split": images.split,
        "n": min(plan.images, len(images)),
        "images": fingerprint(images),
        "plan": {key: value for key, value in dataclasses.asdict(plan).items() if key != "command"},
        "networks": [{"name": s.name, "file": file_name(s.name), "sha256": s.sha256} for s in subjects],
        "versions": versions(),
    }


@contextlib.contextmanager
def _progress(
    subjects: Sequence[Network], found: set[str], plan: CurvatureConfig, n: int, console: Console | None
) -> Iterator[_Tell]:
    """Count images times products with a vector."""
    costs = {
        "input Jacobian": 10,  # one for each class, of which there are ten or, by random vectors, eight
        "input Hessian": plan.steps,
        "largest eigenvalues": 20 + 3 * plan.top + 30,
        "most negative eigenvalue": 60,
        "trace": TRACE_PROBES + plan.top,
        "spectral density": plan.steps * plan.probes,
        "all": math.ceil(plan.surface**2 * min(1, plan.surface_images / n)),
    }
    parts, each = list(costs), n * sum(costs.values())
    with progress(each * len(subjects), console, found=each * len(found)) as meter:
        measured, before, here, now = set(found), 0, 0, ""

        def show(what: str, *, part: bool = False) -> None:
            meter.tell(min(len(measured) * each + before + here, each * len(subjects)), what, part=part)

        def tell(images: int) -> None:
            nonlocal here
            here += images
            show(now)

        def finish(name: str, what: str) -> None:
            nonlocal before, here, now
            if what == "all":
                measured.add(name)
            before = n * sum(costs[key] for key in parts[: (parts.index(what) + 1) % len(parts)])
            here, now = 0, f"{name}: {what} done"
            show(now, part=True)

        yield tell, finish
