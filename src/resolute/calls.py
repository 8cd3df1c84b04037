"""Which activations the code of a module calls as functions, read from its bytecode without running it.

What is read: `forward`, the methods and the functions of the same library that it leads to, and functions held as
attributes of the module (``self.activation = F.relu``). What cannot be read is taken as free of activations.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from dataclasses import dataclass
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

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
    """Name the activations that a module's own code calls as functions.

    Args:
        module: The module; its children are not looked into.
        own: Its class, the one whose ``forward`` is read.

    Returns:
        Names such as ``"relu"``, sorted; empty if there is none or the code cannot be read.

    Example:
        >>> called(torch.nn.TransformerEncoderLayer(8, 2), torch.nn.TransformerEncoderLayer)
        ('relu',)
        >>> called(torch.nn.Linear(2, 2), torch.nn.Linear)
        ()
    """
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
