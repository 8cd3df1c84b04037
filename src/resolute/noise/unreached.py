"""Which activations a network computes that no noise reaches, seen by running one example through it."""

from __future__ import annotations

import functools
import random
import weakref
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from glob import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resolute.noise import sites
from resolute.noise.perturb import Perturb
from resolute.noise.robustify import quiet
from resolute.noise.sites import ACTIVATIONS, Found, Where, is_gate, is_rectifier, own_class

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.utils.hooks import RemovableHandle


_ALIKE = frozenset({
    "flatten", "view", "reshape", "unflatten", "squeeze", "unsqueeze", "permute", "transpose", "movedim", "contiguous",
    "dropout", "dropout1d", "dropout2d", "dropout3d", "dropout_",
})  # fmt: skip
"""Functions after which noise means what it means before them: they move elements or scale them by themselves."""


@dataclass(frozen=True, slots=True)
class Unreached:
    """An activation that a network computes and that no noise of a given ``where`` reaches.

    Attributes:
        name: The module in whose forward it is called, as in ``model.named_modules()``; empty for the model itself.
        module_type: That module's own class.
        function: What is called: ``"relu"``, ``"gelu"``, ...
        where: What to hand to `robustify` to reach it: a module type whose output it is, or a pattern that ends in
            ``":input"`` for modules that it enters. None if there is no such module.
        reason: Why that, or what to do where there is none.
    """

    name: str
    module_type: type[nn.Module]
    function: str
    where: str | type[nn.Module] | None
    reason: str


@dataclass(slots=True)
class _Call:
    """One call of an activation, the modules that were running, and what became of its result."""

    running: tuple[str, ...]
    function: str
    returned_by: list[str] = field(default_factory=list)
    taken_by: list[str] = field(default_factory=list)
    used_by: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.running[-1] if self.running else ""

    @property
    def ends(self) -> str | None:
        """The innermost running module whose output it is."""
        return next((name for name in reversed(self.running) if name in self.returned_by), None)


def unreached(model: nn.Module, *inputs: Any, where: Where = "hidden", **kwargs: Any) -> list[Unreached]:
    """Find the activations of a network that no noise of ``where`` reaches, by running one example through it.

    Activations called as functions (``F.relu(x)``, ``x.relu()``) are no modules, so ``where="hidden"`` passes them by.
    This finds them, with the place that reaches each. The network runs once as in training, without gradients and
    noise; training flags, buffers and the states of the random number generators are afterwards what they were.

    Args:
        model: Any module, perturbed or not.
        *inputs: One example batch, as the model takes it: at least two images where it has BatchNorm.
        where: As in `robustify`; what it matches counts as reached. It may match nothing.
        **kwargs: More arguments of the model.

    Returns:
        One entry for each module and function, in the order of the calls; empty if everything is reached. Kernels
        that hold an activation inside (``nn.RNN``) cannot be looked into.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16)
        >>> (found,) = unreached(layer, torch.rand(1, 3, 8))
        >>> found.function, found.where
        ('relu', 'dropout:input')
        >>> from resolute import robustify
        >>> robust = robustify(layer, where=["hidden", *{u.where for u in unreached(layer, torch.rand(1, 3, 8))}])
    """
    sites.check_model(model)
    found = _found(model, where)
    watch = _Watch(model)
    with _as_it_was(model), watch.hooked(), watch:
        model(*inputs, **kwargs)
    missed = [call for call in watch.calls if not _is_reached(call, found, watch.modules)]
    return list(dict.fromkeys(_report(call, missed, watch) for call in missed))


def _found(model: nn.Module, where: Where) -> Found:
    """Find what ``where`` names, which may be nothing."""
    return {place: module for item in sites.items_of(where) for place, module in sites.match(model, item).items()}


def _is_reached(call: _Call, found: Found, modules: dict[str, nn.Module]) -> bool:
    by_output = any((name, "output") in found for name in call.returned_by)
    by_input = any((name, "input") in found for name in call.taken_by)
    inside = (call.name, "output") in found and is_rectifier(modules[call.name])
    by_hand = any(isinstance(modules[name], Perturb) for name in call.taken_by)
    return by_output or by_input or by_hand or inside or is_gate(modules[call.name])


def _report(call: _Call, missed: list[_Call], watch: _Watch) -> Unreached:
    module = watch.modules[call.name]
    entry = functools.partial(Unreached, call.name, own_class(module), call.function)
    if call.ends == call.name or is_rectifier(module):
        return entry(where=_by_type(call, missed, watch), reason="it is the output of the module that calls it")
    if call.ends is not None:
        return entry(where=escape(call.ends), reason=f"it is the output of {call.ends!r}")
    if call.taken_by:
        taker = _taker(call, watch)
        also = ", which takes other tensors too" if taker in watch.taken_elsewhere else ""
        return entry(where=_by_input(call, missed, watch), reason=f"it enters {taker!r} as it is{also}")
    users = f": {', '.join(dict.fromkeys(call.used_by))} takes it" if call.used_by else ""
    return entry(
        where=None,
        reason=f"no module takes its result as it is{users}. Make it a module (self.act = nn.ReLU(), ...) or hand "
        "it to a module self.noise = resolute.Perturb(eps)",
    )


