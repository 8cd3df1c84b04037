"""Which places of a network ``where`` names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from resolute.errors import InputError

Predicate = Callable[[str, nn.Module], bool]
Where = str | type[nn.Module] | Predicate | Sequence[str | type[nn.Module] | Predicate]
Side = Literal["input", "output"]
Found = dict[tuple[str, Side], nn.Module]

_RECTIFIERS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU,
    nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
)  # fmt: skip
_RECTIFIER_NAME = re.compile(r"relu|gelu|selu|celu|silu|swish|mish|^elu", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Site:
    """One place where noise is or would be put.

    Attributes:
        name: The module's name in ``model.named_modules()``; empty for the input of the model itself.
        module_type: The module's own class, also while it is perturbed.
    """

    name: str
    module_type: type[nn.Module]


def sites(model: nn.Module, where: Where = "hidden") -> list[Site]:
    """List the places that `robustify` would touch, or has touched.

    Args:
        model: Any module, perturbed or not.
        where: As in `robustify`.

    Returns:
        The sites in the order of ``model.named_modules()``; a shared module stands there once.

    Raises:
        InputError: If ``where`` matches no module.
    """
    return [Site(name, own_class(module)) for (name, _), module in find(model, where).items()]


def own_class(module: nn.Module) -> type[nn.Module]:
    """Tell the class that a module has without noise.

    Args:
        module: A module, perturbed or not.

    Returns:
        Its own class.
    """
    return getattr(module, "_own", type(module))


def find(model: nn.Module, where: Where) -> Found:
    """Find the modules that ``where`` names.

    Args:
        model: Any module, perturbed or not.
        where: As in `robustify`.

    Returns:
        The modules by name and side, in the order of ``model.named_modules()``; a shared module stands there once.

    Raises:
        InputError: If ``where`` matches no module; the message names the candidates.
    """
    if isinstance(where, Sequence) and not isinstance(where, str):
        if not where:
            raise InputError('where is empty. Try where="hidden".')
        order = [name for name, _ in model.named_modules()]
        sites = [site for item in where for site in find(model, item).items()]
        return dict(sorted(sites, key=lambda site: order.index(site[0][0])))
    if where == "both":
        return find(model, "input") | find(model, "hidden")
    if where == "input":
        return _input_site(model)
    matches = _predicate(where)
    found: Found = {(name, "output"): module for name, module in model.named_modules() if matches(name, module)}
    if not found:
        raise InputError(_nothing_matched(model, where))
    return found


def _predicate(where: str | type[nn.Module] | Predicate) -> Predicate:
    if where == "hidden":
        return lambda _, module: _is_rectifier(module)
    if isinstance(where, str):
        return lambda name, _: fnmatchcase(name, where)
    if isinstance(where, type):
        return lambda _, module: isinstance(module, where)
    return where


def _is_rectifier(module: nn.Module) -> bool:
    is_named_so = _RECTIFIER_NAME.search(own_class(module).__name__) is not None
    return isinstance(module, _RECTIFIERS) or (is_named_so and next(module.children(), None) is None)


def _input_site(model: nn.Module) -> Found:
    """Find the first leaf if it normalises, else the model under the wrappers of torch.compile and DDP."""
    name, first = next(_leaves(model))
    if own_class(first).__name__ == "Normalize":
        return {(name, "output"): first}
    inner = model
    while isinstance(wrapped := _unwrapped(inner), nn.Module):
        inner = wrapped
    return {(name, "input"): m for name, m in model.named_modules() if m is inner}


def _leaves(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if next(module.children(), None) is None)


def _unwrapped(model: nn.Module) -> Any:
    is_parallel = isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel)
    return model.module if is_parallel else getattr(model, "_orig_mod", None)


def _nothing_matched(model: nn.Module, where: Any) -> str:
    leaves = [(name, own_class(m).__name__) for name, m in _leaves(model)]
    counts = ", ".join(f"{n} {kind}" for kind, n in Counter(kind for _, kind in leaves).most_common(8))
    names = ", ".join(repr(name) for name, _ in leaves[:8]) + (f" and {len(leaves) - 8} more" if leaves[8:] else "")
    shown = where if isinstance(where, str) else getattr(where, "__name__", where)
    functional = "Activations called as functions (F.relu) are not modules. " if where == "hidden" else ""
    return (
        f"where={shown!r} matches no module of {type(model).__name__}. Candidates: {counts}; by name {names}. "
        f"{functional}Name modules by type (where=torch.nn.Conv2d) or pattern (where='layer?.*'), or use where='input'."
    )
