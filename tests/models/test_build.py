from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cases import BUILDS, FIRST_LOSS_OFF, LARGE
from resolute import models
from resolute.errors import InputError
from resolute.models import loss as losses
from resolute.models import zoo
from resolute.models.layers import Normalize


def test_every_entry_has_a_case() -> None:
    assert BUILDS.keys() == models.MODELS.keys()


@pytest.mark.parametrize("key", [key for key in BUILDS if key not in LARGE])
def test_each_kind_builds_trains_and_starts_undecided(key: str) -> None:
    name, shape = BUILDS[key]
    model = models.build(name, classes=5, shape=shape)
    x, y = torch.rand(20, *shape), torch.arange(20) % 5
    assert all(module.training for module in model.modules())
    outputs = model(x)
    logits, loss = losses.logits(outputs), F.cross_entropy(losses.logits(outputs), y)
    losses.loss(model, x, y, outputs).backward()
    assert logits.shape == (20, 5)
    assert logits.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(5), abs=FIRST_LOSS_OFF.get(key, 0.6))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("key", [key for key in BUILDS if key not in LARGE])
def test_layer_0_is_the_normalisation_of_the_data(key: str) -> None:
    name, shape = BUILDS[key]
    mean, std = [0.1, 0.4, 0.6][: shape[0]], [0.3, 0.2, 0.5][: shape[0]]
    model = models.build(name, classes=3, shape=shape, mean=mean, std=std)
    assert isinstance(model, nn.Sequential)
    first, network = model
    assert isinstance(first, Normalize)
    x = torch.rand(2, *shape)
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(shape[0])], 1)
    model.eval()
    torch.testing.assert_close(model(x), network(by_hand))


def test_without_moments_a_network_brings_its_own() -> None:
    def moments(name: str, shape: tuple[int, int, int]) -> tuple[list[float], list[float]]:
        normalize = models.build(name, classes=2, shape=shape)[0]  # type: ignore[index]
        return normalize.mean.flatten().tolist(), normalize.std.flatten().tolist()

    assert moments("lenet", (1, 8, 8)) == ([0.5], [0.5])
    for name in ("torchvision/resnet18", "timm/resnet18"):
        mean, std = moments(name, (3, 32, 32))
        assert mean == pytest.approx(zoo.IMAGENET[0])
        assert std == pytest.approx(zoo.IMAGENET[1])
    mean, std = moments("timm/resnet18", (1, 32, 32))
    assert mean == pytest.approx([0.449])
    assert std == pytest.approx([0.226])


def test_without_a_shape_the_customary_one_is_taken() -> None:
    assert models.build("lenet", classes=2)(torch.rand(1, 1, 28, 28)).shape == (1, 2)
    assert models.build("wrn-10-1", classes=2)(torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_weights_follow_torch_s_seed() -> None:
    def build(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(models.build("wrn-10-1", classes=2, shape=(1, 8, 8)).parameters())

    assert all(torch.equal(a, b) for a, b in zip(build(1), build(1), strict=True))
    assert not torch.equal(build(1)[0], build(2)[0])


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lennet", None, "unknown model 'lennet': did you mean 'lenet'"),
        ("wrn-16", None, "unknown model 'wrn-16': did you mean 'wrn-16-2'"),
        ("nasnet-b", None, "nasnet-b is not built: the operations of its cell are in Figure 8"),
        ("resnet111-sd", None, "unknown model 'resnet111-sd': did you mean 'resnet110-sd'"),
        ("wrn-16-8-drop", None, "unknown model 'wrn-16-8-drop'"),
        ("wrn-16-8-drop100", None, "wrn-16-8: the dropout is 1.0; it must be at least 0 and below 1"),
        ("capsnet", (1, 17, 28), "capsnet got images of 17x28 pixels; it needs at least 18 a side"),
        ("inception-v3-cifar", (3, 32, 16), "inception-v3-cifar got images of 32x16 pixels; it needs at least 17"),
        ("inception-v3", (3, 32, 32), "cannot build timm/inception_v3 for images of 32x32 pixels"),
        ("wrn-17-2", None, "wrn-17-2: the depth must be 6n \\+ 4"),
        ("wrn-4-2", None, "wrn-4-2: the depth must be 6n \\+ 4"),
        ("wrn-16-0", None, "the width >= 1"),
        ("timm/resnett18", None, "unknown timm model 'resnett18': did you mean 'resnet18'"),
        ("torchvision/resnet_18", None, "unknown torchvision model 'resnet_18': did you mean 'resnet18'"),
        ("torchvision/maskrcnn_resnet50_fpn", None, "unknown torchvision model"),
        ("torchvision/resnet18", (1, 32, 32), "takes 3 channels; these images have 1. Use timm/ or wrn-D-K"),
        (
            "torchvision/alexnet",
            (3, 32, 32),
            "cannot build torchvision/alexnet for images of 32x32 pixels: .*too small",
        ),
        ("timm/test_vit", (3, 30, 30), "cannot build timm/test_vit for images of 30x30 pixels: .*divisible"),
        ("lenet", (1, 3, 28), "lenet got images of 3x28 pixels; it needs at least 4 a side"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, shape: tuple[int, int, int] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.build(name, classes=10, shape=shape)


@pytest.mark.parametrize("name", ["lenet", "wrn-16-8", "wrn-16-8-drop40", "capsnet", "condensenet-g8"])
def test_pretrained_weights_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no published weights"):
        models.build(name, classes=10, pretrained=True)


@pytest.mark.parametrize("classes", [-1, 0, 1])
def test_a_classifier_has_two_classes(classes: int) -> None:
    with pytest.raises(InputError, match=f"needs at least 2 classes; got {classes}"):
        models.build("lenet", classes=classes)


def test_a_network_with_a_second_classifier_trains_with_one() -> None:
    model = models.build("torchvision/googlenet", classes=3, shape=(3, 32, 32))
    logits = model(torch.rand(2, 3, 32, 32))
    assert model.training
    assert logits.shape == (2, 3)
