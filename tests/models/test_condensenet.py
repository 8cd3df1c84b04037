from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import tiny_images, tiny_info
from resolute import models
from resolute.config import TrainConfig
from resolute.errors import InputError
from resolute.models import loss as losses
from resolute.models.condensenet import CondensedConv, CondenseNet, Layer, LearnedGroupConv, condense
from resolute.noise.robustify import is_robust, robustify
from resolute.training.loop import train

SHAPE = (3, 16, 16)
SMALL: dict[str, Any] = {"shape": SHAPE, "layers": (2, 2), "growth": (8, 16)}


def used(steps: int = 20, groups: int = 4) -> CondenseNet:
    """A network that has been trained for some steps, told of its progress."""
    model = CondenseNet(groups, 5, **SMALL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(steps):
        losses.tell_progress(nn.Sequential(model)[0], step / steps)
        loss = F.cross_entropy(model(torch.randn(8, *SHAPE)), torch.arange(8) % 5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def squeezes(model: nn.Module) -> list[LearnedGroupConv]:
    return [module for module in model.modules() if isinstance(module, LearnedGroupConv)]


@pytest.mark.parametrize("groups", [2, 4, 8])
def test_each_group_keeps_its_share_after_half_of_the_training(groups: int) -> None:
    """Stage s begins at s / (2 (C - 1)), as the authors' loop over stages says."""
    model = CondenseNet(groups, 5, **SMALL)
    seen = []
    for step in range(200):
        progress = step / 200
        model.on_progress(progress)
        stage = next((i for i in range(groups - 1) if progress * 2 < (i + 1) / (groups - 1) - 1e-9), groups - 1)
        for layer in squeezes(model):
            kept = layer.mask.sum(1)
            assert kept.tolist() == [layer.mask.shape[1] * (groups - stage) / groups] * groups
        seen.append(stage)
    assert seen[99] == groups - 2
    assert seen[101] == seen[-1] == groups - 1


def test_the_least_used_inputs_go_first_and_stay_away() -> None:
    """The authors' procedure: reorder the rows by group, sort the column sums, drop the first."""
    layer = LearnedGroupConv(16, 8, 4)
    dropped: list[set[int]] = [set() for _ in range(4)]
    for stage in (1, 2, 3):
        nn.init.normal_(layer.conv.weight)
        layer.condense_to(stage)
        weight = layer.conv.weight.detach()
        for group in range(4):
            sums = [sum(abs(float(weight[row, column])) for row in range(group, 8, 4)) for column in range(16)]
            left = sorted(set(range(16)) - dropped[group], key=lambda column: sums[column])
            dropped[group] |= set(left[:4])
            assert set((layer.mask[group] == 0).nonzero().flatten().tolist()) == dropped[group]
    layer.condense_to(3)
    assert layer.mask.sum().item() == 16


def test_a_masked_layer_is_a_convolution_with_zeros() -> None:
    layer = LearnedGroupConv(16, 8, 4).eval()
    layer.condense_to(2)
    weight = layer.conv.weight.detach().clone()
    for row in range(8):
        for column in range(16):
            if layer.mask[row % 4, column] == 0:
                weight[row, column] = 0
    x = torch.randn(2, 16, 3, 3)
    active = F.relu(x / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(layer(x), F.conv2d(active, weight))


def test_the_condensed_network_gives_the_same_outputs() -> None:
    model = used()
    x = torch.randn(6, *SHAPE)
    plain = condense(model)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(module, LearnedGroupConv) for module in plain.modules())
    assert sum(isinstance(module, CondensedConv) for module in plain.modules()) == 4
    for layer in plain.modules():
        if isinstance(layer, CondensedConv):
            assert layer.conv.groups == 4
    count = {name: sum(p.numel() for p in net.parameters()) for name, net in (("old", model), ("new", plain))}
    assert count["new"] < count["old"]


def test_half_of_the_classifier_s_inputs_are_as_good_as_zeros() -> None:
    model = used()
    plain = condense(model, classifier=0.5)
    assert isinstance(plain, CondenseNet)
    weight = model.fc.linear.weight
    kept = set(plain.fc.index.tolist())
    sums = weight.abs().sum(0)
    assert len(kept) == weight.shape[1] // 2
    assert min(sums[i] for i in kept) >= max(sums[i] for i in range(weight.shape[1]) if i not in kept)
    with torch.no_grad():
        weight[:, [i for i in range(weight.shape[1]) if i not in kept]] = 0
        x = torch.randn(3, *SHAPE)
        torch.testing.assert_close(plain(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_normalize_comes_along_and_noise_does_not() -> None:
    model = models.build("condensenet-g4", classes=3, shape=SHAPE, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    robustify(model)
    losses.tell_progress(model, 0.9)
    plain = condense(model)
    x = torch.rand(2, *SHAPE)
    assert not plain.training
    assert not is_robust(plain)
    assert model.training
    with torch.no_grad():
        torch.testing.assert_close(plain(x), model.eval()(x), rtol=1e-4, atol=1e-5)
    half = condense(model, classifier=0.5)
    named = models.build("condensenet-g4-condensed", classes=3, shape=SHAPE)
    named.load_state_dict(half.state_dict())
    with torch.no_grad():
        assert torch.equal(named.eval()(x), half(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.ReLU(), "condense got a ReLU; it takes a CondenseNet"),
        (lambda: CondenseNet(4, 5, **SMALL), "have not yet dropped all"),
        (lambda: CondenseNet(4, 5, condensed=True, **SMALL), "condensed already"),
        (lambda: CondenseNet(3, 5, **SMALL), "got 3 groups; they must be at least 2 and divide"),
        (lambda: CondenseNet(1, 5, **SMALL), "got 1 groups"),
    ],
)
def test_what_cannot_be_condensed_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        condense(make())


def test_masks_that_were_loaded_are_gone_on_from() -> None:
    model, other = used(groups=4), CondenseNet(4, 5, **SMALL)
    other.on_progress(0.9)
    early = CondenseNet(4, 5, **SMALL)
    early.on_progress(0.2)
    other.load_state_dict(early.state_dict())
    other.on_progress(0.9)
    assert all(layer.mask.sum() == layer.mask.shape[1] for layer in squeezes(other))
    other.load_state_dict(model.state_dict())
    before = [layer.mask.clone() for layer in squeezes(other)]
    other.on_progress(0.99)
    assert all(torch.equal(layer.mask, mask) for layer, mask in zip(squeezes(other), before, strict=True))


def test_the_loop_condenses_without_being_told_to() -> None:
    info = tiny_info(classes=3, shape=(3, 16, 16))
    model = nn.Sequential()
    model.add_module("network", CondenseNet(4, 3, **SMALL))
    train(model, tiny_images(32, info), config=TrainConfig(epochs=4, batch_size=16, device="cpu"))
    network = losses.network(model)
    assert all(layer.mask.sum() == layer.mask.shape[1] for layer in squeezes(network))
    assert condense(network)


def test_layers_see_everything_before_them() -> None:
    model = CondenseNet(4, 5, **SMALL).eval()
    x = torch.randn(1, 16, 8, 8)
    layer = model.blocks[0]
    assert isinstance(layer, Layer)
    out: Tensor = layer(x)
    assert torch.equal(out[:, :16], x)
    assert out.shape == (1, 24, 8, 8)
