from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file

from cases import as_float, tiny_images, tiny_info
from resolute import models
from resolute.errors import InputError
from resolute.evaluation.networks import from_checkpoint, from_factory, from_name
from resolute.models import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

INFO = tiny_info(shape=(1, 8, 8))
X, _ = as_float(tiny_images(6, INFO))


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    spec = {"name": "lenet", "classes": 3, "shape": (1, 8, 8), "class_names": list(INFO.class_names)}
    folder = tmp_path / "run/cells/r-seed2"
    model = models.build("lenet", classes=3, shape=(1, 8, 8), mean=(0.3,), std=(0.2,))
    checkpoint.save_network(model, folder, spec | {"method": "r", "seed": 2})
    return folder


def test_a_checkpoint_is_its_network_named_by_its_training(cell: Path) -> None:
    network = from_checkpoint(cell, INFO)
    assert (network.name, network.architecture, len(network.sha256)) == ("r-seed2", "lenet", 64)
    assert torch.equal(network.model(X), checkpoint.load_network(cell)(X))
    assert from_checkpoint(cell, INFO).sha256 == network.sha256


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 4}, "was trained on 3 classes of 1x8x8 pixels, and tiny has 4 of 1x8x8"),
        ({"shape": (3, 8, 8)}, "and tiny has 3 of 3x8x8: give the data that it was trained for"),
        (
            {"interpolation": "bicubic"},
            r"resized by bilinear interpolation, and these were by bicubic: --interpolation bilinear\.",
        ),
        ({"class_names": ("0", "x", "2")}, "calls class 1 '1', and tiny calls it 'x'"),
    ],
)
def test_a_checkpoint_of_other_data_is_refused(cell: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_checkpoint(cell, dataclasses.replace(INFO, **change))


def test_a_run_is_no_checkpoint_but_has_some(cell: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"This is a run: give one of its cells, such as .*cells/r-seed2"):
        from_checkpoint(tmp_path / "run", INFO)
    with pytest.raises(InputError, match=r"holds no model.json: a checkpoint is a folder cells/METHOD-seedN\.$"):
        from_checkpoint(cell.parent, INFO)
    with pytest.raises(InputError, match=r"there is no folder .*nothing\."):
        from_checkpoint(cell / "nothing", INFO)


@pytest.mark.parametrize("kind", ["safetensors", "bare", "nested", "wrapped", "whole"])
def test_weights_are_read_as_training_scripts_write_them(tmp_path: Path, kind: str) -> None:
    model = models.build("lenet", classes=3, shape=(1, 8, 8)).eval()
    bare = model.get_submodule("network").state_dict()
    files: dict[str, dict[str, Any]] = {
        "nested": {"epoch": 3, "state_dict": bare},
        "wrapped": {"model": {f"module._orig_mod.{name}": tensor for name, tensor in bare.items()}},
        "whole": model.state_dict(),
    }
    stored = files.get(kind, bare)
    path = tmp_path / f"weights.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        save_file(stored, path)
    else:
        torch.save(stored, path)
    network = from_name("lenet", path, INFO)
    assert network.name == "weights"
    assert torch.equal(network.model(X), model(X))


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this code ran",))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (Code(), "cannot read weights from"),
        ({"a": torch.zeros(2)}, "are not those of lenet"),
        ([1, 2], "holds no weights by name"),
    ],
)
def test_weights_that_cannot_be_used_are_refused(
    tmp_path: Path, stored: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(stored, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        from_name("lenet", tmp_path / "w.pth", INFO)
    assert "this code ran" not in capsys.readouterr().out


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read weights from"):
        from_name("lenet", tmp_path / "none.safetensors", INFO)


def test_a_factory_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine_to_judge.py").write_text("from torch import nn\ndef make(): return nn.Flatten()\nnumber = int\n")
    monkeypatch.syspath_prepend(tmp_path)
    network = from_factory("mine_to_judge:make")
    assert (network.name, network.model(X).shape) == ("make", (6, 64))
    for target, message in (
        ("mine_to_judge", "it is package.module:function"),
        ("mine_to_judge:other", "has no attribute 'other'"),
        ("not_there_at_all:make", "No module named"),
        ("mine_to_judge:number", "returned a int; wanted is a torch.nn.Module"),
    ):
        with pytest.raises(InputError, match=message):
            from_factory(target)
