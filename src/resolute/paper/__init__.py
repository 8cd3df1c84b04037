"""What the paper prints: every row of its five tables as data, misprints marked. Nothing is measured here."""

from __future__ import annotations

from resolute.paper.facts import CAPTIONS, DATA_NAMES, NOTES, ROWS, SOURCES, Row, Source, Value
from resolute.paper.lookup import find, of_table

__all__ = ["CAPTIONS", "DATA_NAMES", "NOTES", "ROWS", "SOURCES", "Row", "Source", "Value", "find", "of_table"]
