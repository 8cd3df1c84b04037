from __future__ import annotations

import hashlib
import json
import pickle
import random
from typing import TYPE_CHECKING, Any

import pytest
import torch

from cases import BUILDS, LARGE
from resolute import models
from resolute.errors import InputError
from resolute.models import checkpoint
from resolute.noise.robustify import robustify
from resolute.run_folder import write_sealed

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
    checkpoint.save_network(model, tmp_path / "cell", spec(key) | {"seed": 3})
    again = checkpoint.load_network(tmp_path / "cell")
    assert not again.training
    assert again.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.state_dict().items())
    x = torch.rand(2, *BUILDS[key][1])
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))


def test_noise_does_not_travel(tmp_path: Path) -> None:
    model = robustify(build("lenet"))
    checkpoint.save_network(model, tmp_path, spec("lenet"))
    x = torch.rand(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(checkpoint.load_network(tmp_path)(x), model.eval()(x))


def test_the_specification_is_kept_whole_beside_two_checksums(tmp_path: Path) -> None:
    checkpoint.save_network(build("lenet"), tmp_path, spec("lenet") | {"method": "r"})
    stored = json.loads((tmp_path / "model.json").read_text())
    assert stored == {
        "name": "lenet",
        "classes": 4,
        "shape": [1, 8, 8],
        "method": "r",
        "format": 2,
        "weights_sha256": hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest(),
        "file_sha256": stored["file_sha256"],
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
            "cannot load .*are not those of lenet-caffe, such as",
        ),
        ("model.json", b'{"name": "lenet", "classes": 4, "shape": [1, 8]}', r"describe a network: shape is \[1, 8\]"),
        (
            "model.json",
            b'{"name": "lenet", "classes": 4, "shape": [1, 9, 12]}',
            "cannot load .*not those of lenet-caffe, such as",
        ),
        ("model.json", b'{"name": "wrn-9994-1", "classes": 4, "shape": [1, 8, 8]}', "describe a network: name is"),
        ("model.json", b'{"name": "lenet", "classes": 4, "shape": [1, 8, 8], "seed": "x"}', "seed is 'x'"),
        ("model.json", b'{"name": "lenett", "classes": 4, "shape": [1, 8, 8]}', "unknown model 'lenett'"),
        ("weights.safetensors", None, "cannot load the network .*Train it again"),
        ("weights.safetensors", b"", "weights.safetensors is damaged: .*Restore it, or train it again"),
        ("weights.safetensors", pickle.dumps({}), "weights.safetensors is damaged: .*Restore it, or train it again"),
    ],
)
def test_broken_files_are_refused(file: str, content: bytes | None, message: str, tmp_path: Path) -> None:
    checkpoint.save_network(build("lenet"), tmp_path, spec("lenet"))
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=rf"(?s){message}"):
        checkpoint.load_network(tmp_path)


@pytest.mark.parametrize("content", [b"", pickle.dumps({}), b"\xff" * 8])
def test_broken_weights_without_a_checksum_are_refused(content: bytes, tmp_path: Path) -> None:
    """As an earlier version wrote them."""
    checkpoint.save_network(build("lenet"), tmp_path, spec("lenet"))
    (tmp_path / "model.json").write_text(json.dumps(spec("lenet")))
    checkpoint.load_network(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot load the network .*Train it again"):
        checkpoint.load_network(tmp_path)


def test_a_truncated_file_of_weights_is_refused(tmp_path: Path) -> None:
    checkpoint.save_network(build("lenet"), tmp_path, spec("lenet"))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"weights.safetensors is damaged: .*Restore it, or train it again"):
        checkpoint.load_network(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
def test_a_flipped_bit_is_refused_or_changes_nothing(name: str, tmp_path: Path) -> None:
    model = build("lenet")
    checkpoint.save_network(model, tmp_path, spec("lenet") | {"method": "r", "seed": 3})
    path, rng, refused = tmp_path / name, random.Random(name), 0
    whole, wanted = path.read_bytes(), model.state_dict()
    for _ in range(40):
        place = rng.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        try:
            found = checkpoint.load_network(tmp_path).state_dict()
        except InputError as error:
            refused += name in str(error)
            continue
        assert name == "model.json", "of the weights no byte is without meaning"
        assert checkpoint.read_spec(tmp_path)["seed"] == 3
        assert all(torch.equal(tensor, wanted[key]) for key, tensor in found.items())
        refused += 1
    assert refused == 40, "some refusal does not name the file"


def test_a_lenet_of_before_is_the_one_that_it_was(tmp_path: Path) -> None:
    """The weights fit both forms, so only the file can tell."""
    shape = (1, 8, 8)
    for name, stored in (("lenet", "lenet"), ("lenet-caffe", "lenet")):
        model = models.build(name, classes=10, shape=shape).eval()
        folder = tmp_path / name
        checkpoint.save_network(model, folder, {"name": stored, "classes": 10, "shape": list(shape)})
        if name == "lenet-caffe":
            spec = checkpoint.read_spec(folder)
            write_sealed(folder / "model.json", {k: v for k, v in spec.items() if k not in ("format", "file_sha256")})
        x = torch.rand(3, *shape)
        assert checkpoint.read_spec(folder)["name"] == name
        assert torch.equal(checkpoint.load_network(folder)(x), model(x))
