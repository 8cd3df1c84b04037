"""Put noise into any network and take it out again.

A perturbed module keeps its identity, parameters and state; only its class is exchanged for a subclass whose `forward`
adds the noise in training mode. So no parameter and no buffer is added, state_dict keys stay as they were, shared and
in-place activations work, and code compiled before notices the change, as it would not notice a hook.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from resolute.activation import activate
from resolute.errors import InputError
from resolute.op import check, noisy

Noise = Callable[[Tensor], Tensor]
"""What is put at a site: a picklable function of a tensor, such as ``functools.partial(noise, eps=0.1)``."""

Predicate = Callable[[str, nn.Module], bool]
Where = str | type[nn.Module] | Predicate | Sequence[str | type[nn.Module] | Predicate]

_Model = TypeVar("_Model", bound=nn.Module)
_Side = Literal["input", "output"]
_Found = dict[tuple[str, _Side], nn.Module]

_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}
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


def robustify(model: _Model, eps: float = 0.1, p: float = 0.5, where: Where = "hidden") -> _Model:
    """Put g(x) = x + eps * x * l(x) at the input or the activations of a network, in place.

    The noise acts in training mode only; ``model.eval()`` gives the untouched network bit for bit. Calling it again
    replaces eps and p at the places that it names and leaves the others, so that input and hidden may differ.

    Args:
        model: Any module. Keep using it as before: same parameters, same state_dict keys, same type by isinstance.
        eps: Strength of the noise, 0 <= eps < 1 (see `perturb`).
        p: Probability of the sign +1, in [0, 1]. Unless it is 0.5 the mean of each activation shifts by
            eps * (2p - 1) * |x| and BatchNorm learns the shifted statistics: estimate them again after training
            (``torch.optim.swa_utils.update_bn`` with eps 0).
        where: ``"hidden"``: the output of each activation module of the rectifier family (ReLU, GELU, SiLU, ...).
            ``"input"``: the tensor that enters the network, after its own Normalize layer if it begins with one.
            ``"both"``. Or a module type, a glob pattern over module names such as ``"layer?.*.relu"``, a predicate
            ``(name, module) -> bool``, or a sequence of these.

    Returns:
        The same model.

    Raises:
        InputError: If eps or p is out of range, or if ``where`` (or an item of it) matches no module; the message
            names the candidates.

    Example:
        >>> model = robustify(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), eps=0.1)
        >>> sites(model)
        [Site(name='1', module_type=<class 'torch.nn.modules.activation.ReLU'>)]
    """
    check(eps, p)
    return attach(model, functools.partial(noisy, eps=np.float64(eps), p=p), where)


def unrobustify(model: _Model) -> _Model:
    """Take all noise out of a network, in place.

    Args:
        model: A module, perturbed or not.

    Returns:
        The same model, exactly as it was before `robustify`.

    Raises:
        InputError: If another tool has exchanged the class of a perturbed module in the meantime.
    """
    perturbed = [module for module in model.modules() if isinstance(module, _Perturbed)]
    for module in perturbed:
        if type(module) is not _CLASSES[module._own]:
            raise InputError(
                f"a {type(module).__name__} had its class exchanged after robustify, as parametrize and fully_shard "
                "do. Undo that first, or silence the noise with set_eps(model, 0)."
            )
    for module in perturbed:
        del module.__dict__["_noise"]
        own: type[Any] = module._own
        module.__class__ = own
    return model


def is_robust(model: nn.Module) -> bool:
    """Tell whether any module of a network carries noise.

    Args:
        model: A module.

    Returns:
        True after `robustify`, False after `unrobustify`.
    """
    return any(isinstance(module, _Perturbed) for module in model.modules())


def set_eps(model: _Model, eps: float) -> _Model:
    """Change the strength of the noise at every place that carries it, while training goes on.

    Args:
        model: A module after `robustify`.
        eps: New strength, 0 <= eps < 1; 0 silences the noise.

    Returns:
        The same model.

    Raises:
        InputError: If eps is out of range or the model carries no noise.
    """
    check(eps)
    if not is_robust(model):
        raise InputError(f"set_eps got a {type(model).__name__} that carries no noise. Call robustify(model) first.")
    for module in model.modules():
        if isinstance(module, _Perturbed):
            for side, noise in module._noise.items():
                module._noise[side] = functools.partial(noise, eps=np.float64(eps))
    return model


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
    return [Site(name, _own_class(module)) for (name, _), module in _find(model, where).items()]


def attach(model: _Model, noise: Noise, where: Where = "hidden") -> _Model:
    """Put any noise, not only the sign noise, at the places that ``where`` names.

    Args:
        model: Any module.
        noise: A picklable function from a tensor to one of the same shape, with a keyword ``eps`` for `set_eps`.
        where: As in `robustify`.

    Returns:
        The same model.

    Raises:
        InputError: If ``where`` matches no module, or a module cannot be exchanged.
    """
    found = _find(model, where)
    for (name, _), module in found.items():
        if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule) or "forward" in vars(module):
            raise InputError(
                f"{name or 'the model'!r} ({type(module).__name__}) is scripted, traced or has had its forward "
                "replaced, so noise put at it would be ignored. Call robustify before the tool that did so."
            )
    for (_, side), module in found.items():
        if not isinstance(module, _Perturbed):
            module.__class__ = _perturbed(type(module))
            module.__dict__["_noise"] = {}
        module.__dict__["_noise"][side] = noise
    return model


class _Perturbed(nn.Module):
    """Mixed in before a module's own class; see `_perturbed`."""

    _own: type[nn.Module]
    _noise: dict[_Side, Callable[..., Tensor]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self.training:
            return super().forward(*args, **kwargs)
        if "input" in self._noise:
            args, kwargs = _perturb_first(self._noise["input"], args, kwargs)
        noise = self._noise.get("output")
        if noise is None:
            return super().forward(*args, **kwargs)
        if isinstance(noise, functools.partial) and noise.func is noisy and len(args) == 1 and not kwargs:
            return activate(self, self._own, args[0], **noise.keywords)
        return noise(super().forward(*args, **kwargs))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_restore, (self._own,), self.__getstate__())  # type: ignore[no-untyped-call]


