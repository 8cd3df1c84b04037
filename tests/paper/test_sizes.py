from __future__ import annotations

import pytest
import torch
from torch import nn

from resolute.models import ABSENT, MODELS, build
from resolute.paper.sizes import SIZES, count_named, count_network


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_an_independent_count(name: str) -> None:
    counts, size = count_named(name), SIZES[name]
    assert counts.parameters == size.parameters
    assert counts.multiply_adds == pytest.approx(size.multiply_adds, rel=0.01)


def test_every_named_network_has_a_size_and_nothing_absent_is_built() -> None:
    named = {name for name in MODELS if "NAME" not in name and not name.startswith(("wrn", "fast-cifar"))}
    assert named | {"wrn-16-8", "wrn-28-10"} == SIZES.keys()
    assert not ABSENT.keys() & MODELS.keys()


@pytest.mark.parametrize("name", ["lenet", "wrn-16-8", "mobilenet-v1", "shufflenet-v1-2x", "condensenet-g8-condensed"])
def test_multiply_adds_are_what_each_layer_s_shapes_say(name: str) -> None:
    size, total = SIZES[name], 0

    def add(module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        total += output.numel() * weight[0].numel()

    with torch.device("meta"):
        model = build(name, classes=size.classes, shape=size.shape).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    with torch.no_grad():
        model(torch.zeros(1, *size.shape, device="meta"))
    assert count_named(name).multiply_adds == total


def test_the_products_of_capsules_are_counted() -> None:
    capsules, classes, atoms, pose = 32 * 6 * 6, 10, 8, 16
    convolutions = 20 * 20 * 256 * 81 + 6 * 6 * 256 * 256 * 81
    votes, routing = capsules * classes * atoms * pose, 2 * 2 * capsules * classes * pose
    assert count_named("capsnet").multiply_adds == convolutions + votes + routing


def test_a_network_in_memory_is_counted_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    assert count_network(model, (3, 8, 8)) == (3 * 8 * 9 + 16 + 288 * 5 + 5, 36 * 3 * 8 * 9 + 288 * 5)
