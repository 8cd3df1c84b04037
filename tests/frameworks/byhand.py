"""A network, data and a training loop written by hand: what every framework is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Batch = tuple[Tensor, Tensor]
EPS = 0.3

needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]


class Net(nn.Module):
    """An activation of each kind: fused, in place, by its derivative, by PyTorch's own operations."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, bias=False), nn.GELU(),
            nn.Flatten(), nn.Linear(32, 16), nn.LeakyReLU(0.1), nn.Linear(16, 16), nn.PReLU(),
        )  # fmt: skip
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


class SmoothNet(nn.Module):
    """Without BatchNorm, for what works on one sample or has no buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(108, 16), nn.ReLU(), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16),
            nn.LeakyReLU(0.1, inplace=True), nn.Linear(16, 16), nn.PReLU(), nn.Linear(16, 3),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.view(-1, 108))  # type: ignore[no-any-return]


def net(kind: Callable[[], nn.Module] = Net, eps: float = EPS) -> nn.Module:
    """Build the network with the same weights at every call; eps 0 is the plain one."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = kind()
    return robustify(model, eps, where="both") if eps else model


def data(n: int = 32) -> TensorDataset:
    """Draw images of 3 x 6 x 6 and labels of 3 classes, the same at every call."""
    generator = torch.Generator().manual_seed(5)
    return TensorDataset(torch.randn(n, 3, 6, 6, generator=generator), torch.arange(n) % 3)


def loader(n: int = 32, batch_size: int = 8) -> DataLoader[Any]:
    """Serve the data in order; with a generator of its own it draws nothing from the one that noise draws from."""
    return DataLoader(data(n), batch_size, generator=torch.Generator())


def batches(n: int = 32, batch_size: int = 8) -> list[Batch]:
    """Give the data as a list."""
    return [(x, y) for x, y in loader(n, batch_size)]


def sgd(model: nn.Module) -> torch.optim.SGD:
    """Build the optimizer that every loop uses."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train_by_hand(
    model: nn.Module,
    data: Iterable[Batch],
    *,
    accumulate: int = 1,
    bf16: bool = False,
    optimizer: torch.optim.Optimizer | None = None,
) -> nn.Module:
    """Train the network in training mode, from the generator's present state on."""
    optimizer = optimizer or sgd(model)
    model.train()
    for step, (x, y) in enumerate(data, start=1):
        with torch.autocast("cpu", enabled=bf16):
            loss = cross_entropy(model(x), y) / accumulate
        loss.backward()
        if step % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return model


def state(model: nn.Module) -> dict[str, Tensor]:
    """Copy parameters and buffers, under the names that they have without torch.compile or DDP around the network."""
    items = model.state_dict().items()
    return {name.replace("_orig_mod.", "").removeprefix("module."): t.detach().clone() for name, t in items}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Tell whether two states are the same, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wanted(seed: int, eps: float = EPS, dtype: torch.dtype = torch.float32, **options: Any) -> dict[str, Tensor]:
    """Give the state after one epoch by hand on images of a dtype, with the generator seeded before the first step."""
    model = net(eps=eps)
    torch.manual_seed(seed)
    return state(train_by_hand(model, [(x.to(dtype), y) for x, y in batches()], **options))