def _by_type(call: _Call, missed: list[_Call], watch: _Watch) -> str | type[nn.Module]:
    """Name the calling class if all of its modules that ran end with such an activation, else the one module."""
    kind = own_class(watch.modules[call.name])
    ends = {
        other.name for other in missed if other.name in other.returned_by or is_rectifier(watch.modules[other.name])
    }
    if all(name in ends for name in watch.ran if isinstance(watch.modules[name], kind)):
        return kind
    return escape(call.name)


def _taker(call: _Call, watch: _Watch) -> str:
    """Choose the module at whose input the result gets noise: the next one that takes nothing else, if there is one."""
    return next((name for name in call.taken_by if name not in watch.taken_elsewhere), call.taken_by[0])


def _by_input(call: _Call, missed: list[_Call], watch: _Watch) -> str:
    """Name the module that the result enters; with its likes in other layers, if those take such a result too."""
    taker = _taker(call, watch)
    pattern = ".".join("*" if part.isdigit() else escape(part) for part in taker.split("."))
    takers = {_taker(other, watch) for other in missed if other.taken_by and other.ends is None}
    matched = {name for name, _ in _found(watch.model, pattern)}
    return f"{pattern if matched <= takers else escape(taker)}:input"


class _Watch(TorchFunctionMode):
    """Notes each activation that is called, in which module, and where its result goes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.modules = dict(model.named_modules())
        self.calls: list[_Call] = []
        self.ran: set[str] = set()
        self.taken_elsewhere: set[str] = set()
        self._running: list[str] = []
        self._results: dict[int, tuple[weakref.ref[Tensor], int, _Call]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        taken = [] if name == "__get__" else [t for t in _tensors((args, kwargs or {})) if self._call_of(t)]
        calls = [call for t in taken if (call := self._call_of(t))]
        out = func(*args, **(kwargs or {}))
        if func in ACTIVATIONS:
            self.calls.append(_Call(tuple(self._running), ACTIVATIONS[func]))
            self._keep(out, self.calls[-1])
        elif taken and name in _ALIKE and isinstance(out, Tensor) and out.numel() == taken[0].numel():
            self._keep(out, calls[0])
        else:
            for call in calls:
                call.used_by.append(name)
        return out

    def _keep(self, result: Tensor, call: _Call) -> None:
        self._results[id(result)] = (weakref.ref(result), result._version, call)

    def _call_of(self, value: Any) -> _Call | None:
        """Tell of which activation a value is the result, unchanged since."""
        ref, version, call = self._results.get(id(value), (None, 0, None))
        return call if ref and ref() is value and isinstance(value, Tensor) and value._version == version else None

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Follow the modules while they run."""
        handles: list[RemovableHandle] = []
        try:
            for name, module in self.modules.items():
                if not isinstance(module, torch.jit.ScriptModule):
                    enter, leave = functools.partial(self._enter, name), functools.partial(self._leave, name)
                    handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
                    handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._running.append(name)
        self.ran.add(name)
        first = args[0] if args else next((v for v in kwargs.values() if isinstance(v, Tensor)), None)
        if call := self._call_of(first):
            call.taken_by.append(name)
        else:
            self.taken_elsewhere.add(name)

    def _leave(self, name: str, *called: Any) -> None:
        self._running.pop()
        if call := self._call_of(called[-1]):
            call.returned_by.append(name)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


@contextmanager
def _as_it_was(model: nn.Module) -> Iterator[None]:
    """Run the model as in training but without noise, and bring back what a run changes."""
    modules = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
    flags = [(module, module.training) for module in model.modules()]
    with ExitStack() as back:
        for module in modules:
            back.callback(module._buffers.update, dict(module._buffers))
        for module, flag in flags:
            back.callback(setattr, module, "training", flag)
        back.callback(random.setstate, random.getstate())
        back.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002 (models draw from it)
        back.enter_context(torch.random.fork_rng(_cuda_devices(model)))
        back.enter_context(quiet(model))
        back.enter_context(torch.no_grad())
        back.enter_context(torch.compiler.set_stance("force_eager"))
        copies: dict[int, Tensor] = {}
        for module in modules:
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = copies.setdefault(id(buffer), buffer.clone())
        model.train()
        yield


def _cuda_devices(model: nn.Module) -> list[torch.device]:
    return list({tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda})
