"""The house rules that a machine can see."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src/resolute"
FILES = sorted(SOURCE.rglob("*.py"))
OF_THE_WHOLE = {
    *("test_architecture.py", "test_bare.py", "test_docs.py", "test_docstrings.py", "test_hostile.py"),
    *("test_properties.py", "test_readers.py", "test_sweep.py", "curvature/test_claims.py", "report/test_damaged.py"),
    *(str(path.relative_to(TESTS)) for path in (TESTS / "frameworks").glob("test_*.py")),
}
"""Tests of no one source file."""
NO_TEST_BELOW = 40
"""Lines of a source file that other files' tests may test."""
HEAVY = ("lightning", "lightning_fabric", "torchvision", "matplotlib", "scipy", "sklearn", "timm", "pyarrow", "pandas")


def test_each_source_file_has_its_test_file_and_each_test_file_its_source_file() -> None:
    tests = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}
    assert tests >= OF_THE_WHOLE
    lines = {}
    for path in FILES:
        name = "init" if path.stem == "__init__" else path.stem
        own = path.relative_to(SOURCE).with_name(f"test_{name}.py")
        lines[str(own)] = len(path.read_text().splitlines())
    assert tests - OF_THE_WHOLE - lines.keys() == set(), "no source file has this name"
    assert {own for own, n in lines.items() if n > NO_TEST_BELOW} - tests == set(), "no test file has this name"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
            assert length <= 50, f"{node.name} has {length} lines"


def modules() -> dict[str, ast.Module]:
    """Every module of the package by its dotted name."""
    names = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in FILES}
    return {name.removesuffix(".__init__"): ast.parse(path.read_text()) for name, path in names.items()}


def imports(tree: ast.Module, known: set[str]) -> set[str]:
    """The modules of the package that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & known) or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def test_the_house_is_small_and_its_imports_make_no_circle() -> None:
    trees = modules()
    graph = {name: imports(tree, set(trees)) - {name} for name, tree in trees.items()}
    levels = list(graphlib.TopologicalSorter(graph).static_order())  # a circle raises CycleError
    level: dict[str, int] = {}
    for name in levels:
        level[name] = 1 + max((level[below] for below in graph[name]), default=0)
    assert max(level.values()) <= 22
    assert len(FILES) <= 100
    assert len({path.parent for path in FILES}) <= 16
    assert sum(len(path.read_text().splitlines()) for path in FILES) <= 22_500


def test_a_public_name_has_one_sense() -> None:
    """But for a command and the function that it calls."""
    defined: dict[str, set[str]] = {}
    for module, tree in modules().items():
        if not module.startswith("resolute.cli"):
            for node in tree.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    defined.setdefault(node.name, set()).add(module)
    assert {name: places for name, places in defined.items() if len(places) > 1} == {}


def test_no_file_is_named_after_nothing() -> None:
    names = {part for path in FILES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert names.isdisjoint({"utils", "util", "core", "common", "base", "helpers", "misc"})


def test_one_package_imports_lightning() -> None:
    using = [path for path in FILES if re.search(r"^\s*(from|import) lightning", path.read_text(), re.MULTILINE)]
    assert {path.relative_to(SOURCE).parts[0] for path in using} == {"training"}


@pytest.mark.parametrize(
    ("code", "also"),
    [("import resolute; resolute.robustify, resolute.perturb", ()), ("import resolute.cli", ("torch", "numpy"))],
)
def test_imports_stay_light(code: str, also: tuple[str, ...]) -> None:
    shown = f"{code}; import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded).isdisjoint({*HEAVY, *also})


def test_every_frozen_name_is_there() -> None:
    import resolute

    functions = "perturb Perturb robustify unrobustify is_robust set_eps sites Site train evaluate compare "
    functions += "strength calibrate"
    packages = "models.build models.MODELS data.DATASETS data.load methods.METHODS shifts.SUITES suites.SUITES "
    packages += "attacks.fgsm attacks.pgd"
    for name in functions.split():
        assert callable(getattr(resolute, name))
    for name in packages.split():
        package, attribute = name.split(".")
        assert hasattr(getattr(resolute, package), attribute)
    with pytest.raises(AttributeError, match="no attribute 'robustfy'"):
        resolute.robustfy  # noqa: B018
