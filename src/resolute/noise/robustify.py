"""Put noise into any network and take it out again.

A perturbed module keeps its identity, parameters and state; only its class is exchanged for a subclass whose `forward`
adds the noise in training mode. So no parameter and no buffer is added, state_dict keys stay as they were, shared and
in-place activations work, and code compiled before notices the change, as it would not notice a hook.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import types
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping  # noqa: TC003 tools evaluate the annotations of a perturbed module
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from resolute.errors import InputError, check_strength
from resolute.noise import signs, sites
from resolute.noise.perturb import Perturb, activate, noisy
from resolute.noise.strength import RATIO, calibrate, said_of_own_noise

if TYPE_CHECKING:
    from resolute.noise.signs import Grain, Groups, Spread
    from resolute.noise.sites import Found, Where
    from resolute.noise.strength import Batch

_Model = TypeVar("_Model", bound=nn.Module)
_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}
_UNTOLD: weakref.WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
"""Perturbed modules, and the network of each, of which it has not been told that they are silent."""
_FRESH: weakref.WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
_LEARNED: weakref.WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
"""Perturbed modules, and the network of each, that BatchNorm layers stand behind: before and after training."""
_UNMEASURED: weakref.WeakKeyDictionary[nn.Module, weakref.ref[nn.Module]] = weakref.WeakKeyDictionary()
"""The same, until the first training step, in which their noise is compared with the signal."""
_CALL = nn.Module._wrapped_call_impl.__code__
"""What every call of a module runs, with args and kwargs."""
_NAMED = 8
"""Places that a message names."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Noise:
    """The sign noise of one place; another strength is another value."""

    form: ClassVar[str] = "sign"
    eps: Tensor  # a number that torch.compile takes as an input of the graph, so that another one is no other graph
    p: float
    groups: Groups | None = None
    share: float = 1.0  # as it was given

    def __call__(self, x: Tensor) -> Tensor:
        """Perturb a tensor."""
        return noisy(x, self.eps, signs.level(self.p), groups=self.groups)

    def at(self, model: nn.Module, name: str, side: sites.Side) -> Noise:
        """Find the dimension of the channels at a place."""
        return dataclasses.replace(self, groups=sites.groups_at(model, name, side, self.groups))


