from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resolute.models import ABSENT, MODELS, build
from resolute.paper.sizes import SIZES, count_named, count_network


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_an_independent_count(name: str) -> None:
    counts, size = count_named(name), SIZES[name]
    assert counts.parameters == size.parameters
    assert counts.multiply_adds == pytest.approx(size.multiply_adds, rel=0.01)


def test_every_named_network_has_a_size_and_nothing_absent_is_built() -> None:
    named = {name for name in MODELS if "NAME" not in name and not name.startswith("wrn")}
    assert named | {"wrn-16-8", "wrn-28-10"} == SIZES.keys()
    assert not ABSENT.keys() & MODELS.keys()


@pytest.mark.parametrize("name", ["capsnet", "mobilenet-v1"])
def test_multiply_adds_are_half_of_torch_s_operations(name: str) -> None:
    size = SIZES[name]
    with torch.device("meta"):
        model = build(name, classes=size.classes, shape=size.shape).eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, *size.shape))
    assert count_network(model, size.shape).multiply_adds * 2 == counter.get_total_flops()


def test_a_network_in_memory_is_counted_too() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 5))
    assert count_network(model, (3, 8, 8)) == (3 * 8 * 9 + 16 + 288 * 5 + 5, 36 * 3 * 8 * 9 + 288 * 5)
