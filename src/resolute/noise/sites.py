"""Which modules of a network ``where`` names, and which activations the code of a module calls as functions.

A module's code is read from its bytecode without running it: `forward`, the methods and functions of the same library
that it leads to, and functions held as attributes (``self.activation = F.relu``). What cannot be read counts as free of
activations; `unreached` finds the rest in a trial run.
"""

from __future__ import annotations

import copy
import dis
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.noise.perturb import Perturb
from resolute.noise.signs import Groups

_NAMES = (
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish", "hardswish",
)  # fmt: skip
ACTIVATIONS: dict[Any, str] = {
    getattr(home, spelled): name
    for home in (torch, F, Tensor)
    for name in _NAMES
    for spelled in (name, f"{name}_")
    if hasattr(home, spelled)
}
"""Each rectifier that PyTorch has as a function or method, and its plain name."""

_METHODS = {"relu": "relu", "relu_": "relu"}
_MOST = 300
_SILENT = ("EXTENDED_ARG", "PUSH_NULL", "NOP", "CACHE", "TO_BOOL")

Guards = frozenset[tuple[str, str]]
"""Attributes of ``self`` that a piece of code is run for: (name, what would skip it), as in ``if self.use_relu:``."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What code calls, and the attributes of ``self`` that it reads and that its class does not define."""

    names: frozenset[tuple[str, Guards]]
    attributes: frozenset[tuple[str, Guards]]


@dataclass(frozen=True, slots=True)
class _Load:
    """One dotted name in a piece of code, such as ``F.relu``; ``root`` is empty for a value that has no name."""

    root: str
    path: tuple[str, ...]
    called_bare: bool
    guards: Guards


def called(module: nn.Module, own: Any) -> tuple[str, ...]:
    """Name the activations that a module's own code calls as functions."""
    forward = vars(module).get("forward", inspect.getattr_static(own, "forward", None))
    code = _read(own, _plain(forward))
    held = {name for attribute, guards in code.attributes if _open(module, guards) for name in _held(module, attribute)}
    return tuple(sorted(held | {name for name, guards in code.names if _open(module, guards)}))


def _open(module: nn.Module, guards: Guards) -> bool:
    """Tell whether code that stands behind these attributes is run in training, as far as they tell."""
    skips: dict[str, Callable[[Any], bool]] = {
        "IF_NONE": lambda value: value is None,
        "IF_NOT_NONE": lambda value: value is not None,
        "IF_FALSE": lambda value: value is None or value is False or value == 0,
        "IF_TRUE": lambda value: value is True,
    }
    return not any(skips[kind](_value(module, name)) for name, kind in guards)


def _value(module: nn.Module, name: str) -> Any:
    """Look an attribute up without running code; where it is not to be found, something that is true."""
    if name == "training":
        return True
    places = (vars(module), module._modules, module._parameters, module._buffers)
    value = next((place[name] for place in places if name in place), True)
    return value if value is None or isinstance(value, bool | int) else "something"


def _held(module: nn.Module, attribute: str) -> frozenset[str]:
    """Name the activations that a function held by the module runs."""
    function = _plain(vars(module).get(attribute))
    if not isinstance(function, FunctionType | BuiltinFunctionType):
        return frozenset()
    if function in ACTIVATIONS:
        return frozenset({ACTIVATIONS[function]})
    return frozenset(name for name, _ in _read(None, function).names) if _worth_reading(function) else frozenset()


def _plain(value: Any) -> Any:
    """Take a function out of what is wrapped around it."""
    while isinstance(value, functools.partial | staticmethod | classmethod):
        value = value.func if isinstance(value, functools.partial) else value.__func__
    return inspect.unwrap(value) if isinstance(value, FunctionType) else value


def _worth_reading(function: Any) -> bool:
    library = (getattr(function, "__module__", None) or "").partition(".")[0]
    return isinstance(function, FunctionType) and library != "torch" and library not in sys.stdlib_module_names


