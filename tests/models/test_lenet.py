from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from resolute.models.lenet import LeNet
from resolute.noise.sites import sites


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("caffe", [False, True])
def test_it_has_the_published_number_of_parameters(caffe: bool) -> None:
    assert count(LeNet(10, caffe=caffe)) == 431_080


@pytest.mark.parametrize(("caffe", "places"), [(False, ["relu1", "relu2", "relu3"]), (True, ["relu3"])])
def test_a_rectifier_follows_each_hidden_layer(caffe: bool, places: list[str]) -> None:
    assert [site.name for site in sites(LeNet(10, caffe=caffe))] == places


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ((1, 28, 28), 50 * 4 * 4),
        ((1, 8, 8), 50 * 2 * 2),
        ((3, 32, 32), 50 * 5 * 5),
        ((1, 4, 4), 50),
        ((1, 15, 15), 50 * 3 * 3),
        ((1, 16, 16), 50),
        ((2, 12, 40), 50 * 3 * 10),
        ((1, 20, 31), 50 * 2 * 4),
    ],
)
def test_any_size_of_image_fits(shape: tuple[int, int, int], flat: int) -> None:
    model = LeNet(7, shape)
    assert count(model) == 25 * 20 * shape[0] + 20 + 25 * 20 * 50 + 50 + (flat + 1) * 500 + 501 * 7
    loss = F.cross_entropy(model(torch.randn(3, *shape)), torch.tensor([0, 3, 6]))
    loss.backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())


@pytest.mark.parametrize("caffe", [False, True])
@pytest.mark.parametrize(("side", "padding"), [(28, 0), (8, 2)])
def test_it_is_the_network_written_out(side: int, padding: int, caffe: bool) -> None:
    model = LeNet(10, (1, side, side), caffe=caffe).eval()
    w = model.state_dict()
    lowest = -math.inf if caffe else 0.0
    x = torch.randn(5, 1, side, side)
    h = F.max_pool2d(F.conv2d(x, w["conv1.weight"], w["conv1.bias"], padding=padding).clamp(min=lowest), 2, 2)
    h = F.max_pool2d(F.conv2d(h, w["conv2.weight"], w["conv2.bias"], padding=padding).clamp(min=lowest), 2, 2)
    h = (h.reshape(5, -1) @ w["fc1.weight"].T + w["fc1.bias"]).clamp(min=0)
    torch.testing.assert_close(model(x), h @ w["fc2.weight"].T + w["fc2.bias"])


def test_half_of_the_features_are_dropped_while_training() -> None:
    model = LeNet(10)
    seen: list[torch.Tensor] = []
    model.fc2.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    model.relu3.register_forward_hook(lambda _module, _args, out: torch.ones_like(out))
    model(torch.randn(64, 1, 28, 28))
    assert set(seen[0].unique().tolist()) == {0.0, 2.0}
    assert (seen[0] == 0).float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / (64 * 500) ** 0.5)
