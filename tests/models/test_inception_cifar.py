from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from resolute.models.inception_cifar import Branches, ConvNorm, InceptionCifar


def fill(ours: nn.Module, theirs: nn.Module) -> None:
    """Copy torchvision's weights in the order of their modules, where both have the same convolutions."""
    convs = [[m for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (ours, theirs)]
    for own, other in zip(*convs, strict=True):
        own.load_state_dict(other.state_dict())
    norms = [[m for m in net.modules() if isinstance(m, nn.BatchNorm2d)] for net in (ours, theirs)]
    for own, other in zip(*norms, strict=True):
        own.load_state_dict(other.state_dict())
        own.eps = other.eps


@pytest.mark.parametrize(
    ("name", "index", "arguments", "channels"),
    [("InceptionB", 3, (288,), 288), ("InceptionE", 9, (1280,), 1280), ("InceptionE", 10, (2048,), 2048)],
)
def test_modules_that_torchvision_has_too_are_equal(
    name: str, index: int, arguments: tuple[int, ...], channels: int
) -> None:
    from torchvision.models import inception

    theirs: Any = getattr(inception, name)(*arguments).eval()
    ours = InceptionCifar(10).mixed[index].eval()
    fill(ours, theirs)
    x = torch.rand(2, channels, 9, 9)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_sizes_are_those_of_the_source() -> None:
    """32 -> 30 in the stem, then 14 and 6, with the published channels."""
    with torch.device("meta"):
        model = InceptionCifar(100).eval()
        x = model.stem(torch.zeros(1, 3, 32, 32))
        seen = [tuple(x.shape[1:])]
        for module in model.mixed:
            x = module(x)
            seen.append(tuple(x.shape[1:]))
    a, c, e = [(256, 30, 30), (288, 30, 30), (288, 30, 30)], [(768, 14, 14)] * 5, [(1280, 6, 6), (2048, 6, 6)]
    assert seen == [(192, 30, 30), *a, *c, *e, (2048, 6, 6)]
    assert sum(isinstance(module, ConvNorm) for module in model.modules()) == 94
    assert sum(isinstance(module, Branches) for module in model.mixed) == 11
