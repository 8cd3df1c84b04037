"""Where there are torch and numpy, what these need, and nothing else: the method works, the lab says what it needs."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import resolute
from resolute.cli import app

HOUSE = Path(__file__).parent.parent
SOURCE = HOUSE / "src/resolute"
MODULES = {path.stem for path in SOURCE.glob("*.py")} | {path.parent.name for path in SOURCE.glob("*/__init__.py")}
ALONE = {"__main__", "attacks", "config", "errors", "noise"}
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
LAB_NAMES = ["compare", "data", "evaluate", "methods", "models", "recipes", "shifts", "suites", "train"]
SENTENCE = re.escape('which are not installed: pip install "resolute[lab]"')


def needed(*names: str) -> dict[str, Path]:
    """Find the files and folders that packages and all that they require put beside each other."""
    found: dict[str, Path] = {}
    todo, seen = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        wanted = [Requirement(text) for text in package.requires or []]
        todo += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
        tops = {Path(file).parts[0] for file in package.files or []} - {"..", "__pycache__"}
        found |= {top: Path(str(package.locate_file(top))) for top in tops}
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the environment; give its Python."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    for name, place in needed("torch", "numpy").items():
        (packages / name).symlink_to(place)
    (packages / "resolute.pth").write_text(str(SOURCE.parent))
    return folder / "bin/python"


def run(python: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run([python, *words], capture_output=True, text=True, check=False, env=environment)


def test_the_method_works_there(bare: Path) -> None:
    script = """
import torch, resolute
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
x, y = torch.rand(8, 1, 8, 8), torch.randint(3, (8,))
assert torch.allclose((resolute.perturb(x, 0.25) - x).abs(), 0.25 * x)
untouched = net.eval()(x)
assert resolute.robustify(net, 0.3) is net and resolute.is_robust(net)
assert torch.equal(net(x), untouched)
assert [site.name for site in resolute.sites(net)] == ["2"] and resolute.unreached(net, x) == []
resolute.set_eps(net, 0.2)
net.train()
assert not torch.equal(net(x), net(x))
before = [weight.clone() for weight in net.parameters()]
optimizer = torch.optim.SGD(net.parameters(), 0.1)
nn.functional.cross_entropy(net(x), y).backward()
optimizer.step()
assert not all(torch.equal(old, new) for old, new in zip(before, net.parameters()))
attacked = resolute.attacks.fgsm(net, x, y, 0.1)
assert 0 < (attacked - x).abs().max() <= 0.1 + 1e-6
noisy = net.eval()(x)
assert torch.equal(resolute.unrobustify(net)(x), noisy)
"""
    done = run(bare, "-c", script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("command", [*COMMANDS, "--help", ""])
def test_each_command_ends_in_one_sentence_there(bare: Path, command: str) -> None:
    done = run(bare, "-m", "resolute", *command.split())
    assert done.returncode == 2
    assert done.stdout == ""
    name = f"resolute {command}" if command in COMMANDS else "resolute"
    assert re.fullmatch(
        rf"error: {name} needs lightning-fabric, matplotlib, \S+ and \d+ more, {SENTENCE}\n", done.stderr
    )


def test_the_command_is_what_the_package_installs(bare: Path) -> None:
    place = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["scripts"]["resolute"]
    module, function = place.split(":")
    done = run(bare, "-c", f"import sys; from {module} import {function} as start; sys.exit(start())", "compare")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: resolute compare needs .*{SENTENCE}\n", done.stderr)


def test_each_lab_name_and_module_says_what_to_install_there(bare: Path) -> None:
    modules = sorted(MODULES - {"__init__"})
    assert ALONE | {"cli", "data", "stats"} < set(modules)
    script = f"""
import importlib, json, resolute

def ending(load):
    try:
        load()
    except ImportError as error:
        return str(error)

names = {{name: ending(lambda: getattr(resolute, name)) for name in {[*resolute.__all__, "suites"]}}}
modules = {{name: ending(lambda: importlib.import_module(f"resolute.{{name}}")) for name in {modules}}}
print(json.dumps([names, modules]))
"""
    done = run(bare, "-c", script)
    assert done.stderr == ""
    names, endings = json.loads(done.stdout)
    assert sorted(name for name, ending in names.items() if ending) == LAB_NAMES
    assert {name for name, ending in endings.items() if not ending} == ALONE
    for name, ending in [*names.items(), *endings.items()]:
        assert ending is None or re.fullmatch(rf"resolute\.{name} needs .*{SENTENCE}", ending)


def test_what_the_lab_needs_is_what_its_extra_brings() -> None:
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    assert {Requirement(text).name for text in project["dependencies"]} == {"numpy", "torch"}
    brought = {Requirement(text).name for text in project["optional-dependencies"]["lab"]}
    assert set(resolute._LAB_PACKAGES.values()) == brought


def test_the_import_contract_of_the_method_names_all_else() -> None:
    house = tomllib.loads((HOUSE / "pyproject.toml").read_text())
    (contract,) = (each for each in house["tool"]["importlinter"]["contracts"] if each["type"] == "forbidden")
    packages = {Requirement(text).name for text in house["project"]["optional-dependencies"]["lab"]}
    own = {f"resolute.{name}" for name in MODULES - {"__init__", "errors", "noise"}}
    names = {resolute._LAB_PACKAGES.get(name, name) for name in contract["forbidden_modules"]}
    assert own | packages <= names


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    with pytest.raises(ImportError, match=r"^resolute\.train needs typer, which is not installed: pip "):
        _ = resolute.train


def test_the_method_imports_torch_and_numpy_alone() -> None:
    """Triton comes with torch, where there is a GPU for it."""
    for path in [SOURCE / "errors.py", *SOURCE.glob("noise/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for module in modules:
                known = module.partition(".")[0] in {*sys.stdlib_module_names, "torch", "numpy", "triton"}
                assert known or module.startswith(("resolute.noise", "resolute.errors")), f"{path.name}: {module}"
