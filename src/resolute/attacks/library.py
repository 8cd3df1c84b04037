"""Square and AutoAttack (Croce and Hein 2020, Andriushchenko et al. 2020) as torchattacks has them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute.attacks.network import answer, evaluating
from resolute.attacks.radius import parse_radius
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

DLR_CLASSES = 4
"""The targeted difference-of-logits-ratio loss divides by the third and fourth largest logits."""


def square(
    model: nn.Module, x: Tensor, y: Tensor, radius: float | str, queries: int = 5000, *, seed: int = 0
) -> Tensor:
    """Search at random for squares that fool a network, without its gradient (linf).

    Args:
        model: Images in [0, 1] in, logits out.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, int64 [n].
        radius: Largest change of a pixel, in pixel units.
        queries: Forward passes for an image at most; the authors' number.
        seed: Seed of the search. The squares of an image depend on the other images of its batch too; the suite
            ``attacks`` gives it the same images together whatever the batch size.

    Returns:
        The attacked images, detached, in [0, 1]; those that were wrong already are left as they are.

    Raises:
        InputError: If torchattacks is not installed, or the radius is not a number in [0, 1].
    """
    size = parse_radius(radius)

    def make(library: Any, network: nn.Module) -> Any:
        return library.Square(network, norm="Linf", eps=size, n_queries=queries, seed=seed)

    return _run(model, x, y, size, make)


def autoattack(model: nn.Module, x: Tensor, y: Tensor, radius: float | str, *, seed: int = 0) -> Tensor:
    """Attack by the standard ensemble: APGD on cross-entropy, targeted APGD on DLR, targeted FAB, Square (linf).

    With fewer than four classes the targeted DLR loss is not defined: that member is left out.

    Args:
        model: Images in [0, 1] in, logits out.
        x: Images, float [n, C, H, W] in [0, 1].
        y: Labels, int64 [n].
        radius: Largest change of a pixel, in pixel units.
        seed: Seed of the random starts, which depend on the other images of the batch too, as with `square`.

    Returns:
        The attacked images, detached, in [0, 1].

    Raises:
        InputError: If torchattacks is not installed, or the radius is not a number in [0, 1].
    """
    size = parse_radius(radius)
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
            todo = (answer(model, at).argmax(1) == y).nonzero()[:, 0]
        if len(todo):
            with torch.enable_grad():
                found = make(library, _Asked(model))(at[todo], y[todo]).detach()
            near = at[todo]
            at = at.index_copy(0, todo, torch.minimum(torch.maximum(found, near - size), near + size).clamp(0, 1))
    for parameter, flag in flags:
        parameter.requires_grad_(flag)
    return at.to(x.dtype)


def torchattacks() -> Any:
    """Import the library, so that its absence is told before anything is computed.

    Returns:
        The module.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return importlib.import_module("torchattacks")
    except ImportError as error:
        raise InputError(
            "Square and AutoAttack come from torchattacks, which is not installed: pip install 'resolute[attacks]'."
        ) from error