def robustify(
    model: _Model,
    eps: float | Literal["auto"] = 0.1,
    p: float = 0.5,
    where: Where = "hidden",
    *,
    grain: Grain | tuple[Grain, int] = "element",
    spread: Spread = "fixed",
    share: float = 1.0,
    example: Batch | None = None,
    ratio: float | None = None,
) -> _Model:
    """Put g(x) = x + eps * x * l(x) at the input or the activations of a network, in place.

    The noise acts in training mode only; ``model.eval()`` gives the untouched network bit for bit. Calling it again
    replaces eps and p at the places that it names and leaves the others, so that input and hidden may differ.

    Args:
        model: Any module. Keep using it as before: same parameters, same state_dict keys, same type by isinstance.
        eps: Strength of the noise, 0 <= eps < 1 (see `perturb`); or ``"auto"``: what `calibrate` finds for the
            ``example``. `sites` tells it.
        p: Probability of the sign +1, in [0, 1]. Unless it is 0.5 the mean of each activation shifts by
            eps * (2p - 1) * |x| and BatchNorm learns the shifted statistics: estimate them again after training
            (`update_bn`).
        where: ``"hidden"``: the output of each activation module of the rectifier family (ReLU, GELU, SiLU, ...).
            ``"input"``: what enters the network, after its own Normalize layer if it begins with one: the argument
            that ``forward`` names first among those that are floating-point tensors. ``"both"``. ``"layers"``: the
            output of each convolution and linear layer but the one registered last. ``"last"``: the features that
            enter the linear layer registered last. Or a module type, a glob pattern over module names such as
            ``"layer?.*.relu"``, the same with ``":input"`` behind it for what enters those modules, a predicate
            ``(name, module) -> bool``, or a sequence of these; None in it is left out.
        grain: What one sign is for, as in `perturb`: ``"element"``, ``"channel"`` or ``"sample"``. Channels lie along
            the last dimension behind a linear layer, LayerNorm or RMSNorm, and along dimension 1 behind a convolution
            or another norm: the layer registered before the place tells, and `sites` shows it. Where none does, give
            the dimension too: ``("channel", -1)``.
        spread: ``"fixed"`` or ``"random"``, as in `perturb`.
        share: Share of the samples that get noise at each place and step, as in `perturb`.
        example: For ``"auto"``, a batch as in training: about 64 images, or what else `strength` takes.
        ratio: For ``"auto"``, the wanted noise-to-signal; None is 0.5 (see `calibrate`).

    Warns:
        UserWarning: If ``where`` includes ``"hidden"`` and the network calls activations as functions, which no
            module stands for (`unreached` names places for them); if a pattern names blocks rather than the
            activations in them; at the first training step, if places are in evaluation mode, so that they are silent,
            or if the noise of a fixed eps drowns the signal; at the first evaluation after training, if BatchNorm's
            statistics are those of the noise (`update_bn`).

    Returns:
        The same model.

    Raises:
        InputError: If an argument is of no use; if ``where`` (or an item of it) matches no module; the message names
            the candidates; or if a module there is scripted or traced, so that noise at it would be ignored.

    Example:
        >>> robustify(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), eps=0.1)
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): PerturbedReLU(eps=0.1)
          (2): Linear(in_features=8, out_features=2, bias=True)
        )
    """
    groups = signs.as_groups(grain, spread, share)
    if eps == "auto":
        if example is None:
            raise InputError("eps='auto' measures on a batch: robustify(model, eps='auto', example=images), about 64.")
        ratio = RATIO if ratio is None else ratio
        eps = calibrate(model, example, ratio, p, where, grain=grain, spread=spread, share=share)
    elif example is not None or ratio is not None:
        raise InputError(f"eps is {eps!r}; an example and a ratio are for eps='auto', which finds eps by them.")
    check_strength(eps, p)
    attach(model, Noise(_graph_input(eps), float(p), groups, float(share)), where)
    if example is None:
        _UNMEASURED.update(dict.fromkeys(carriers(model), weakref.ref(model)))
    return model


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
    perturbed = carriers(model)
    for module in perturbed:
        if not _is_as_made(module):
            raise InputError(
                f"a {type(module).__name__} had its class exchanged after robustify, as parametrize and fully_shard "
                "do. Undo that first, or silence the noise with set_eps(model, 0)."
            )
    for module in perturbed:
        del module.__dict__["_resolute_noise"]
        own: type[Any] = module._resolute_own
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
    return carriers(model) != []


def carriers(model: nn.Module) -> list[_Perturbed]:
    """List the modules of a network that carry noise."""
    sites.check_model(model)
    return [module for module in model.modules() if isinstance(module, _Perturbed)]


def set_eps(model: _Model, eps: float, where: Where | None = None) -> _Model:
    """Change the strength of the noise at every place that carries it, or at some, while training goes on.

    Args:
        model: A module after `robustify`.
        eps: New strength, 0 <= eps < 1; 0 silences the noise.
        where: The places to change, as in `robustify`; None: all. What it names and carries no noise is left alone.

    Returns:
        The same model.

    Raises:
        InputError: If eps is out of range, the model carries no noise, or an item of ``where`` names no place that
            does; the message names those that do.

    Example:
        >>> model = set_eps(robustify(nn.ReLU(), eps=0.1), 0.25)
        >>> model(torch.tensor([4.0])).item() in (3.0, 5.0)
        True
    """
    check_strength(eps)
    sites.check_model(model)
    if not (there := sites.places(model)):
        raise InputError(f"set_eps got a {type(model).__name__} that carries no noise. Call robustify(model) first.")
    chosen = list(there) if where is None else []
    for item in [] if where is None else sites.items_of(where):
        chosen += (matched := [place for place in sites.match(model, item) if place in there])
        if not matched:
            names = [repr(name + (":input" if side == "input" else "")) for name, side in there]
            more = f" and {len(names) - _NAMED} more" if names[_NAMED:] else ""
            raise InputError(
                f"where={item!r} names no place that carries noise. Noise is at {', '.join(names[:_NAMED])}{more}."
            )
    set_eps_at(model, dict.fromkeys(chosen, eps))
    return model


