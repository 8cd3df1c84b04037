"""Training by any of the methods: the loop, its settings, its log."""

from __future__ import annotations

from resolute.training.config import Epoch, TrainConfig, learning_rate
from resolute.training.loop import train

__all__ = ["Epoch", "TrainConfig", "learning_rate", "train"]
