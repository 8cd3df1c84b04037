from __future__ import annotations

import argparse
import hashlib
import json
import pathlib
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


# Weights that other programs wrote


def lenet(classes: int = 4, **settings: Any) -> torch.nn.Module:
    return models.build("lenet", classes=classes, shape=(1, 8, 8), **settings).eval()


def prefixed(prefix: str, tensors: dict[str, Any]) -> dict[str, Any]:
    return {prefix + key: tensor for key, tensor in tensors.items()}


BARE: dict[str, Any] = dict(lenet().get_submodule("network").state_dict())
OTHER: dict[str, Any] = {key: tensor + 1 for key, tensor in BARE.items()}
ARGS = argparse.Namespace(model="lenet", lr=0.1, data_dir=pathlib.Path("photos"), mean=None, device="cpu")
FILES: dict[str, Any] = {
    "bare": BARE,
    "timm": {"epoch": 3, "arch": "lenet", "state_dict": BARE, "optimizer": {"state": {}}, "version": 2, "args": ARGS},
    "timm, averaged": {"arch": "lenet", "args": ARGS, "state_dict": OTHER, "state_dict_ema": BARE, "metric": 81.5},
    "torchvision": {"model": BARE, "epoch": 1, "args": ARGS, "model_ema": None},
    "torchvision, averaged": {
        "model": OTHER, "model_ema": prefixed("module.", BARE) | {"n_averaged": torch.tensor(7)}, "args": ARGS
    },
    "tutorial": {"epoch": 1, "model_state_dict": BARE, "optimizer_state_dict": {}, "loss": 0.3},
    "Lightning, model.": {
        "pytorch-lightning_version": "2.5", "state_dict": prefixed("model.", BARE), "hyper_parameters": {"a": 1}
    },
    "Lightning, net.": {"state_dict": prefixed("net.", BARE) | {"criterion.weight": torch.ones(4)}},
    "Lightning, its own loop": {"state_dict": prefixed("trainer.backbone.", BARE)},
    "DDP": prefixed("module.", BARE),
    "compiled": prefixed("_orig_mod.", BARE),
    "compiled in DDP": prefixed("module._orig_mod.", BARE),
    "compiled in Lightning": {"state_dict": prefixed("model._orig_mod.", BARE)},
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_weights_are_read_as_other_programs_write_them(kind: str, tmp_path: Path) -> None:
    torch.save(FILES[kind], tmp_path / "w.pth")
    model = lenet()
    checkpoint.load_weights(model, tmp_path / "w.pth", "lenet")
    found = model.get_submodule("network").state_dict()
    assert found.keys() == BARE.keys()
    assert all(torch.equal(found[key], BARE[key]) for key in BARE)


def test_weights_that_timm_s_saver_wrote(tmp_path: Path) -> None:
    import timm
    from timm.utils.checkpoint_saver import CheckpointSaver

    args = argparse.Namespace(model="resnet10t", num_classes=3, opt="sgd")
    theirs = timm.create_model("resnet10t", num_classes=3)
    saver: Any = CheckpointSaver(  # type: ignore[no-untyped-call]
        theirs, torch.optim.SGD(theirs.parameters(), lr=0.1), args, checkpoint_dir=str(tmp_path),
        recovery_dir=str(tmp_path),
    )  # fmt: skip
    saver.save_checkpoint(0, metric=0.5)
    model = models.build("timm/resnet10t", classes=3, shape=(3, 32, 32)).eval()
    checkpoint.load_weights(model, tmp_path / "last.pth.tar", "timm/resnet10t")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.get_submodule("network")(x), theirs.eval()(x))


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_the_normalisation_comes_too_where_it_is_in_the_file(prefix: str, tmp_path: Path) -> None:
    theirs = lenet(mean=(0.3,), std=(0.2,))
    torch.save(prefixed(prefix, theirs.state_dict()), tmp_path / "w.pth")
    model = lenet()
    checkpoint.load_weights(model, tmp_path / "w.pth", "lenet")
    assert torch.equal(model(torch.ones(1, 1, 8, 8)), theirs(torch.ones(1, 1, 8, 8)))


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this code ran",))


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (
            {"state_dict": lenet(classes=9).get_submodule("network").state_dict(), "args": ARGS},
            r"are of 9 classes, and 4 are wanted \(fc2.bias is 9 instead of 4\): give the data that they were "
            r"trained for \(--data\), or train lenet on this data first\.$",
        ),
        (
            models.build("lenet", classes=4, shape=(3, 8, 8)).get_submodule("network").state_dict(),
            r"are of another lenet: 1 differ in size, such as conv1.weight, 20x3x5x5 instead of 20x1x5x5",
        ),
        (BARE | {"fc3.weight": torch.ones(2)}, "are not those of lenet: 1 are not of it, such as fc3.weight"),
        (
            {"a": torch.zeros(2)},
            r"are not those of lenet: \d+ are missing, such as conv1.bias; 1 are not of it, such as a",
        ),
        (
            prefixed("student.", BARE) | prefixed("teacher.", OTHER),
            r"holds 2 networks, student\. and teacher\.: save the",
        ),
        (
            {"state_dict": BARE, "extra": Code()},
            r"it holds print beside tensors, and to load that",
        ),
        (torch.nn.Linear(2, 2), r"it holds torch\.nn\.modules\.linear\.Linear beside tensors, and to load that"),
        ([1, 2], "holds no weights by name"),
        ({}, "holds no weights by name"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_in_one_sentence(
    tmp_path: Path, stored: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(stored, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message) as caught:
        checkpoint.load_weights(lenet(), tmp_path / "w.pth", "lenet")
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert len(said) < 400
    assert "weights_only" not in said
    assert "this code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04", pickle.dumps({}), bytes(1000)])
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_file_of_weights_is_refused_in_one_sentence(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=r"^(cannot read weights from .*writes\.|.*holds no weights by name.*)$"):
        checkpoint.load_weights(lenet(), tmp_path / name, "lenet")
    with pytest.raises(InputError, match=r"cannot read weights from .*: No such file or directory"):
        checkpoint.load_weights(lenet(), tmp_path / f"no{name}", "lenet")


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