def set_eps_at(model: nn.Module, strengths: Mapping[tuple[str, sites.Side], float]) -> None:
    """Set the strength of each of these places, which carry noise."""
    there = sites.places(model)
    for (name, side), eps in strengths.items():
        noises = vars(there[name, side])["_resolute_noise"]
        set_to = dataclasses.replace if isinstance(noises[side], Noise) else functools.partial
        noises[side] = set_to(noises[side], eps=_graph_input(eps))


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Silence all noise of a network while a block runs, also in training mode.

    Args:
        model: A module, perturbed or not; `Perturb` in it is silent, too.

    Yields:
        Nothing. Afterwards each place has the noise that it had.

    Example:
        >>> model = robustify(nn.ReLU(), eps=0.5)
        >>> with quiet(model):
        ...     model(torch.ones(2))
        tensor([1., 1.])
    """
    noises = {module: module._resolute_noise for module in carriers(model)}
    layers = {module: module.eps for module in model.modules() if isinstance(module, Perturb)}
    try:
        for module in noises:
            vars(module)["_resolute_noise"] = {}
        for layer in layers:
            layer.eps = 0.0
        yield
    finally:
        for module, own in noises.items():
            vars(module)["_resolute_noise"] = own
        for layer, eps in layers.items():
            layer.eps = eps


def attach(model: _Model, noise: Callable[..., Tensor], where: Where = "hidden") -> _Model:
    """Put any noise, not only the sign noise, at the places that ``where`` names."""
    found = sites.find_sites(model, where)
    for (name, _), module in found.items():
        if isinstance(module, torch.jit.ScriptModule | fx.GraphModule) or "forward" in vars(module):
            raise InputError(
                f"{name or 'the model'!r} ({type(module).__name__}) is scripted, traced or has had its forward "
                "replaced, so noise put at it would be ignored. Call robustify before the tool that did so."
            )
    put = [noise.at(model, *place) if isinstance(noise, Noise) else noise for place in found]
    for text in _advice(model, where, found):
        warnings.warn(text, UserWarning, stacklevel=3)
    for ((_, side), module), own in zip(found.items(), put, strict=True):
        if not isinstance(module, _Perturbed):
            module.__class__ = _perturbed(type(module))
            module.__dict__["_resolute_noise"] = {}
        module.__dict__["_resolute_noise"][side] = own
    perturbed: dict[nn.Module, weakref.ref[nn.Module]] = dict.fromkeys(carriers(model), weakref.ref(model))
    _UNTOLD.update(perturbed)
    if _is_before_batch_norm(model, found):
        _FRESH.update(perturbed)
    return model


def _is_before_batch_norm(model: nn.Module, found: Found) -> bool:
    """Tell whether a BatchNorm layer that keeps statistics stands behind a place, in the order of the modules."""
    order = {name: i for i, (name, _) in enumerate(model.named_modules())}
    layers = [name for name, module in model.named_modules() if _keeps_statistics(module)]
    return any(
        order[layer] >= order[name] if side == "input" else order[layer] > order[name] and not _is_in(layer, name)
        for name, side in found
        for layer in layers
    )


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None


def _is_in(name: str, block: str) -> bool:
    return not block or name.startswith(f"{block}.")


def trust_statistics(model: nn.Module, *, watch: bool) -> None:
    """Take BatchNorm's statistics for those without noise; and watch whether training changes that, or no longer."""
    for module in carriers(model):
        ref = _LEARNED.pop(module, None) or _FRESH.pop(module, None)
        if ref is not None and watch:
            _FRESH[module] = ref


def _graph_input(eps: float) -> Tensor:
    """Make a number that torch.compile takes as an input of the graph, so that another one is no other graph."""
    # Not 0-d: of such a float64 Dynamo makes a symbol for its item as well, finds no use for it and starts anew.
    return torch.tensor([eps], dtype=torch.float64, device="cpu")


def _advice(model: nn.Module, where: Where, found: Found) -> Iterator[str]:
    """Say what ``where`` does not reach and yet may be meant to."""
    if "hidden" in sites.items_of(where) and (calls := sites.functional(model, found)):
        yield (
            f"{type(model).__name__} calls activations as functions, which where={where!r} does not reach: {calls}. "
            "resolute.unreached(model, example) tells for each what to add to where."
        )
    for item, (kind, pattern, n) in sites.blocks(model, where, found).items():
        yield (
            f"where={item!r} names a {kind}: the noise is put at its output and not at the activations inside ({n}). "
            f"For these, write where={pattern}. If the output is meant, name it by its type or by a function."
        )


