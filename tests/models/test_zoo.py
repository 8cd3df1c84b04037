"""Published weights, read from files where a download would have put them."""

from __future__ import annotations

import hashlib
import json
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from resolute import models
from resolute.errors import InputError
from resolute.models import zoo
from resolute.noise.sites import sites

SHAPE = (3, 75, 75)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty place for torch.hub's downloads, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_args, **_kwargs: pytest.fail("a download"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def stored(hub: Path, weights: Any, network: nn.Module, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a network where torch.hub keeps it, with its checksum in its name, and have torchvision know it."""
    torch.save(network.state_dict(), hub / "fetched.pth")
    begins = hashlib.sha256((hub / "fetched.pth").read_bytes()).hexdigest()[:8]
    monkeypatch.setattr(weights.value, "url", f"https://example.org/models/network-{begins}.pth")
    return (hub / "fetched.pth").rename(hub / f"network-{begins}.pth")


@pytest.mark.parametrize("name", ["inception-v1", "torchvision/inception_v3"])
def test_weights_of_torchvision_are_loaded_and_one_classifier_is_left(
    name: str, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import GoogLeNet_Weights, Inception_V3_Weights, googlenet, inception_v3

    make, weights = {
        "inception-v1": (googlenet, GoogLeNet_Weights),
        "torchvision/inception_v3": (inception_v3, Inception_V3_Weights),
    }[name]
    published = make(aux_logits=True, init_weights=False, transform_input=True)
    stored(hub, weights.DEFAULT, published, monkeypatch)
    model = models.build(name, classes=1000, shape=SHAPE, pretrained=True)
    x = torch.rand(2, *SHAPE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in zoo.IMAGENET_STATISTICS)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), published.eval()((x - mean) / std))
    assert len(sites(model)) in {57, 94}
    assert model.train()(x).shape == (2, 1000)


def test_weights_of_torchvision_start_a_network_for_other_classes(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    published = resnet18()
    file = stored(hub, ResNet18_Weights.DEFAULT, published, monkeypatch)
    model = models.build("torchvision/resnet18", classes=3, shape=(3, 32, 32), pretrained=True)
    ours, theirs = model.get_submodule("network").state_dict(), published.state_dict()
    assert {key for key, tensor in ours.items() if not torch.equal(tensor, theirs[key])} == {"fc.weight", "fc.bias"}
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(
        InputError, match=r"network-.*\.pth is damaged: its SHA-256 does not begin with .*fetch it again"
    ):
        models.find_weights("torchvision/resnet18")


def test_without_a_network_the_message_says_which_file_to_put_where(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: Any, **_kwargs: Any) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refused)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"resnet18 \(.*known.*\)\. Fetch (\S+)/(\S+) elsewhere, and put it at (\S+) or"
    ):
        models.find_weights("torchvision/resnet18")
    assert not any(hub.iterdir()), "nothing half-fetched"
    with pytest.raises(
        InputError, match=r"cannot fetch timm/resnet18 \(.*\)\. Fetch model.safetensors of timm/resnet18"
    ):
        models.find_weights("timm/resnet18")
    with pytest.raises(InputError, match=r"cannot fetch hf-hub:some/absent \(.*\)\. Fetch config.json of some/absent"):
        models.build("hf-hub:some/absent", classes=2)
    with pytest.raises(InputError, match="unknown timm model 'resnet_18': did you mean"):
        models.find_weights("timm/resnet_18")


def cached(repository: str, files: dict[str, bytes]) -> None:
    """Put files where the Hugging Face hub's client keeps them: blobs under their SHA-256, and links to them."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    for part in ("refs", "blobs", "snapshots/1234"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "refs/main").write_text("1234")
    for name, content in files.items():
        sha256 = hashlib.sha256(content).hexdigest()
        (folder / "blobs" / sha256).write_bytes(content)
        (folder / "snapshots/1234" / name).unlink(missing_ok=True)
        (folder / "snapshots/1234" / name).symlink_to(f"../../blobs/{sha256}")


@pytest.mark.parametrize(("name", "classes"), [("mobilenet-v1", 1000), ("timm/mobilenetv1_100", 5)])
def test_weights_of_timm_are_loaded(name: str, classes: int) -> None:
    import timm
    from safetensors.torch import save

    published = timm.create_model("mobilenetv1_100", num_classes=1000)
    cached("timm/mobilenetv1_100.ra4_e3600_r224_in1k", {"model.safetensors": save(published.state_dict())})
    model = models.build(name, classes=classes, shape=(3, 32, 32), pretrained=True, mean=[0] * 3, std=[1] * 3)
    theirs, ours = published.state_dict(), model.network.state_dict()  # type: ignore[union-attr]
    same = {
        key for key, tensor in ours.items() if tensor.shape == theirs[key].shape and torch.equal(tensor, theirs[key])
    }
    assert theirs.keys() - same == (set() if classes == 1000 else {"classifier.weight", "classifier.bias"})
    config = timm.get_pretrained_cfg("mobilenetv1_100")
    assert model.normalize.mean.flatten().tolist() == pytest.approx(list(config.mean))  # type: ignore[operator,union-attr]


def test_a_network_of_the_hub_is_built_as_its_config_says_and_again_without_it(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save

    theirs = timm.create_model("test_resnet", num_classes=6)
    config = {"architecture": "test_resnet", "num_classes": 6, "pretrained_cfg": {"mean": [0.1] * 3, "std": [0.7] * 3}}
    cached("some/one", {"model.safetensors": save(theirs.state_dict()), "config.json": json.dumps(config).encode()})
    model = models.build("hf-hub:some/one", classes=2, shape=(3, 32, 32), pretrained=True, mean=[0] * 3, std=[1] * 3)
    ours, wanted = model.get_submodule("network").state_dict(), theirs.state_dict()
    assert {key for key, tensor in ours.items() if not torch.equal(tensor, wanted[key])} == {"fc.weight", "fc.bias"}
    assert model.get_submodule("normalize").get_buffer("std").flatten().tolist() == pytest.approx([0.7] * 3)
    assert models.stored_name("hf-hub:some/one") == "timm/test_resnet"
    assert models.stored_name("lenet") == "lenet"
    cached("some/two", {"config.json": json.dumps(config | {"model_args": {"img_size": 96}}).encode()})
    with pytest.raises(InputError, match=r"hf-hub:some/two has arguments of its own \(img_size\)"):
        models.build("hf-hub:some/two", classes=2, shape=(3, 32, 32))


def test_inception_v1_is_torchvision_s_with_activations_as_modules() -> None:
    from torchvision.models import googlenet

    theirs = googlenet(aux_logits=False, init_weights=False, num_classes=7).eval()
    model = models.build("inception-v1", classes=7, shape=(3, 48, 48)).eval()
    model.network.load_state_dict(theirs.state_dict())  # type: ignore[union-attr]
    x = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        assert torch.equal(model(x), theirs(model[0](x)))  # type: ignore[index]
    assert len(sites(model)) == 57


@pytest.mark.parametrize("name", ["lenet", "timm/test_resnet"])
def test_weights_for_other_classes_are_refused(name: str, tmp_path: Path) -> None:
    from resolute.models import checkpoint

    spec: dict[str, Any] = {"name": name, "classes": 4, "shape": (1, 16, 16)}
    checkpoint.save_network(models.build(**spec), tmp_path, spec | {"classes": 5})
    with pytest.raises(
        InputError, match=r"none of its weights is of 5 classes|2 of its weights are not those of lenet"
    ):
        checkpoint.load_network(tmp_path)
