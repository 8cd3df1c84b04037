"""Names and paths: what load understands, and what it says of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resolute.data import DATASETS, load
from resolute.data.dataset import data_root
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("RESOLUTE_DATA", raising=False)
    assert data_root() == Path("/home/someone/.cache/resolute")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root() == Path("/cache/resolute")
    monkeypatch.setenv("RESOLUTE_DATA", "~/data")
    assert data_root() == Path("/home/someone/data")
    assert data_root("here") == Path("here")


def test_a_name_wins_over_a_folder_and_a_dot_names_the_folder(image_folder: Callable[..., Path]) -> None:
    image_folder(Path("digits"), {"a": 3, "b": 3})
    assert load("digits").info.classes == 10
    there = load("./digits")
    assert (there.info.classes, there.info.name) == (2, "./digits")
    assert load(Path("digits").resolve()).info.classes == 2


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"name_or_path": "mnits"}, r"unknown data set 'mnits': did you mean 'mnist'.*no folder mnits either"),
        ({"name_or_path": "photos/cats"}, "there are: cifar10, .*no folder photos/cats either"),
        ({"name_or_path": "digits", "split": "valid"}, "unknown split 'valid': did you mean 'validation'"),
        ({"name_or_path": "digits", "size": 32}, "size 32 came with 'digits'"),
        ({"name_or_path": ".", "size": 0}, "size is 0: it is a number of pixels"),
        ({"name_or_path": __file__}, "is a file: give the path of the folder"),
    ],
)
def test_bad_requests(what: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(**what)


def test_every_name_is_the_name_of_its_set() -> None:
    published = {"mnist", "fashion-mnist", "kmnist", "emnist", "svhn", "svhn-core", "cifar10", "cifar100"}
    assert set(DATASETS) == {"digits", "imagenet"} | published
    assert load("digits").info.name == "digits"


def test_every_loader_is_described_in_a_line() -> None:
    for name, loader in DATASETS.items():
        first = str(loader.__doc__).split("\n", 1)[0]
        assert len(first) > 20, name


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("torchvision", "sklearn", "PIL", "pyarrow", "scipy")
    code = f"import resolute.data, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
