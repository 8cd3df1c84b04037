"""The resumable grid: every method with every seed, the same data, then one report."""

from __future__ import annotations

from resolute.comparison.cell import Splits, load_splits, run_cell
from resolute.comparison.grid import compare, default_folder, train_one

__all__ = ["Splits", "compare", "default_folder", "load_splits", "run_cell", "train_one"]
