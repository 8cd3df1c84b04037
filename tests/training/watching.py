"""A short training: its settings, the weights that it leaves, and a method that notes the batches it meets."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from resolute.config import Settings, TrainConfig
from resolute.methods import METHODS, Method

CONFIG = TrainConfig(epochs=3, batch_size=16, lr=0.1, device="cpu", update_bn=False)
PLAIN = dataclasses.replace(CONFIG, schedule="step")


def changed(config: TrainConfig = CONFIG, **changes: Any) -> TrainConfig:
    """Change some settings."""
    return dataclasses.replace(config, **changes)


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Copy all that a network's state holds."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Tell whether two states are the same bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def watcher(seen: list[tuple[Tensor, Tensor]]) -> Method:
    """Make a base training that notes each batch of images and labels."""

    def watch(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
        seen.append((x.clone(), y.clone()))
        return x, y

    return Method("watched", METHODS["base"].prepare, watch, 1, "base, watched")
