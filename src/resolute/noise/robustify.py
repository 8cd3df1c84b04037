"""Put noise into any network and take it out again.

A perturbed module keeps its identity, parameters and state; only its class is exchanged for a subclass whose `forward`
adds the noise in training mode. So no parameter and no buffer is added, state_dict keys stay as they were, shared and
in-place activations work, and code compiled before notices the change, as it would not notice a hook.
"""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from resolute.errors import InputError, check_strength
from resolute.noise import signs
from resolute.noise.perturb import activate, noisy
from resolute.noise.sites import Found, Side, Where, find_sites, functional

Noise = Callable[[Tensor], Tensor]
"""What is put at a site: a picklable function of a tensor, such as ``functools.partial(noise, eps=0.1)``."""

_Model = TypeVar("_Model", bound=nn.Module)
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


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
            ``"both"``. Or a module type, a glob pattern over module names such as ``"layer?.*.relu"``, the same
            with ``":input"`` behind it for the tensor that enters those modules, a predicate
            ``(name, module) -> bool``, or a sequence of these; None in it is left out.

    Warns:
        UserWarning: If ``where`` includes ``"hidden"`` and the network calls activations as functions, which no
            module stands for; `unreached` names places for them.

    Returns:
        The same model.

    Raises:
        InputError: If eps or p is out of range; if ``where`` (or an item of it) matches no module; the message names
            the candidates; or if a module there is scripted or traced, so that noise at it would be ignored.

    Example:
        >>> model = robustify(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), eps=0.1)
        >>> from resolute import sites
        >>> sites(model)
        [Site(name='1', module_type=<class 'torch.nn.modules.activation.ReLU'>)]
    """
    check_strength(eps, p)
    return attach(model, functools.partial(noisy, eps=_graph_input(eps), level=signs.level(p)), where)


def unrobustify(model: _Model) -> _Model:
    """Take all noise out of a network, in place.

    Args:
        model: A module, perturbed or not.

    Returns:
        The same model, exactly as it was before `robustify`.

    Raises:
        InputError: If another tool has exchanged the class of a perturbed module in the meantime.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        >>> is_robust(unrobustify(robustify(model)))
        False
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
        True after `robustify`, also in evaluation mode and with eps 0; False after `unrobustify`. A `Perturb` that was
        put in by hand does not count.

    Example:
        >>> is_robust(nn.ReLU()), is_robust(robustify(nn.ReLU()))
        (False, True)
    """
    return any(isinstance(module, _Perturbed) for module in model.modules())


def carriers(model: nn.Module) -> list[nn.Module]:
    """List the modules of a network that carry noise."""
    return [module for module in model.modules() if isinstance(module, _Perturbed)]


def set_eps(model: _Model, eps: float) -> _Model:
    """Change the strength of the noise at every place that carries it, while training goes on.

    Args:
        model: A module after `robustify`.
        eps: New strength, 0 <= eps < 1; 0 silences the noise.

    Returns:
        The same model.

    Raises:
        InputError: If eps is out of range or the model carries no noise.

    Example:
        >>> model = set_eps(robustify(nn.ReLU(), eps=0.1), 0.25)
        >>> model(torch.tensor([4.0])).item() in (3.0, 5.0)
        True
    """
    check_strength(eps)
    if not is_robust(model):
        raise InputError(f"set_eps got a {type(model).__name__} that carries no noise. Call robustify(model) first.")
    for module in model.modules():
        if isinstance(module, _Perturbed):
            for side, noise in module._noise.items():
                module._noise[side] = functools.partial(noise, eps=_graph_input(eps))
    return model


def attach(model: _Model, noise: Noise, where: Where = "hidden") -> _Model:
    """Put any noise, not only the sign noise, at the places that ``where`` names."""
    found = find_sites(model, where)
    for (name, _), module in found.items():
        if isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule) or "forward" in vars(module):
            raise InputError(
                f"{name or 'the model'!r} ({type(module).__name__}) is scripted, traced or has had its forward "
                "replaced, so noise put at it would be ignored. Call robustify before the tool that did so."
            )
    _tell_of_functions(model, where, found)
    for (_, side), module in found.items():
        if not isinstance(module, _Perturbed):
            module.__class__ = _perturbed(type(module))
            module.__dict__["_noise"] = {}
        module.__dict__["_noise"][side] = noise
    return model


def _graph_input(eps: float) -> Tensor:
    """Make a number that torch.compile takes as an input of the graph, so that another one is no other graph."""
    # Not 0-d: of such a float64 Dynamo makes a symbol for its item as well, finds no use for it and starts anew.
    return torch.tensor([eps], dtype=torch.float64, device="cpu")


def _tell_of_functions(model: nn.Module, where: Where, found: Found) -> None:
    items = where if isinstance(where, Sequence) and not isinstance(where, str) else [where]
    if not any(item in ("hidden", "both") for item in items):
        return
    if calls := functional(model, found):
        text = (
            f"{type(model).__name__} calls activations as functions, which where={where!r} does not reach: {calls}. "
            "resolute.unreached(model, example) tells for each what to add to where."
        )
        warnings.warn(text, UserWarning, stacklevel=4)


class _Perturbed(nn.Module):
    """Mixed in before a module's own class; see `_perturbed`."""

    _own: type[nn.Module]
    _noise: dict[Side, Callable[..., Tensor]]

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
        shared = _Perturbed.forward
        forward = types.FunctionType(shared.__code__, shared.__globals__, closure=shared.__closure__)
        functools.update_wrapper(forward, own.forward)  # tools read the names of the arguments from it
        names = {"_own": own, "__module__": own.__module__, "forward": forward}
        _CLASSES[own] = type(f"Perturbed{own.__name__}", (_Perturbed, own), names)
    return _CLASSES[own]


def _restore(own: type[nn.Module]) -> nn.Module:
    """Make an empty perturbed module for pickle and copy, which fill in its state."""
    return object.__new__(_perturbed(own))


def _perturb_first(noise: Noise, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    if args:
        return (noise(args[0]), *args[1:]), kwargs
    name = next((k for k, v in kwargs.items() if isinstance(v, Tensor)), None)
    if name is None:
        raise TypeError("noise at an input needs a tensor among the arguments of the module; there is none.")
    return args, {**kwargs, name: noise(kwargs[name])}
