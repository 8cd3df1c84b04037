"""The resumable grid: every method with every seed, the same data, then one report."""

from __future__ import annotations

from resolute.comparison.cell import Splits, check, load_splits, run_cell
from resolute.comparison.grid import compare, default_folder, fill, settle, train_one

__all__ = ["Splits", "check", "compare", "default_folder", "fill", "load_splits", "run_cell", "settle", "train_one"]
