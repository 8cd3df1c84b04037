"""Training by any of the methods: the loop, its settings, its log."""

from __future__ import annotations

from resolute.config import TrainConfig
from resolute.training.checkpoint import Epoch
from resolute.training.loop import learning_rate, train

__all__ = ["Epoch", "TrainConfig", "learning_rate", "train"]
