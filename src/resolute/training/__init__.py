"""Training by any of the methods: the loop, its settings, its log."""

from __future__ import annotations

from resolute.training.config import Epoch, TrainConfig, learning_rate
from resolute.training.distributed import check_alone, rank
from resolute.training.loop import train

__all__ = ["Epoch", "TrainConfig", "check_alone", "learning_rate", "rank", "train"]