class _Perturbed(nn.Module):
    """Mixed in before a module's own class; see `_perturbed`."""

    _resolute_own: type[nn.Module]
    _resolute_names: tuple[list[str], list[str]]
    _resolute_noise: dict[Any, Callable[..., Tensor]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if isinstance(proxy := next(iter((*args, *kwargs.values())), None), fx.Proxy):
            return _trace(self, super().forward, proxy, args, kwargs)
        if not self.training:
            _tell_of_silence(None if torch.compiler.is_compiling() else self)
            _tell_of_statistics(None if torch.compiler.is_compiling() else self)
            return super().forward(*args, **kwargs)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            raise InputError("torch.jit.trace cannot record the noise. Call model.eval() before it.")
        if not torch.compiler.is_compiling() and _UNMEASURED:
            _compare_with_signal(self)
        noises = self._resolute_noise
        if noises:
            _note_training(None if torch.compiler.is_compiling() else self)
        if "input" in noises:
            args, kwargs = sites.perturb_input(self, noises["input"], args, kwargs)
        noise = noises.get("output")
        if noise is None:
            return super().forward(*args, **kwargs)
        if isinstance(noise, Noise) and len(args) == 1 and not kwargs:
            return activate(self, self._resolute_own, args[0], noise.eps, signs.level(noise.p), noise.groups)
        return noise(super().forward(*args, **kwargs))

    def extra_repr(self) -> str:
        shown = [super().extra_repr()]
        for side in self._resolute_noise:
            site, prefix = sites.site_at("", side, self), "input_" if side == "input" else ""
            shown += [f"{prefix}eps={site.eps:g}"] if site.eps is not None else []
            shown += [f"{prefix}p={site.p:g}"] if site.p not in (None, 0.5) else []
            shown += [f"{prefix}form={site.form}"] if site.form != "sign" else []
            usual = {"grain": "element", "spread": "fixed", "share": 1.0, "channel_dim": None}
            own = {name: getattr(site, name) for name in usual} if site.form == "sign" else {}
            shown += [f"{prefix}{name}={value}" for name, value in own.items() if value != usual[name]]
        return ", ".join(part for part in shown if part)

    def _get_name(self) -> str:
        return f"Perturbed{super()._get_name()}"  # type: ignore[no-untyped-call]

    def __prepare_scriptable__(self) -> Any:
        raise InputError(
            "torch.jit.script cannot compile the noise. Script a copy without it: "
            "torch.jit.script(resolute.unrobustify(copy.deepcopy(model)).eval())."
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (_restore, (self._resolute_own,), self.__getstate__())  # type: ignore[no-untyped-call]


def _perturbed(own: type[nn.Module]) -> type[nn.Module]:
    """Make the subclass of a module class that adds noise; once, so that equal modules stay of equal class."""
    if own in _CLASSES:
        return _CLASSES[own]
    names: dict[str, Any] = {"_resolute_own": own, "__module__": own.__module__}
    if _is_parametrized(own):  # beneath: for remove_parametrizations, the first base is the class that was there before
        base = _perturbed(own.__bases__[0])
        kept = {name: value for name, value in vars(own).items() if name not in ("__dict__", "__weakref__")}
        _CLASSES[own] = type(own.__name__, (base,), kept | names)
        return _CLASSES[own]
    shared = _Perturbed.forward
    forward = types.FunctionType(shared.__code__, shared.__globals__, closure=shared.__closure__)
    names["forward"] = functools.update_wrapper(forward, own.forward)  # tools read the names of the arguments from it
    names["_resolute_names"] = sites.arguments(own.forward)
    if become := getattr(own, "cls_to_become", None):  # a lazy module, after its first call
        names["cls_to_become"] = _perturbed(become)
    # Other tools save the name, as save_pretrained does; the qualified one they show where they want the class itself.
    names["__qualname__"] = f"{own.__qualname__} with noise; resolute.unrobustify(model) gives the plain class back"
    _CLASSES[own] = type(own.__name__, (_Perturbed, own), names)
    return _CLASSES[own]


def _is_parametrized(own: type[nn.Module]) -> bool:
    return own.__module__ == parametrize.__name__ and own.__name__.startswith("Parametrized")


def _is_as_made(module: _Perturbed) -> bool:
    """Tell whether a perturbed module's class, and its parametrizations, are those of `robustify`."""
    made, own = type(module), module._resolute_own
    both = [{name for name, value in vars(kind).items() if isinstance(value, property)} for kind in (made, own)]
    return made is _CLASSES[own] and (not _is_parametrized(own) or both[0] == both[1])


def _restore(own: type[nn.Module]) -> nn.Module:
    """Make an empty perturbed module for pickle and copy, which fill in its state."""
    return object.__new__(_perturbed(own))


def _trace(
    module: _Perturbed, forward: Callable[..., Any], proxy: fx.Proxy, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Put a perturbed module into a graph of torch.fx as it is, so that the graph has its noise and its two modes."""
    tracer: Any = proxy.tracer
    if getattr(tracer, "root", module) is not module:
        return tracer.create_proxy("call_module", tracer.path_of_module(module), args, kwargs)
    if module.training:
        raise InputError(
            "torch.fx cannot trace noise at the model itself, where='input'. Trace the model before robustify, and "
            "name its first modules: where='conv1:input'."
        )
    return forward(*args, **kwargs)


def _tell_of_silence(silent: nn.Module | None) -> bool:
    """Warn once of a network in training mode that runs places in evaluation mode, as in a frozen backbone."""
    for model in {model for model in _networks(_UNTOLD, silent) if model.training and _is_running(model)}:
        places = {name: module.training for name, module in model.named_modules() if _UNTOLD.pop(module, None)}
        names = [name for name, trains in places.items() if not trains]
        warnings.warn(
            f"{type(model).__name__} is in training mode, but {len(names)} of its {len(places)} modules with noise, "
            f"such as {next(iter(names), '')!r}, are in eval(), which silences it. To have noise there, call train() "
            "on the whole model and then eval() on its normalisation layers alone; to leave it out on purpose, call "
            "unrobustify on that part. See docs/any-network.md, Frozen parts.",
            UserWarning,
            stacklevel=3,
        )
    return True


def _note_training(noisy: nn.Module | None) -> bool:
    """Take note that a network has run in training mode with noise in front of BatchNorm layers that learn."""
    for model in _networks(_FRESH, noisy) if _FRESH else ():
        learn = any(_keeps_statistics(module) and module.training for module in model.modules())
        if model.training and learn and (noisy is not None or _is_running(model)):
            _LEARNED.update({module: ref for module in carriers(model) if (ref := _FRESH.pop(module, None))})
    return True


def _tell_of_statistics(silent: nn.Module | None) -> bool:
    """Warn once of a network that is evaluated with statistics that hold the variance of the noise."""
    for model in _networks(_LEARNED, silent) if _LEARNED else ():
        if not (model.training or all(site.eps == 0 for site in sites.sites(model))):
            trust_statistics(model, watch=False)
            warnings.warn(
                f"{type(model).__name__} is evaluated with BatchNorm statistics that were learned under the noise, "
                "which is absent now. Estimate them again first, on training images: resolute.update_bn(model, "
                "loader). See docs/any-network.md, BatchNorm.",
                UserWarning,
                stacklevel=3,
            )
    return True


def _networks(known: Mapping[nn.Module, weakref.ref[nn.Module]], module: nn.Module | None) -> set[nn.Module]:
    """Look up the network of a perturbed module; without one, as when torch.compile reads it, all that are known."""
    refs = list(known.values()) if module is None else [known[module]] if module in known else []
    return {model for ref in refs if (model := ref()) is not None}


def _compare_with_signal(place: nn.Module) -> None:
    """Warn, once, of a network whose noise is far above its signal; it is at its first training step."""
    ref = _UNMEASURED.pop(place, None)
    model = ref() if ref else None
    frame: types.FrameType | None = sys._getframe(1) if model is not None else None
    while frame is not None and not (frame.f_code is _CALL and frame.f_locals["self"] is model):
        frame = frame.f_back
    if model is None or frame is None:
        return
    for other in carriers(model):
        _UNMEASURED.pop(other, None)
    text, given = "", frame.f_locals
    with contextlib.suppress(Exception):  # what cannot be copied, say: training needs no such look
        text = said_of_own_noise(model, given["args"], given["kwargs"])
    if text:
        warnings.warn(text, UserWarning, stacklevel=3)


def _is_running(model: nn.Module) -> bool:
    """Tell whether a network calls, rather than another one that shares modules with it, such as its features."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if caller is model or (isinstance(caller, nn.Module) and caller._modules.get("_orig_mod") is model):
            return True
        frame = frame.f_back
    return False


_told: Any
for _told in (_tell_of_silence, _note_training, _tell_of_statistics):
    _told._dynamo_marked_constant = True  # torch.compile runs it while it compiles
