"""Which places of a network ``where`` names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn

from resolute.calls import called
from resolute.errors import InputError
from resolute.op import Perturb

Predicate = Callable[[str, nn.Module], bool]
Item = str | type[nn.Module] | Predicate
Where = Item | Sequence[Item | None]
Side = Literal["input", "output"]
Found = dict[tuple[str, Side], nn.Module]

_RECTIFIERS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU,
    nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
)  # fmt: skip
_RECTIFIER_NAME = re.compile(r"relu|gelu|selu|celu|xielu|silu|swish|mish|^elu|^evonorm|tlu", re.IGNORECASE)
_GATE_NAME = re.compile(r"sigmoid|gate", re.IGNORECASE)

_INPUT_SUFFIX = ":input"


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
        return _find_all(model, [item for item in where if item is not None])
    if where == "both":
        return find(model, "input") | find(model, "hidden")
    if where == "input":
        return _input_site(model)
    found = _matched(model, where)
    if not found:
        raise InputError(_nothing_matched(model, where))
    return found


def _find_all(model: nn.Module, items: list[Item]) -> Found:
    """Find what several items name; "hidden" may name nothing where another one names hidden places."""
    if not items:
        raise InputError('where is empty. Try where="hidden".')
    keywords = ("hidden", "input", "both")
    spares_hidden = any(item not in keywords for item in items)
    found = [_matched(model, item) if item == "hidden" and spares_hidden else find(model, item) for item in items]
    order = {name: n for n, (name, _) in enumerate(model.named_modules())}
    return dict(sorted((site for each in found for site in each.items()), key=lambda site: order[site[0][0]]))


def _matched(model: nn.Module, where: Item) -> Found:
    side: Side = "output"
    if isinstance(where, str) and where.endswith(_INPUT_SUFFIX):
        where, side = where.removesuffix(_INPUT_SUFFIX), "input"
    matches = _predicate(where)
    return {(name, side): module for name, module in model.named_modules() if matches(name, module)}


def _predicate(where: Item) -> Predicate:
    if where == "hidden":
        return lambda _, module: is_rectifier(module)
    if isinstance(where, str):
        return lambda name, _: fnmatchcase(name, where)
    if isinstance(where, type):
        return lambda _, module: isinstance(module, where)
    return where


def is_rectifier(module: nn.Module) -> bool:
    """Tell whether a module is an activation of the rectifier family.

    It is one by its class, by its name, or because it calls such an activation as a function and holds nothing else.

    Args:
        module: A module, perturbed or not.

    Returns:
        True for ReLU, GELU, timm's GammaAct, ...; False for gates such as Sigmoid and for blocks that hold modules.
    """
    if isinstance(module, _RECTIFIERS):
        return True
    own = own_class(module)
    if next(module.children(), None) is not None or is_gate(module):
        return False
    if _RECTIFIER_NAME.search(own.__name__):
        return getattr(module, "apply_act", True) is not False
    return next(module.parameters(), None) is None and called(module, own) != ()


def functional(model: nn.Module, found: Found) -> str:
    """List the modules whose code calls activations as functions, where no noise of ``found`` is known to reach them.

    Args:
        model: Any module, perturbed or not.
        found: The places that get noise.

    Returns:
        Such as ``"94 BasicConv2d (relu)"``; empty if there is none.
    """
    names: Counter[str] = Counter()
    for name, module in model.named_modules():
        gets_noise = (name, "output") in found or any(
            (f"{name}.{key}".lstrip("."), "input") in found or isinstance(child, Perturb)
            for key, child in module.named_children()
        )
        if gets_noise or is_rectifier(module) or is_gate(module):
            continue
        if functions := called(module, own_class(module)):
            names[f"{own_class(module).__name__} ({', '.join(functions)})"] += 1
    return ", ".join(f"{n} {kind}" for kind, n in names.most_common())


def is_gate(module: nn.Module) -> bool:
    """Tell whether a module is a gate by its name, such as timm's HardSigmoid, which calls relu6.

    Args:
        module: A module, perturbed or not.

    Returns:
        True if it holds no module and is named after a sigmoid or gate.
    """
    return next(module.children(), None) is None and _GATE_NAME.search(own_class(module).__name__) is not None


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
    return (
        f"where={shown!r} matches no module of {type(model).__name__}. Candidates: {counts}; by name {names}. "
        f"{_said_of_functions(model, where)}Name modules by type (where=torch.nn.Conv2d) or pattern "
        "(where='layer?.*'), or use where='input'."
    )


def _said_of_functions(model: nn.Module, where: Any) -> str:
    if where != "hidden":
        return ""
    calls = functional(model, {})
    seen = f"This network calls some: {calls}. " if calls else ""
    return (
        f"Activations called as functions (F.relu) are not modules. {seen}resolute.unreached(model, example) finds "
        "them and tells what to name. "
    )
