"""Published weights, read from files where a download would have put them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from resolute import models
from resolute.models import zoo
from resolute.noise.sites import sites

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (3, 75, 75)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty place for torch.hub's downloads, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_args, **_kwargs: pytest.fail("a download"))
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def stored(hub: Path, weights: Any, network: nn.Module) -> None:
    torch.save(network.state_dict(), hub / weights.url.rsplit("/", 1)[1])


@pytest.mark.parametrize("name", ["inception-v1", "torchvision/inception_v3"])
def test_weights_of_torchvision_are_loaded_and_one_classifier_is_left(name: str, hub: Path) -> None:
    from torchvision.models import GoogLeNet_Weights, Inception_V3_Weights, googlenet, inception_v3

    make, weights = {
        "inception-v1": (googlenet, GoogLeNet_Weights),
        "torchvision/inception_v3": (inception_v3, Inception_V3_Weights),
    }[name]
    published = make(aux_logits=True, init_weights=False, transform_input=True)
    stored(hub, weights.DEFAULT, published)
    model = models.build(name, classes=1000, shape=SHAPE, pretrained=True)
    x = torch.rand(2, *SHAPE)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in zoo.IMAGENET_STATISTICS)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), published.eval()((x - mean) / std))
    assert len(sites(model)) in {57, 94}
    assert model.train()(x).shape == (2, 1000)


@pytest.mark.parametrize(("name", "classes"), [("mobilenet-v1", 1000), ("timm/mobilenetv1_100", 5)])
def test_weights_of_timm_are_loaded(name: str, classes: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    published = timm.create_model("mobilenetv1_100", num_classes=1000)
    save_file(published.state_dict(), tmp_path / "model.safetensors")
    asked: list[str] = []

    def from_disk(repo_id: str, **_kwargs: Any) -> str:
        asked.append(repo_id)
        return str(tmp_path / "model.safetensors")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", from_disk)
    model = models.build(name, classes=classes, shape=(3, 32, 32), pretrained=True, mean=[0] * 3, std=[1] * 3)
    assert asked == ["timm/mobilenetv1_100.ra4_e3600_r224_in1k"]
    theirs, ours = published.state_dict(), model.network.state_dict()  # type: ignore[union-attr]
    same = {
        key for key, tensor in ours.items() if tensor.shape == theirs[key].shape and torch.equal(tensor, theirs[key])
    }
    assert theirs.keys() - same == (set() if classes == 1000 else {"classifier.weight", "classifier.bias"})
    config = timm.get_pretrained_cfg("mobilenetv1_100")
    assert model.normalize.mean.flatten().tolist() == pytest.approx(list(config.mean))  # type: ignore[operator,union-attr]


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
    from resolute.errors import InputError
    from resolute.models import checkpoint

    spec: dict[str, Any] = {"name": name, "classes": 4, "shape": (1, 16, 16)}
    checkpoint.save_network(models.build(**spec), tmp_path, spec | {"classes": 5})
    with pytest.raises(
        InputError, match=r"none of its weights is of 5 classes|2 of its weights are not those of lenet"
    ):
        checkpoint.load_network(tmp_path)