@functools.lru_cache(maxsize=4096)
def _read(own: Any, start: Any) -> _Read:
    """Follow the code from a method of ``own``, or from a function if that is None."""
    names: set[tuple[str, Guards]] = set()
    attributes: set[tuple[str, Guards]] = set()
    todo: list[tuple[Any, bool, Guards]] = [(start, own is not None, frozenset())]
    seen: set[tuple[Any, bool, Guards]] = set()
    while todo and len(seen) < _MOST:
        function, is_method, outer = item = todo.pop()
        if not isinstance(function, FunctionType) or item in seen:
            continue
        seen.add(item)
        code, scope = function.__code__, _scope(function)
        me = code.co_varnames[0] if is_method and code.co_argcount else None
        if me is not None and "super" in code.co_names:
            todo += [(_plain(vars(kind).get(code.co_name)), True, outer) for kind in (own or object).__mro__[1:]]
        for load in _loads(code, me):
            guards = outer | load.guards
            if load.root == me and load.path:
                value = inspect.getattr_static(own, load.path[0], None)
                if value is None:
                    attributes.add((load.path[0], guards))
                todo.append((_plain(value.fget if isinstance(value, property) else value), True, guards))
            if _is_method_of_a_tensor(load, me, scope):
                names.add((_METHODS[load.path[-1]], guards))
            target = _plain(_target(scope, load))
            if isinstance(target, FunctionType | BuiltinFunctionType) and target in ACTIVATIONS:
                names.add((ACTIVATIONS[target], guards))
            elif _worth_reading(target):
                todo.append((target, False, guards))
    return _Read(frozenset(names), frozenset(attributes))


def _is_method_of_a_tensor(load: _Load, me: str | None, scope: dict[str, Any]) -> bool:
    """Tell ``x.relu()`` from ``self.relu(x)`` and ``F.relu(x)``: it takes no argument."""
    if not load.called_bare or load.path[-1] not in _METHODS or load.root in scope:
        return False
    return load.root != me or len(load.path) > 1


