"""Weights of other programs: files as they write them, and pretrained ones to start from, made in the real format."""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from resolute import models
from resolute.errors import InputError
from resolute.models.weights import load_weights, named_head, read_weights

if TYPE_CHECKING:
    from pathlib import Path


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
    load_weights(model, tmp_path / "w.pth", "lenet")
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
    load_weights(model, tmp_path / "last.pth.tar", "timm/resnet10t")
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.get_submodule("network")(x), theirs.eval()(x))


@pytest.mark.parametrize("prefix", ["", "model.", "module."])
def test_the_normalisation_comes_too_where_it_is_in_the_file(prefix: str, tmp_path: Path) -> None:
    theirs = lenet(mean=(0.3,), std=(0.2,))
    torch.save(prefixed(prefix, theirs.state_dict()), tmp_path / "w.pth")
    model = lenet()
    load_weights(model, tmp_path / "w.pth", "lenet")
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
        load_weights(lenet(), tmp_path / "w.pth", "lenet")
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
        load_weights(lenet(), tmp_path / name, "lenet")
    with pytest.raises(InputError, match=r"cannot read weights from .*: No such file or directory"):
        load_weights(lenet(), tmp_path / f"no{name}", "lenet")


# Weights to start from


SHAPE = (3, 32, 32)


def timms(name: str, path: Path, classes: int = 7, **settings: Any) -> dict[str, torch.Tensor]:
    """Save what timm's own network holds, as timm does: safetensors under its own names."""
    state = timm.create_model(name, num_classes=classes, **settings).state_dict()
    save_file(state, path)
    return {key: tensor.clone() for key, tensor in state.items()}


def started(name: str, path: Path, classes: int = 3, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build(name, classes=classes, shape=shape, weights=path, mean=[0.1] * shape[0], std=[0.9] * shape[0])


def state_of(model: nn.Module) -> dict[str, torch.Tensor]:
    return model.get_submodule("network").state_dict()


HEADS = {"test_resnet": "fc", "test_efficientnet": "classifier", "test_convnext": "head.fc", "test_vit": "head"}


@pytest.mark.parametrize("name", HEADS)
def test_a_network_starts_from_a_file_but_for_its_last_layer(name: str, tmp_path: Path) -> None:
    size: dict[str, Any] = {"img_size": 32} if name == "test_vit" else {}
    theirs = timms(name, tmp_path / "w.safetensors", **size)
    ours, again, other = (started(f"timm/{name}", tmp_path / "w.safetensors", seed=seed) for seed in (0, 0, 1))
    last = {f"{HEADS[name]}.weight", f"{HEADS[name]}.bias"}
    assert {key for key, tensor in state_of(ours).items() if not torch.equal(tensor, theirs[key])} == last
    assert {key for key, tensor in state_of(ours).items() if not torch.equal(tensor, state_of(other)[key])} == last
    assert all(torch.equal(tensor, state_of(again)[key]) for key, tensor in state_of(ours).items())
    weight = state_of(ours)[f"{HEADS[name]}.weight"]
    assert weight.abs().max() <= weight.shape[1] ** -0.5, "as torch draws a new linear layer"
    config: Any = timm.get_pretrained_cfg(name)
    assert ours.get_submodule("normalize").get_buffer("mean").flatten().tolist() == pytest.approx(list(config.mean))
    assert [key for key, _ in named_head(ours.get_submodule("network"), 3)] == [HEADS[name]]


def test_weights_of_as_many_classes_keep_their_last_layer_and_those_without_get_one(tmp_path: Path) -> None:
    theirs = timms("test_resnet", tmp_path / "w.safetensors", classes=3)
    ours = state_of(started("timm/test_resnet", tmp_path / "w.safetensors"))
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    features = timms("test_resnet", tmp_path / "features.safetensors", classes=0)
    ours = state_of(started("timm/test_resnet", tmp_path / "features.safetensors"))
    assert ours.keys() - features.keys() == {"fc.weight", "fc.bias"}
    assert all(torch.equal(tensor, ours[key]) for key, tensor in features.items())


def test_other_programs_files_do_too(tmp_path: Path) -> None:
    theirs = timm.create_model("test_resnet", num_classes=5).state_dict()
    torch.save({"state_dict": prefixed("module.", theirs), "epoch": 1, "args": ARGS}, tmp_path / "w.pth.tar")
    ours = state_of(started("timm/test_resnet", tmp_path / "w.pth.tar"))
    assert {key for key, tensor in ours.items() if not torch.equal(tensor, theirs[key])} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("name", "stored", "shape"),
    [("test_vit", {}, SHAPE), ("test_resnet", {}, (1, 32, 32)), ("test_vit", {"img_size": 64}, (1, 32, 32))],
)
def test_other_sizes_and_grey_images_are_brought_in_as_timm_does(
    name: str, stored: dict[str, Any], shape: tuple[int, int, int], tmp_path: Path
) -> None:
    """Position embeddings are resampled, and the first kernels summed over the colours."""
    theirs = timms(name, tmp_path / "w.safetensors", classes=1000, **stored)
    size: dict[str, Any] = {"img_size": 32} if name == "test_vit" else {}
    expected = timm.create_model(
        name, pretrained=True, num_classes=3, in_chans=shape[0], **size,
        pretrained_cfg_overlay={"file": str(tmp_path / "w.safetensors"), "hf_hub_id": None},
    ).state_dict()  # fmt: skip
    ours = state_of(started(f"timm/{name}", tmp_path / "w.safetensors", shape=shape))
    last = {f"{HEADS[name]}.weight", f"{HEADS[name]}.bias"}
    assert {key for key, tensor in ours.items() if not torch.equal(tensor, expected[key])} == last
    assert any(tensor.shape != theirs[key].shape for key, tensor in ours.items() if key not in last)


