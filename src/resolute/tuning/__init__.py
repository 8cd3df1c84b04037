"""Choose eps, p and the place of the noise on validation images."""

from __future__ import annotations

from resolute.tuning.plan import Plan, default_folder
from resolute.tuning.search import load_optuna, tune

__all__ = ["Plan", "default_folder", "load_optuna", "tune"]
