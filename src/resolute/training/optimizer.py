"""The optimizers of the sources, as PyTorch and timm have them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn

    from resolute.training.config import TrainConfig

_RMSPROP_MEMORY = 0.9
"""Decay of the mean of squared gradients in the Inception and NASNet sources."""


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of a configuration.

    Args:
        config: Its ``optimizer``, ``lr``, ``momentum``, ``nesterov``, ``weight_decay`` and ``damping``.
        parameters: What it trains.

    Returns:
        ``torch.optim.SGD``, ``torch.optim.Adam`` with momentum as its first beta, or timm's ``RMSpropTF``, which
        divides by sqrt(mean + damping) with a mean that starts at 1, as TensorFlow does.
    """
    lr, decay = config.lr, config.weight_decay
    if config.optimizer == "adam":
        betas = (config.momentum, 0.999)
        return torch.optim.Adam(parameters, lr, betas=betas, eps=config.damping, weight_decay=decay)
    if config.optimizer == "rmsprop":
        from timm.optim.rmsprop_tf import RMSpropTF

        return RMSpropTF(parameters, lr, _RMSPROP_MEMORY, config.damping, decay, config.momentum)
    return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=decay, nesterov=config.nesterov)
