from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch

from cases import BUILDS, LARGE
from resolute import models
from resolute.errors import InputError
from resolute.models import checkpoint
from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from pathlib import Path


def spec(key: str) -> dict[str, Any]:
    name, shape = BUILDS[key]
    return {"name": name, "classes": 4, "shape": shape}


def build(key: str) -> torch.nn.Module:
    arguments = spec(key)
    channels = arguments["shape"][0]
    model = models.build(**arguments, mean=[0.3] * channels, std=[0.2] * channels)
    model(torch.rand(4, *arguments["shape"]))
    return model


@pytest.mark.parametrize("key", [key for key in BUILDS if key not in LARGE])
def test_a_saved_network_comes_back_bit_for_bit(key: str, tmp_path: Path) -> None:
    model = build(key)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    checkpoint.save(model, tmp_path / "cell", spec(key) | {"seed": 3})
    again = checkpoint.load(tmp_path / "cell")
    assert not again.training
    assert again.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.state_dict().items())
    x = torch.rand(2, *BUILDS[key][1])
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))


def test_noise_does_not_travel(tmp_path: Path) -> None:
    model = robustify(build("lenet"))
    checkpoint.save(model, tmp_path, spec("lenet"))
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(checkpoint.load(tmp_path)(x), model.eval()(x))


def test_the_specification_is_kept_whole(tmp_path: Path) -> None:
    checkpoint.save(build("lenet"), tmp_path, spec("lenet") | {"method": "r"})
    assert json.loads((tmp_path / "model.json").read_text()) == {
        "name": "lenet",
        "classes": 4,
        "shape": [1, 8, 8],
        "method": "r",
    }


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.json", None, "cannot read .*model.json"),
        ("model.json", b"{", "model.json is not JSON"),
        ("model.json", b"[]", "does not describe a network: it holds no names"),
        ("model.json", b'{"name": "lenet", "classes": 4}', "does not describe a network: shape is None"),
        (
            "model.json",
            b'{"name": "lenet", "classes": 5, "shape": [1, 8, 8]}',
            "cannot load .*are not those of lenet, such as",
        ),
        ("model.json", b'{"name": "lenet", "classes": 4, "shape": [1, 8]}', r"describe a network: shape is \[1, 8\]"),
        (
            "model.json",
            b'{"name": "lenet", "classes": 4, "shape": [1, 9, 12]}',
            "cannot load .*not those of lenet, such as",
        ),
        ("model.json", b'{"name": "wrn-9994-1", "classes": 4, "shape": [1, 8, 8]}', "describe a network: name is"),
        ("model.json", b'{"name": "lenet", "classes": 4, "shape": [1, 8, 8], "seed": "x"}', "seed is 'x'"),
        ("model.json", b'{"name": "lenett", "classes": 4, "shape": [1, 8, 8]}', "unknown model 'lenett'"),
        ("weights.safetensors", None, "cannot load the network .*Train it again"),
        ("weights.safetensors", b"", "cannot load the network .*Train it again"),
        ("weights.safetensors", pickle.dumps({}), "cannot load the network .*Train it again"),
    ],
)
def test_broken_files_are_refused(file: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    checkpoint.save(build("lenet"), tmp_path, spec("lenet"))
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s){message}"):
        checkpoint.load(tmp_path)


def test_a_truncated_file_of_weights_is_refused(tmp_path: Path) -> None:
    checkpoint.save(build("lenet"), tmp_path, spec("lenet"))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="Train it again"):
        checkpoint.load(tmp_path)
