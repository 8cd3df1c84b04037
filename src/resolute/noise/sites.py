"""Which modules of a network ``where`` names, and which activations the code of a module calls as functions.

A module's code is read from its bytecode without running it: `forward`, the methods and functions of the same library
that it leads to, and functions held as attributes (``self.activation = F.relu``). What cannot be read counts as free of
activations; `unreached` finds the rest in a trial run.
"""

from __future__ import annotations

import dis
import functools
import inspect
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.noise.perturb import Perturb

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
        model: Any module, perturbed or not; it is not changed.
        where: As in `robustify`.

    Returns:
        The sites in the order of ``model.named_modules()``; a shared module stands there once.

    Raises:
        InputError: If ``where``, or an item of it, matches no module; the message names the candidates.

    Example:
        >>> [site.name for site in sites(nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2)))]
        ['1']
    """
    return [Site(name, own_class(module)) for (name, _), module in find_sites(model, where).items()]


def own_class(module: nn.Module) -> type[nn.Module]:
    """Tell the class that a module has without noise."""
    return getattr(module, "_own", type(module))


def find_sites(model: nn.Module, where: Where) -> Found:
    """Find the modules that ``where`` names."""
    if isinstance(where, Sequence) and not isinstance(where, str):
        return _find_all(model, [item for item in where if item is not None])
    if where == "both":
        return find_sites(model, "input") | find_sites(model, "hidden")
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
    found = [_matched(model, item) if item == "hidden" and spares_hidden else find_sites(model, item) for item in items]
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
