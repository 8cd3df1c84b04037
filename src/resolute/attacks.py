"""Attacks in pixel space: pure functions of (network, images, labels, radius).

FGSM and PGD are written here as one loop in which the ball varies; Square and AutoAttack are torchattacks'.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError, in_words, parse_radius

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["autoattack", "fgsm", "pgd", "square"]


def answer(model: nn.Module, x: Tensor) -> Any:
    """Ask a network in the precision of its weights, on a copy: some networks normalise their input in place."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
    try:
        outputs = model(x.to(dtype, copy=not x.requires_grad))
    except RuntimeError as error:  # a copy of a leaf is no leaf, which torch.compile cannot take without a warning
        if "leaf Variable" not in str(error):
            raise
        outputs = model(x.to(dtype, copy=True))
    return outputs.float() if isinstance(outputs, Tensor) and outputs.dtype.itemsize < 4 else outputs


def is_right(logits: Tensor, y: Tensor) -> Tensor:
    """Tell which images a network is right about; an answer with NaN or infinity in it is wrong."""
    return (logits.argmax(1) == y) & logits.isfinite().all(1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode and give each module its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def check_images(x: Any) -> None:
    """Refuse what is no batch of images [n, C, H, W] in [0, 1]."""
    if not isinstance(x, Tensor):
        raise InputError(f"the images are a {type(x).__name__}; wanted is a torch.Tensor: torch.as_tensor(x).")
    what = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
    if x.ndim != 4 or (x.shape[1] not in {1, 3} and x.shape[-1] in {1, 3}):
        hint = ": move the channels with x.movedim(-1, 1)" if x.ndim == 4 else ""
        raise InputError(f"the images are {what}; wanted is [n, 1 or 3, height, width]{hint}.")
    if not x.is_floating_point():
        raise InputError(f"the images are {what}; wanted are floats in [0, 1]: x.float() / 255.")
    low, high = (value.item() for value in x.aminmax()) if x.numel() else (0.0, 0.0)
    if not 0 <= low <= high <= 1:
        found = "hold NaN" if low != low else f"reach from {low:.4g} to {high:.4g}"
        raise InputError(
            f"the images {found}; wanted is [0, 1]: pixels divided by 255, before any normalisation, which belongs "
            "into the network."
        )


def check_labels(x: Tensor, y: Any) -> None:
    """Refuse labels that are not one class number for each image."""
    if not isinstance(y, Tensor) or y.shape != x.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
        what = f"{y.dtype} {tuple(y.shape)}".removeprefix("torch.") if isinstance(y, Tensor) else type(y).__name__
        raise InputError(
            f"the labels of a batch are {what}; wanted is one class number for each of its {len(x)} images, integers."
        )


def check_range(y: Tensor, classes: int) -> None:
    """Refuse labels that a network has no logit for."""
    low, high = (int(value) for value in y.aminmax())
    if not 0 <= low <= high < classes:
        raise InputError(
            f"the labels reach from {low} to {high}, and there are {classes} classes: wanted is 0 to {classes - 1}."
        )


def check_logits(outputs: Any, n: int) -> Tensor:
    """Refuse what is not one tensor of logits [n, classes]; its numbers are not looked at."""
    if not isinstance(outputs, Tensor):
        many = f" of {len(outputs)}" if isinstance(outputs, (tuple, list)) else ""
        part = "its .logits" if hasattr(outputs, "logits") else "the logits"
        raise InputError(
            f"the model returns a {type(outputs).__name__}{many}; wanted is one tensor of logits [n, classes]. Wrap it "
            f"in a module that returns {part} alone."
        )
    if outputs.shape in {(n,), (n, 1)} and outputs.is_floating_point():
        raise InputError(
            f"the model returns one logit for each of {n} images; wanted are logits [n, classes]. Of a binary head z "
            "they are torch.cat([torch.zeros_like(z), z], 1), z [n, 1]: the same probabilities, and the same loss."
        )
    if outputs.ndim != 2 or len(outputs) != n or not outputs.is_floating_point():
        what = f"{outputs.dtype} {tuple(outputs.shape)}".removeprefix("torch.")
        raise InputError(f"the model returns {what} for {n} images; wanted are logits [n, classes], floats.")
    return outputs


def first_answer(
    model: nn.Module, x: Tensor, *, classes: int = 0, data: str = "", gradient: Literal["", "images", "weights"] = ""
) -> Tensor:
    """Ask a network about a few images, and refuse one without usable logits or a gradient where one must reach."""
    try:
        with evaluating(model), torch.set_grad_enabled(bool(gradient)):
            x = x.detach().float().clone().requires_grad_(gradient == "images")
            logits = check_logits(answer(model, x), len(x))
            reached = logits.requires_grad
            if reached and gradient == "images":
                reached = torch.autograd.grad(logits.sum(), x, allow_unused=True)[0] is not None
    except (RuntimeError, AssertionError, ValueError, TypeError, LookupError, AttributeError) as error:
        if in_words(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"the model cannot take images of {'x'.join(map(str, x.shape[1:]))} pixels (channels first): {reason}"
        ) from error
    if classes and logits.shape[1] != classes:
        raise InputError(
            f"the model tells {logits.shape[1]} classes apart, and {data} has {classes}: wanted is a network with one "
            "logit for each of these classes."
        )
    if not logits.isfinite().all(1).any():
        raise InputError("the model answers with NaN or infinity on clean images: its weights are broken.")
    if gradient and not reached:
        raise InputError(
            f"no gradient of the model's answer reaches the {gradient}. Take torch.no_grad, detach, numpy and the like "
            "out of its forward."
        )
    return logits.detach()


PROBE = 4
"""Images that a network is shown before it is attacked."""


def _checked(model: nn.Module, x: Tensor, y: Tensor, gradient: Literal["", "images"] = "images") -> Tensor:
    """Refuse what cannot be attacked; give the labels as the loss takes them."""
    check_images(x)
    check_labels(x, y)
    if not len(x):
        raise InputError("the batch is empty; wanted is at least one image.")
    check_range(y, first_answer(model, x[:PROBE], gradient=gradient).shape[1])
    return y.to(x.device, torch.int64)


def _whole(**numbers: Any) -> None:
    if not all(isinstance(number, Integral) and int(number) >= 1 for number in numbers.values()):
        told = ", ".join(f"{name}={number!r}" for name, number in numbers.items())
        raise InputError(f"the attack got {told}; wanted are whole numbers, 1 or more.")


def fgsm(model: nn.Module, x: Tensor, y: Tensor, radius: float | str, *, check: bool = True) -> Tensor:
    """Take one step of the fast gradient sign method (Goodfellow et al. 2014).

    x' = clip(x + radius * sgn(dL/dx), 0, 1) with the cross-entropy loss L. The network is in evaluation mode while
    the gradient is taken (running BatchNorm statistics, no dropout, no noise): the network that will be deployed is
    the one attacked. Its modes, buffers, parameters and their gradients are left as they were.

    Args:
        model: Images in [0, 1] in, logits out; any normalisation is inside it.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, integers [n].
        radius: Largest change of a pixel, in pixel units: 0.1 or ``"8/255"``.
        check: Look at images, labels and a first answer of the network before any work. A training step leaves it out.

    Returns:
        The attacked images, detached, in [0, 1], within ``radius`` of ``x``.

    Raises:
        InputError: If the images are not floats [n, C, H, W] in [0, 1] or the labels not one class for each, if the
            network returns no logits or no gradient reaches its input, or if a number is out of range.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
        >>> bool(((fgsm(model, x, y, 0.1) - x).abs() <= 0.1 + 1e-6).all())
        True
    """
    size = parse_radius(radius)
    y = _checked(model, x, y) if check else y
    at = x.float()
    return (at + size * input_gradient(model, at, y).sign()).clamp(0, 1).to(x.dtype)


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: float | str,
    step: float | str,
    steps: int,
    restarts: int = 1,
    norm: Literal["linf", "l2"] = "linf",
    *,
    starts: Callable[[int], Tensor] | None = None,
    early_stop: bool = False,
    check: bool = True,
) -> Tensor:
    """Ascend the loss by projected gradient steps from random starts (Madry et al. 2018).

    ``x' <- clip(x + P(x' + step * d - x), 0, 1)``: d is the sign of the gradient for linf, the gradient over its
    length for l2, P the projection onto the ball. Computed in float32 whatever the precision of images and network,
    and rounded once at the end: near 1 two neighbours in bfloat16 are 1/256 apart, as far as a small radius.

    Args:
        model: As in `fgsm`, and treated the same way.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, integers [n].
        radius: Size of the ball around each image, in pixel units.
        step: Length of a step, in pixel units; above 0 unless the radius is 0.
        steps: Number of steps, at least 1.
        restarts: Random starts; for each image the result with the highest loss is kept.
        norm: ``"linf"`` bounds every pixel, ``"l2"`` the Euclidean norm of an image's change; its radius and step may
            then be above 1.
        starts: For each restart, from 0, the change [n, C, H, W] to begin with, within the ball; by default uniform
            in the ball, from torch's generator.
        early_stop: Leave an image alone as soon as the network is wrong about it: right answers are the same, at a
            fraction of the cost, the loss is not the highest.
        check: As in `fgsm`.

    Returns:
        The attacked images, detached, in [0, 1], within ``radius`` of ``x``.

    Raises:
        InputError: As `fgsm`; and if the norm is unknown.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
        >>> bool(((pgd(model, x, y, "8/255", "2/255", steps=7) - x).abs() <= 8 / 255 + 1e-6).all())
        True
    """
    _whole(steps=steps, restarts=restarts)
    if norm not in _BALLS:
        raise InputError(f"pgd got norm={norm!r}; it is one of {', '.join(_BALLS)}.")
    y = _checked(model, x, y) if check else y
    largest = 1.0 if norm == "linf" else max(1.0, x[0].numel() ** 0.5)
    size, length = parse_radius(radius, largest), parse_radius(step, largest, "step")
    if size > 0 and length == 0:
        raise InputError(f"pgd got step={step!r} at radius={radius!r}: it would stay where it starts.")
    ball, at = _BALLS[norm], x.float()
    best, highest = at.clone(), torch.full((len(x),), -torch.inf, device=x.device)
    todo = torch.arange(len(x), device=x.device)
    for restart in range(restarts):
        begin = starts(restart) if starts else ball.start(at, size)
        attacked = _ascend(model, at[todo], y[todo], begin[todo], ball, (size, length, steps), early_stop)
        if restarts == 1:
            return attacked.to(x.dtype)
        loss, right = _loss_and_right(model, attacked, y[todo])
        higher = loss > highest[todo]
        best[todo[higher]], highest[todo[higher]] = attacked[higher], loss[higher]
        todo = todo[right] if early_stop else todo
        if not len(todo):
            break
    return best.to(x.dtype)