def test_older_names_are_read_as_torchvision_does(tmp_path: Path) -> None:
    theirs = torchvision.models.densenet121(num_classes=5).state_dict()
    older = {key: tensor for key, tensor in theirs.items() if "denselayer" not in key}
    for key in theirs.keys() - older.keys():
        block, layer, rest = key.partition(".norm" if ".norm" in key else ".conv")
        older[f"{block}{layer}.{rest}"] = theirs[key]
    torch.save(older, tmp_path / "w.pth")
    assert older.keys() != theirs.keys()
    ours = state_of(started("torchvision/densenet121", tmp_path / "w.pth"))
    differ = {key for key, tensor in ours.items() if not torch.equal(tensor, theirs[key])}
    assert differ == {"classifier.weight", "classifier.bias"}


def test_a_network_of_ours_brings_its_normalisation(tmp_path: Path) -> None:
    theirs = lenet(mean=(0.3,), std=(0.2,))
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    ours = started("lenet", tmp_path / "weights.safetensors", shape=(1, 8, 8))
    own, wanted = ours.state_dict(), theirs.state_dict()
    differ = {key for key, tensor in own.items() if not torch.equal(tensor, wanted[key])}
    assert differ == {"network.fc2.weight", "network.fc2.bias"}


@pytest.mark.parametrize(
    ("name", "images"),
    [
        ("timm/tf_efficientnet_lite0", (224, "bicubic")),
        ("timm/test_resnet", (160, "bilinear")),
        ("inception-v3", (299, "bicubic")),
        ("torchvision/resnet18", (224, "bilinear")),
        ("torchvision/swin_t", (224, "bicubic")),
        ("lenet", (None, "bilinear")),
    ],
)
def test_images_are_brought_to_what_the_weights_are_for(name: str, images: tuple[int | None, str]) -> None:
    assert models.own_images(name) == images


def test_a_file_is_known_by_its_sha256(tmp_path: Path) -> None:
    timms("test_resnet", tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors")
    assert found.sha256 == hashlib.sha256((tmp_path / "w.safetensors").read_bytes()).hexdigest()
    assert models.find_weights("timm/test_resnet", tmp_path / "w.safetensors").sha256 == found.sha256


@pytest.mark.parametrize(
    ("name", "stored", "message"),
    [
        ("timm/test_resnet", "test_efficientnet", r"are not those of timm/test_resnet: \d+ are missing, such as .*; "),
        ("torchvision/resnet18", "test_resnet", r"are not those of torchvision/resnet18: \d+ are missing, such as "),
        ("timm/resnet26", "resnet26d", "are not those of timm/resnet26: 21 are missing, such as conv1.weight; 33 are"),
        ("timm/test_convnext", "test_convnext2", "are not those of timm/test_convnext: 45 are missing, such as"),
        ("timm/resnet10t", "resnet14t", "are not those of timm/resnet10t"),
        ("lenet", "test_resnet", "are not those of lenet"),
    ],
)
def test_weights_of_another_network_are_refused_in_one_sentence(
    name: str, stored: str, message: str, tmp_path: Path
) -> None:
    timms(stored, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=message) as caught:
        started(name, tmp_path / "w.safetensors")
    assert "\n" not in str(caught.value)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    state = models.build("wrn-10-3", classes=3, shape=(3, 8, 8)).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"are of another wrn-10-2: \d+ differ in size, such as"):
        started("wrn-10-2", tmp_path / "w.safetensors", shape=(3, 8, 8))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read weights from .*gone.safetensors: No such file or directory"):
        started("timm/test_resnet", tmp_path / "gone.safetensors")
