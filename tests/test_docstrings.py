"""Every public name says what it takes, gives and refuses, and shows itself at work."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

import resolute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PACKAGES = ("data", "models", "shifts", "curvature", "evaluation", "training", "report")
"""Packages whose ``__all__`` is public."""
MODULES = ("attacks", "stats")
"""Modules whose ``__all__`` is public, or else every function and class without an underscore."""

HEADINGS = ("Args", "Attributes", "Returns", "Yields", "Raises", "Warns", "Example", "Examples")


def public() -> Iterator[tuple[str, Any]]:
    """List the public functions, classes and methods, by the name that a user writes."""
    found = {f"resolute.{name}": getattr(resolute, name) for name in resolute.__all__}
    for name in PACKAGES:
        package = importlib.import_module(f"resolute.{name}")
        found |= {f"resolute.{name}.{own}": getattr(package, own) for own in getattr(package, "__all__", ())}
    for name in MODULES:
        module = importlib.import_module(f"resolute.{name}")
        own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
        names = getattr(module, "__all__", [key for key in own if not key.startswith("_")])
        found |= {f"resolute.{name}.{key}": own[key] for key in names}
    seen: set[int] = set()
    for name, value in found.items():
        if isinstance(value, ModuleType) or not callable(value) or id(value) in seen or not hasattr(value, "__doc__"):
            continue
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        seen.add(id(value))
        yield name, value
        for key, method in vars(value).items() if inspect.isclass(value) else ():
            if (not key.startswith("_") and isinstance(method, (property, classmethod, staticmethod))) or (
                not key.startswith("_") and inspect.isfunction(method)
            ):
                yield f"{name}.{key}", method


PUBLIC = dict(public())


def sections(value: Any) -> dict[str, str]:
    """Cut a docstring at the headings of its sections."""
    parts = re.split(rf"^({'|'.join(HEADINGS)}):\n", inspect.getdoc(value) or "", flags=re.MULTILINE)
    return {"summary": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def entries(section: str) -> dict[str, str]:
    """Read ``name: text`` of a section; what is indented below belongs to the text."""
    found: dict[str, str] = {}
    for line in textwrap.dedent(section).splitlines():
        name, colon, text = line.partition(":")
        if colon and not line.startswith(" "):
            found[name.lstrip("*")] = text
        elif found:
            found[[*found][-1]] += line
    return found


def raised(function: Callable[..., Any]) -> set[str]:
    """Name the errors that a function raises in its own body."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    names, todo = set(), list(ast.iter_child_nodes(tree))
    while todo:
        node = todo.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            leaves = [leaf.id for leaf in ast.walk(node.exc.func) if isinstance(leaf, ast.Name)]
            names |= {name for name in leaves if name[0].isupper()}
        todo += ast.iter_child_nodes(node)
    return names - {"NotImplementedError"}


def parameters(function: Callable[..., Any]) -> dict[str, str]:
    """List the parameters of a function with their annotations."""
    found = inspect.signature(function).parameters.values()
    return {p.name: str(p.annotation) for p in found if p.name not in {"self", "cls"} and not p.name.startswith("_")}


def missing_of_function(function: Callable[..., Any], *, method: bool) -> Iterator[str]:
    told = sections(function)
    arguments = entries(told.get("Args", ""))
    for name, kind in parameters(function).items():
        if name not in arguments:
            yield f"Args lack {name}"
        elif kind.startswith(("Tensor", "NDArray", "ArrayLike")) and not re.search(r"\[|shape|scalar", arguments[name]):
            yield f"the shape of {name}"
    if extra := arguments.keys() - parameters(function).keys():
        yield f"Args name {', '.join(sorted(extra))}, which there is not"
    returned = str(inspect.signature(function).return_annotation)
    if returned not in {"None", "NoReturn"} and not told.keys() & {"Returns", "Yields"}:
        yield "Returns"
    for error in raised(function) - entries(told.get("Raises", "")).keys():
        yield f"Raises lacks {error}"
    if not method and not any(">>>" in text for text in told.values()):
        yield "an Example"


def missing_of_class(kind: type) -> Iterator[str]:
    told = sections(kind)
    described = entries(told.get("Attributes", "")) | entries(told.get("Args", ""))
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        names = list(getattr(kind, "_fields", [])) or list(parameters(kind))
    yield from (f"Attributes lack {name}" for name in names if name not in described)
    for name in ("__init__", "__post_init__"):
        if inspect.isfunction(start := vars(kind).get(name)) and start.__code__.co_filename != "<string>":
            for error in raised(start) - entries(told.get("Raises", "")).keys():
                yield f"Raises lacks {error}"


def missing(value: Any, *, method: bool = False) -> list[str]:
    """Say what a docstring lacks."""
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    if not (inspect.getdoc(value) or "").strip():
        return ["everything"]
    if isinstance(value, property):
        return []
    return list(missing_of_class(value) if inspect.isclass(value) else missing_of_function(value, method=method))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_full_docstring(name: str) -> None:
    method = not inspect.isclass(PUBLIC[name]) and name.rpartition(".")[0] in PUBLIC
    assert not missing(PUBLIC[name], method=method)