def _scope(function: FunctionType) -> dict[str, Any]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=False)
    return function.__globals__ | {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _target(scope: dict[str, Any], load: _Load) -> Any:
    """Find the object that a dotted name stands for, as far as it leads through modules of Python."""
    value = scope.get(load.root)
    for name in load.path:
        if not isinstance(value, ModuleType):
            return None
        value = getattr(value, name, None)
    return value


def _loads(code: CodeType, me: str | None) -> Iterator[_Load]:
    """Read the dotted names of a piece of code and of the lambdas and inner functions in it."""
    root, path = "", list[str]()
    blocks: list[tuple[int, tuple[str, str]]] = []
    for step in (step for step in dis.get_instructions(code) if step.opname not in _SILENT):
        if step.opname in {"LOAD_ATTR", "LOAD_METHOD"}:
            path.append(step.argval)
            continue
        blocks = [(end, guard) for end, guard in blocks if step.offset < end]
        if root or path:
            bare = bool(path) and step.opname in {"PRECALL", "CALL"} and step.arg == 0
            yield _Load(root, tuple(path), bare, frozenset(guard for _, guard in blocks))
        if root == me and len(path) == 1 and step.opname.startswith("POP_JUMP") and step.argval > step.offset:
            blocks.append((step.argval, (path[0], step.opname[step.opname.index("IF_") :])))
        root, path = _begin(step), []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _loads(constant, me)


def _begin(step: dis.Instruction) -> str:
    """Name the variable that an instruction loads; empty if it loads none."""
    if not any(kind in step.opname for kind in ("LOAD_FAST", "LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF")):
        return ""
    return str(step.argval[-1] if isinstance(step.argval, tuple) else step.argval)


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
_NO_INPUT = ("label", "target", "mask", "weight")
"""In the names of arguments that are floating-point tensors and yet not what a network looks at."""


@dataclass(frozen=True, slots=True)
class Site:
    """One place where noise is or would be put.

    Attributes:
        name: The module's name in ``model.named_modules()``; empty for the model itself.
        module_type: The module's own class, also while it is perturbed.
        side: ``"output"``: what leaves the module gets the noise. ``"input"``: what enters it.
        eps: Strength of the noise that is there; None if there is none.
        p: Probability of the sign +1; None if no sign noise is there.
        form: ``"sign"``, or the name of another noise (``"gaussian"``, ...) that is there; None if there is none.
        grain: What one sign is for: ``"element"``, ``"channel"`` or ``"sample"``; None if no sign noise is there.
        spread: ``"fixed"`` or ``"random"`` strength of the samples; None if no sign noise is there.
        share: Share of the samples that get noise; None if no sign noise is there.
        channel_dim: Dimension of the channels; None unless each has a sign.
    """

    name: str
    module_type: type[nn.Module]
    side: Side = "output"
    eps: float | None = None
    p: float | None = None
    form: str | None = None
    grain: str | None = None
    spread: str | None = None
    share: float | None = None
    channel_dim: int | None = None


def sites(model: nn.Module, where: Where | None = None) -> list[Site]:
    """List the places that `robustify` has touched, or would touch.

    Args:
        model: Any module, perturbed or not; it is not changed.
        where: As in `robustify`. None: the places that carry noise; those of ``"hidden"`` if none does.

    Returns:
        The sites in the order of ``model.named_modules()``; a shared module stands there once. `Site.eps` tells
        which of them carry noise.

    Raises:
        InputError: If ``where``, or an item of it, matches no module; the message names the candidates.

    Example:
        >>> [site.name for site in sites(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)))]
        ['1']
    """
    check_model(model)
    found = (places(model) or find_sites(model, "hidden")) if where is None else find_sites(model, where)
    return [site_at(*place, module) for place, module in found.items()]


def site_at(name: str, side: Side, module: nn.Module) -> Site:
    """Describe one place and the noise that is there."""
    noise: Any = vars(module).get("_resolute_noise", {}).get(side)
    function = getattr(noise, "func", noise)  # other noise is a functools.partial of a function of x and eps
    eps = getattr(noise, "eps", getattr(noise, "keywords", {}).get("eps"))
    form = getattr(function, "form", getattr(function, "__name__", None))
    p, share = getattr(noise, "p", None), getattr(noise, "share", None)
    groups = getattr(noise, "groups", None) or (Groups() if share is not None else None)
    site = Site(name, own_class(module), side, None if eps is None else float(eps), p, form)
    if groups is None:
        return site
    dim = groups.channel if groups.grain == "channel" else None
    return replace(site, grain=groups.grain, spread=groups.spread, share=share, channel_dim=dim)


def places(model: nn.Module) -> Found:
    """Find the places that carry noise."""
    sides: tuple[Side, ...] = ("input", "output")
    noisy = [(name, module, vars(module).get("_resolute_noise", ())) for name, module in model.named_modules()]
    return {(name, side): module for name, module, noises in noisy for side in sides if side in noises}


def own_class(module: nn.Module) -> type[nn.Module]:
    """Tell the class that a module has without noise."""
    return getattr(module, "_resolute_own", type(module))


def check_model(model: Any) -> None:
    """Refuse what is no network, such as its name or its class."""
    if not isinstance(model, nn.Module):
        raise InputError(
            f"the model is {repr(model)[:80]}; it must be a torch.nn.Module that is built, such as "
            "torchvision.models.resnet18() or resolute.models.build(name, classes=10)."
        )


def items_of(where: Where) -> list[Item]:
    """List what ``where`` names, one by one."""
    items = where if isinstance(where, Sequence) and not isinstance(where, str) else [where]
    if where is None or not all(item is None or _is_item(item) for item in items):
        raise InputError(
            f"where is {repr(where)[:80]}; it must be 'hidden', 'input', 'both', 'layers', 'last', a name or pattern, "
            "a module type, a function (name, module) -> bool, or a list of these."
        )
    parts = [("input", "hidden") if item == "both" else (item,) for item in items if item is not None]
    if not parts:
        raise InputError('where is empty. Try where="hidden".')
    return [item for part in parts for item in part]


def _is_item(item: Any) -> bool:
    return isinstance(item, str | type) or (
        callable(item) and not isinstance(item, nn.Module) and item not in ACTIVATIONS
    )


def find_sites(model: nn.Module, where: Where) -> Found:
    """Find the modules that ``where`` names; "hidden" may be none where another item names hidden places."""
    check_model(model)
    items = items_of(where)
    spares_hidden = any(item not in ("hidden", "input") for item in items)
    found: Found = {}
    for item in items:
        matched = match(model, item)
        if not matched and not (item == "hidden" and spares_hidden):
            raise InputError(_nothing_matched(model, item))
        found |= matched
    order = {name: n for n, (name, _) in enumerate(model.named_modules())}
    return dict(sorted(found.items(), key=lambda place: order[place[0][0]]))


def match(model: nn.Module, item: Item) -> Found:
    """Find the modules that one item of ``where`` names, which may be none."""
    if item == "input":
        return _input_site(model)
    if item in ("layers", "last"):
        return _layers(model) if item == "layers" else _last(model)
    side: Side = "output"
    if isinstance(item, str) and item.endswith(_INPUT_SUFFIX):
        item, side = item.removesuffix(_INPUT_SUFFIX), "input"
    matches = _predicate(item)
    return {(name, side): module for name, module in model.named_modules() if matches(name, module)}


def _predicate(where: Item) -> Predicate:
    if where == "hidden":
        return lambda _, module: is_rectifier(module)
    if isinstance(where, str):
        return lambda name, _: fnmatchcase(name, where)
    if isinstance(where, type):
        return lambda _, module: isinstance(module, where)
    return where


def blocks(model: nn.Module, where: Where, found: Found) -> dict[str, tuple[str, str, int]]:
    """Tell of each pattern that names blocks and reaches no activation in them: class, better pattern, activations."""
    told = {}
    for item in items_of(where):
        if not isinstance(item, str) or item in ("hidden", "input", "layers", "last") or item.endswith(_INPUT_SUFFIX):
            continue
        inside: set[str] = set()
        kinds = []
        for (name, _), module in match(model, item).items():
            acts = {f"{name}.{key}".lstrip(".") for key, act in module.named_modules() if key and is_rectifier(act)}
            if acts and not any((act, "output") in found for act in acts) and not called(module, own_class(module)):
                inside |= acts
                kinds.append(own_class(module).__name__)
        if inside:
            told[item] = (kinds[0], _pattern_of(model, item, inside), len(inside))
    return told


def _pattern_of(model: nn.Module, block: str, names: set[str]) -> str:
    """Write what names exactly these modules, which lie in blocks: one pattern, or else all names."""
    last = sorted({name.rpartition(".")[2] for name in names})
    tried = [f"{block}{infix}{last[0]}".lstrip(".") for infix in (".*.", ".", ".*")] if len(last) == 1 else []
    exact = (repr(pattern) for pattern in tried if {name for name, _ in match(model, pattern)} == names)
    return next(exact, repr(sorted(names)))


def is_rectifier(module: nn.Module) -> bool:
    """Tell whether a module is an activation of the rectifier family."""
    # It is one by its class, by its name, or because it calls such an activation as a function and holds nothing else.
    if isinstance(module, _RECTIFIERS):
        return True
    own = own_class(module)
    if next(module.children(), None) is not None or is_gate(module):
        return False
    if _RECTIFIER_NAME.search(own.__name__):
        return getattr(module, "apply_act", True) is not False
    return next(module.parameters(), None) is None and called(module, own) != ()


def functional(model: nn.Module, found: Found) -> str:
    """List modules whose code calls activations as functions that no noise of ``found`` is known to reach."""
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
    """Tell whether a module is a gate by its name, such as timm's HardSigmoid, which calls relu6."""
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


_LAYERS = (*(getattr(nn, f"Conv{kind}{n}d") for kind in ("", "Transpose") for n in (1, 2, 3)), nn.Linear)


def _layers(model: nn.Module) -> Found:
    """Find the convolutions and linear layers, in the order of registration, but the last."""
    # The output layer of nn.MultiheadAttention is never called: the attention takes its weights.
    uncalled = nn.modules.linear.NonDynamicallyQuantizableLinear
    found = [(n, m) for n, m in model.named_modules() if isinstance(m, _LAYERS) and not isinstance(m, uncalled)]
    return {(name, "output"): module for name, module in found[:-1]}


def _last(model: nn.Module) -> Found:
    """Find what enters the last linear layer."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return {(name, "input"): module for name, module in found[-1:]}


def channels(model: nn.Module, name: str, side: Side) -> tuple[int, frozenset[int]] | None:
    """Tell the dimension of the channels at a place, and the sizes that it may have; None where nothing tells."""
    modules = list(model.named_modules())
    at = [found for found, _ in modules].index(name)
    own, siblings = modules[at][1], list[tuple[int, int] | None]()
    if side == "input" or own_class(own).__name__ == "Normalize":
        leaves = [module for _, module in modules[at:] if next(module.children(), None) is None]
        first = next((leaf for leaf in leaves if own_class(leaf).__name__ not in _LETS_THROUGH), own)
        known = _known(first, entering=True)
    elif not (known := _known(own)) and next(own.children(), None) is None:
        known = next((found for _, module in reversed(modules[:at]) if (found := _known(module))), None)
        # A shared activation stands after several layers of its block.
        siblings = [_known(module) for module in model.get_submodule(name.rpartition(".")[0]).children()]
    if known is None:
        return None
    sizes = frozenset(each[1] for each in (*siblings, known) if each and each[0] == known[0])
    return known[0], frozenset() if 0 in sizes else sizes  # a lazy layer does not know yet


def groups_at(model: nn.Module, name: str, side: Side, groups: Groups | None) -> Groups | None:
    """Find the dimension of the channels at a place, unless it is given."""
    if groups is None or groups.grain != "channel" or groups.channel:
        return groups
    if (found := channels(model, name, side)) is None:
        raise InputError(
            f"grain='channel': where the channels are at {name or 'the model'!r} is not certain. Give "
            "it too, for this place alone: robustify(model, grain=('channel', 1), where=...), or -1 for the last."
        )
    return groups._replace(channel=found[0], channels=found[1])


_LETS_THROUGH = ("Normalize", "Identity", "Dropout")


def _known(module: nn.Module, entering: bool = False) -> tuple[int, int] | None:
    """Tell the dimension and number of the channels that leave or enter a layer, by its class."""
    flat = re.search(r"([123])d", own_class(module).__name__)
    dim = -1 - int(flat[1]) if flat else None
    if isinstance(module, _LAYERS):
        sizes = ("in_features", "out_features") if isinstance(module, nn.Linear) else ("in_channels", "out_channels")
        dim = -1 if isinstance(module, nn.Linear) else -1 - len(module.kernel_size)
        size = getattr(module, sizes[not entering])
    elif isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
        size, dim = getattr(module, "num_features", getattr(module, "num_channels", 0)), 1 if dim in (None, -2) else dim
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
        size, dim = module.normalized_shape[0], dim or -1
    elif isinstance(module, nn.Embedding) and not entering:
        size, dim = module.embedding_dim, -1
    else:
        return None
    return dim, int(size)


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


def arguments(forward: Any) -> tuple[list[str], list[str]]:
    """List the names of the arguments of a forward that may come by position, and those that may come by name."""
    try:
        own = list(inspect.signature(forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return [], []
    by_position = [p.name for p in own if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return by_position, [p.name for p in own if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def perturb_input(
    module: nn.Module, noise: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put noise on the argument that the signature names first among those that are floating-point tensors."""
    if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and args[0].is_floating_point():
        return (noise(args[0]),), kwargs
    if len(args) == 1 and not kwargs and isinstance(args[0], Mapping):  # such as a BatchEncoding
        batch: Any = copy.copy(args[0])
        name = _input(module, dict(batch), [])
        batch[name] = noise(batch[name])
        return (batch,), kwargs
    by_position, by_name = getattr(module, "_resolute_names", None) or arguments(type(module).forward)
    names = [by_position[i] if i < len(by_position) else f"argument {i + 1}" for i in range(len(args))]
    name = _input(module, {**dict(zip(names, args, strict=True)), **kwargs}, names + by_name)
    if name in names:
        return tuple(noise(x) if n == name else x for n, x in zip(names, args, strict=True)), kwargs
    return args, {**kwargs, name: noise(kwargs[name])}


def _input(module: nn.Module, given: dict[str, Any], ordered: list[str]) -> str:
    """Choose the argument that gets the noise, or refuse to guess."""
    tensors = {name: x for name, x in given.items() if isinstance(x, Tensor)}
    floating = [name for name, x in tensors.items() if x.is_floating_point()]
    first = next((name for name in ordered if name in floating), floating[0] if len(floating) == 1 else None)
    if first and (len(tensors) == 1 or not (first == "y" or any(word in first for word in _NO_INPUT))):
        return first
    came = ", ".join(f"{name} ({getattr(x, 'dtype', type(x).__name__)})" for name, x in given.items()) or "none"
    leaves = (n for n, m in module.named_modules() if n and not isinstance(m, nn.Embedding) and not m._modules)
    raise InputError(
        f"noise at the input of {own_class(module).__name__}: which of its arguments it is for is not certain; they "
        f"are {came}. Name an inner module that the right one enters, with ':input' behind its name, such as "
        f"where='{next(leaves, 'NAME')}:input'."
    )
