"""From the files of a run to what people read: a table, a page, pictures. Trains and evaluates nothing."""

from __future__ import annotations

from resolute.report.comparison import Summary
from resolute.report.page import write_report

__all__ = ["Summary", "write_report"]