def _ascend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    begin: Tensor,
    ball: _Ball,
    settings: tuple[float, float, int],
    early_stop: bool,
) -> Tensor:
    size, length, steps = settings
    attacked = (x + begin).clamp(0, 1)
    active = torch.arange(len(x), device=x.device)
    for _ in range(steps):
        grad, logits = _differentiate(model, attacked[active], y[active])
        if early_stop:
            going = is_right(logits, y[active])
            active, grad = active[going], grad[going]
            if not len(active):
                break
        moved = attacked[active] + length * ball.direct(grad) - x[active]
        attacked[active] = (x[active] + ball.project(moved, size)).clamp(0, 1)
    return attacked


def _loss_and_right(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each image's loss, infinite where the answer is no number, and whether the network is right about it."""
    with evaluating(model), torch.no_grad():
        logits = answer(model, x)
    loss = F.cross_entropy(logits, y, reduction="none")
    return loss.nan_to_num(nan=torch.inf, posinf=torch.inf), is_right(logits, y)


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Differentiate the cross-entropy loss with respect to the images."""
    return _differentiate(model, x, y)[0]


def losses(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute each image's cross-entropy loss in evaluation mode."""
    return _loss_and_right(model, x, y)[0]


def _differentiate(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient and the logits that it was taken at."""
    with evaluating(model), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        logits = answer(model, x)
        (grad,) = torch.autograd.grad(F.cross_entropy(logits, y, reduction="sum"), x)
    return grad, logits.detach()


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
        direct=lambda grad: (grad / _norm(grad)).nan_to_num(),
        project=lambda delta, radius: delta * (radius / _norm(delta)).clamp_max(1),
    ),
}

DLR_CLASSES = 4
"""The targeted difference-of-logits-ratio loss divides by the third and fourth largest logits."""


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    radius: float | str,
    queries: int = 5000,
    *,
    seed: int = 0,
    check: bool = True,
) -> Tensor:
    """Search at random for squares that fool a network, without its gradient (linf).

    Args:
        model: Images in [0, 1] in, logits out.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, integers [n].
        radius: Largest change of a pixel, in pixel units.
        queries: Forward passes for an image at most; the authors' number.
        seed: Seed of the search. The squares of an image depend on the other images of its batch too; the suite
            ``attacks`` gives it the same images together whatever the batch size.
        check: As in `fgsm`.

    Returns:
        The attacked images, detached, in [0, 1]; those that were wrong already are left as they are.

    Raises:
        InputError: As `fgsm`; and if torchattacks is not installed.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x, y = torch.full((3, 1, 2, 2), 0.5), torch.tensor([0, 1, 0])
        >>> bool(((square(model, x, y, 0.1, queries=10) - x).abs() <= 0.1 + 1e-6).all())
        True
    """
    size = parse_radius(radius)
    _whole(queries=queries)
    y = _checked(model, x, y, "") if check else y

    def make(library: Any, network: nn.Module) -> Any:
        return library.Square(network, norm="Linf", eps=size, n_queries=queries, seed=seed)

    return _run(model, x, y, size, make)


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, radius: float | str, *, seed: int = 0, check: bool = True
) -> Tensor:
    """Attack by the standard ensemble: APGD on cross-entropy, targeted APGD on DLR, targeted FAB, Square (linf).

    With fewer than four classes the targeted DLR loss is not defined: that member is left out.

    Args:
        model: Images in [0, 1] in, logits out.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, integers [n].
        radius: Largest change of a pixel, in pixel units.
        seed: Seed of the random starts, which depend on the other images of the batch too, as with `square`.
        check: As in `fgsm`.

    Returns:
        The attacked images, detached, in [0, 1].

    Raises:
        InputError: As `fgsm`; and if torchattacks is not installed.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x, y = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
        >>> bool(((autoattack(model, x, y, 0.1) - x).abs() <= 0.1 + 1e-6).all())
        True
    """
    size = parse_radius(radius)
    y = _checked(model, x, y) if check else y
    with evaluating(model), torch.no_grad():
        classes = answer(model, x[:1]).shape[1]

    def make(library: Any, network: nn.Module) -> Any:
        shared = {"norm": "Linf", "eps": size, "seed": seed, "n_restarts": 1}
        many = {"n_classes": classes}
        members = [library.APGD(network, loss="ce", **shared)]
        if classes >= DLR_CLASSES:
            members.append(library.APGDT(network, **shared, **many))
        members.append(library.FAB(network, multi_targeted=True, **shared, **many))
        members.append(library.Square(network, n_queries=5000, **shared))
        return library.MultiAttack(members)

    return _run(model, x, y, size, make)


class _Asked(nn.Module):
    """The network as a module of its own, whose modes a library may set."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = answer(self.model, x)
        return logits


def _run(model: nn.Module, x: Tensor, y: Tensor, size: float, make: Callable[[Any, nn.Module], Any]) -> Tensor:
    """Attack the images that the network is right about, within [0, 1], and leave torch's generators as they were."""
    library = torchattacks()
    at = x.float()
    if size == 0:
        return x
    flags = [(p, p.requires_grad) for p in model.parameters()]
    with evaluating(model), torch.random.fork_rng(range(torch.cuda.device_count())):
        with torch.no_grad():
            todo = is_right(answer(model, at), y).nonzero()[:, 0]
        if len(todo):
            near = at[todo]
            with torch.enable_grad():
                found = make(library, _Asked(model))(near.clone(), y[todo]).detach()
            found = torch.where(found.isfinite(), found, near)
            at = at.index_copy(0, todo, torch.minimum(torch.maximum(found, near - size), near + size).clamp(0, 1))
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
    return at.to(x.dtype)


def torchattacks() -> Any:
    """Import the library, so that its absence is told before anything is computed."""
    try:
        return importlib.import_module("torchattacks")
    except ImportError as error:
        raise InputError(
            "Square and AutoAttack come from torchattacks, which is not installed: pip install 'resolute[attacks]'."
        ) from error