def _perturbed(own: type[nn.Module]) -> type[nn.Module]:
    """Make the subclass of a module class that adds noise; once, so that equal modules stay of equal class."""
    if own not in _CLASSES:
        names = {"_own": own, "__module__": own.__module__}
        _CLASSES[own] = type(f"Perturbed{own.__name__}", (_Perturbed, own), names)
    return _CLASSES[own]


def _restore(own: type[nn.Module]) -> nn.Module:
    """Make an empty perturbed module for pickle and copy, which fill in its state."""
    return object.__new__(_perturbed(own))


def _own_class(module: nn.Module) -> type[nn.Module]:
    return module._own if isinstance(module, _Perturbed) else type(module)


def _perturb_first(noise: Noise, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if args:
        return (noise(args[0]), *args[1:]), kwargs
    name = next((k for k, v in kwargs.items() if isinstance(v, Tensor)), None)
    if name is None:
        raise TypeError('where="input" needs a tensor among the arguments of the model; there is none.')
    return args, {**kwargs, name: noise(kwargs[name])}


def _find(model: nn.Module, where: Where) -> _Found:
    if isinstance(where, Sequence) and not isinstance(where, str):
        if not where:
            raise InputError('where is empty. Try where="hidden".')
        order = [name for name, _ in model.named_modules()]
        sites = [site for item in where for site in _find(model, item).items()]
        return dict(sorted(sites, key=lambda site: order.index(site[0][0])))
    if where == "both":
        return _find(model, "input") | _find(model, "hidden")
    if where == "input":
        return _input_site(model)
    matches = _predicate(where)
    found: _Found = {(name, "output"): module for name, module in model.named_modules() if matches(name, module)}
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
    is_named_so = _RECTIFIER_NAME.search(_own_class(module).__name__) is not None
    return isinstance(module, _RECTIFIERS) or (is_named_so and next(module.children(), None) is None)


def _input_site(model: nn.Module) -> _Found:
    """Find the first leaf if it normalises, else the model under the wrappers of torch.compile and DDP."""
    name, first = next(_leaves(model))
    if _own_class(first).__name__ == "Normalize":
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
    leaves = [(name, _own_class(m).__name__) for name, m in _leaves(model)]
    counts = ", ".join(f"{n} {kind}" for kind, n in Counter(kind for _, kind in leaves).most_common(8))
    names = ", ".join(repr(name) for name, _ in leaves[:8]) + (f" and {len(leaves) - 8} more" if leaves[8:] else "")
    shown = where if isinstance(where, str) else getattr(where, "__name__", where)
    functional = "Activations called as functions (F.relu) are not modules. " if where == "hidden" else ""
    return (
        f"where={shown!r} matches no module of {type(model).__name__}. Candidates: {counts}; by name {names}. "
        f"{functional}Name modules by type (where=torch.nn.Conv2d) or pattern (where='layer?.*'), or use where='input'."
    )
