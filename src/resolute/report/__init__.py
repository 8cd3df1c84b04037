"""From the files of a run to what people read: a table, a page, pictures. Trains and evaluates nothing."""

from __future__ import annotations

from resolute.report.comparison import Summary, summarise
from resolute.report.page import console_table, markdown_table, write_report
from resolute.report.run import Run, load_run

__all__ = ["Run", "Summary", "console_table", "load_run", "markdown_table", "summarise", "write_report"]
