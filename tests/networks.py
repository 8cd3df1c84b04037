"""Networks that surgery is tested on, and what is read from them. A new line in `NETWORKS` is tested everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


class Shared(nn.Module):
    """One activation module that is called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 16), nn.Linear(16, 16)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.relu(self.second(self.relu(self.first(x.flatten(1))))) + 1)  # type: ignore[no-any-return]


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name, num_classes=10)


def _torchvision(name: str) -> Any:
    import torchvision

    return torchvision.models.get_model(name, num_classes=10)


def _own(name: str, shape: tuple[int, int, int]) -> nn.Module:
    from resolute import models

    return models.build(name, classes=10, shape=shape)


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3), nn.PReLU(8), nn.SiLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )  # fmt: skip


class Network(NamedTuple):
    """How to build a network, the shape of one image, and how many modules of it are rectifiers."""

    build: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    rectifiers: int

    def images(self, n: int = 2) -> Tensor:
        return torch.rand(n, *self.shape)


NETWORKS: dict[str, Network] = {
    "shared": Network(Shared, (3, 2, 2), 1),
    "convolutional": Network(_convolutional, (3, 12, 12), 3),
    "lenet": Network(lambda: _own("lenet", (1, 8, 8)), (1, 8, 8), 3),
    "wrn-16-2": Network(lambda: _own("wrn-16-2", (3, 16, 16)), (3, 16, 16), 13),
    "torchvision resnet18": Network(lambda: _torchvision("resnet18"), (3, 32, 32), 9),
    "timm convnext_atto": Network(lambda: _timm("convnext_atto"), (3, 32, 32), 12),
    "timm mobilenetv3_small_050": Network(lambda: _timm("mobilenetv3_small_050"), (3, 32, 32), 33),
}


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 2))


def strengths(module: nn.Module, x: Tensor | None = None) -> set[float]:
    """Tell by which shares of itself a module that is the identity on ones moves them."""
    x = torch.ones(500) if x is None else x
    return {round(abs(move), 6) for move in (module(x) - x).flatten().tolist()}


def skeleton(model: nn.Module) -> list[Any]:
    """List all that unrobustify has to bring back."""
    return [(name, id(module), type(module), list(vars(module))) for name, module in model.named_modules()]
