"""The optimizer and the learning rate of a configuration, and the row that each epoch leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from resolute.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

__all__ = ["Epoch", "TrainConfig", "learning_rate", "make_optimizer"]


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the training log.

    Attributes:
        epoch: From 1.
        lr: Learning rate at the end of the epoch.
        loss: Mean training loss.
        train_error: Share of wrong answers on the batches as the method made them, in [0, 1].
        validation_error: Share of wrong answers on the validation images in evaluation mode; None without them, and
            after most epochs where they outnumber the training images (not after the last).
        step_ms: Mean wall time of a step in milliseconds.
        seconds: Wall time of the epoch with its validation.
    """

    epoch: int
    lr: float
    loss: float
    train_error: float
    validation_error: float | None
    step_ms: float
    seconds: float


def learning_rate(config: TrainConfig, done: float) -> float:
    """Give the learning rate at a moment of training.

    Args:
        config: Highest rate, schedule and warm-up.
        done: Epochs done so far, fractions included.

    Returns:
        The rate; it rises linearly over the warm-up, then follows the schedule over the rest.

    Example:
        >>> [learning_rate(TrainConfig(epochs=10, lr=0.1, warmup_epochs=2), done) for done in (1, 2, 6)]
        [0.05, 0.1, 0.05]
    """
    if done < config.warmup_epochs:
        return config.lr * done / config.warmup_epochs
    return max(config.lr * _FALL[config.schedule](config, done), config.lr_floor)


def _share(config: TrainConfig, done: float) -> float:
    """Tell how much of the training after the warm-up is done."""
    return (done - config.warmup_epochs) / (config.epochs - config.warmup_epochs)


_FALL: dict[str, Callable[[TrainConfig, float], float]] = {
    "cosine": lambda config, done: (1 + math.cos(math.pi * _share(config, done))) / 2,
    "linear": lambda config, done: 1 - _share(config, done),
    "step": lambda config, done: config.gamma ** sum(done >= milestone for milestone in config.milestones),
    "exponential": lambda config, done: config.gamma ** (done / config.decay_epochs),
    "staircase": lambda config, done: config.gamma ** math.floor(done / config.decay_epochs + 1e-9),
}
"""What share of the highest rate is left, by the name of the schedule."""

_RMSPROP_MEMORY = 0.9
"""Decay of the mean of squared gradients in the Inception and NASNet sources."""


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of a configuration."""
    lr, decay = config.lr, config.weight_decay
    if config.optimizer == "adam":
        betas = (config.momentum, 0.999)
        return torch.optim.Adam(parameters, lr, betas=betas, eps=config.damping, weight_decay=decay)
    if config.optimizer == "rmsprop":
        from timm.optim.rmsprop_tf import RMSpropTF

        return RMSpropTF(parameters, lr, _RMSPROP_MEMORY, config.damping, decay, config.momentum)
    return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=decay, nesterov=config.nesterov)
