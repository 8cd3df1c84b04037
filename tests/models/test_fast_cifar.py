from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.models import build
from resolute.models.fast_cifar import FastCifar
from resolute.noise.sites import sites


def written_out(w: dict[str, Tensor], x: Tensor) -> Tensor:
    """Evaluate the network from its weights."""

    def active(name: str, x: Tensor) -> Tensor:
        mean, variance, gain, bias = (
            w[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * gain + bias).clamp(min=0)

    x = active("stem.1", F.conv2d(x, w["stem.0.weight"]))
    for group in ("groups.0", "groups.1", "groups.2"):
        x = active(f"{group}.2", F.max_pool2d(F.conv2d(x, w[f"{group}.0.weight"], padding=1), 2))
        x = active(f"{group}.5", F.conv2d(x, w[f"{group}.4.weight"], padding=1))
    return x.flatten(2).max(2).values @ w["fc.weight"].T + w["fc.bias"]


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 9, 20)])
def test_it_is_its_equations_written_out(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    model = FastCifar(4, 10, shape).double()
    for _ in range(3):
        model(torch.randn(8, *shape, dtype=torch.float64))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    x = torch.randn(4, *shape, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), written_out(model.state_dict(), x))


def test_it_has_its_widths_and_seven_places() -> None:
    """Width, 4 width and 4 width, as in the source."""
    model = build("fast-cifar-64", classes=10)
    widths = [24, 64, 64, 256, 256, 256, 256]
    convolutions = 3 * 24 * 4 + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    assert sum(p.numel() for p in model.parameters()) == convolutions + 2 * sum(widths) + 256 * 10 + 10
    assert len(sites(model)) == 7


@pytest.mark.parametrize(("width", "shape"), [(0, (3, 32, 32)), (8, (3, 8, 32))])
def test_what_it_cannot_be_is_told(width: int, shape: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="the width must be >= 1, and images at least 9 pixels a side"):
        FastCifar(width, 10, shape)
