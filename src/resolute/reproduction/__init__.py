"""The paper's tables beside what was measured: read the records, run a row, write the tables."""

from __future__ import annotations

from resolute.reproduction.console import console_ledger
from resolute.reproduction.ledger import Entry, Line, Measured, ledger
from resolute.reproduction.page import markdown
from resolute.reproduction.results import read_pools, results_folder

__all__ = ["Entry", "Line", "Measured", "console_ledger", "ledger", "markdown", "read_pools", "results_folder"]
