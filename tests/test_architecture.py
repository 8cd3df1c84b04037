"""The house rules that a machine can see."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src/resolute"
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("lightning", "lightning_fabric", "torchvision", "matplotlib", "scipy", "sklearn", "timm", "pyarrow", "pandas")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 600
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
            assert length <= 50, f"{node.name} has {length} lines"


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

    functions = "perturb Perturb robustify unrobustify is_robust set_eps sites Site train evaluate compare"
    packages = "models.build models.MODELS data.DATASETS data.load methods.METHODS shifts.SUITES suites.SUITES "
    packages += "attacks.fgsm attacks.pgd"
    for name in functions.split():
        assert callable(getattr(resolute, name))
    for name in packages.split():
        package, attribute = name.split(".")
        assert hasattr(getattr(resolute, package), attribute)
    with pytest.raises(AttributeError, match="no attribute 'robustfy'"):
        resolute.robustfy  # noqa: B018
