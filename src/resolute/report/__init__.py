"""From the files of a run to what people read: a table, a page, pictures. Trains and evaluates nothing."""

from __future__ import annotations

from resolute.report.html import write_report
from resolute.report.run import Run, load_run
from resolute.report.summary import Summary, summarise
from resolute.report.tables import console_table, markdown_table

__all__ = ["Run", "Summary", "console_table", "load_run", "markdown_table", "summarise", "write_report"]
