"""An evaluation for a terminal of 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.report.formats import bounds, percent, points
from resolute.report.tables import COLOURS

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from resolute.report.judged import Judged, Row

RESULTS = {"passed": "green", "failed": "red", "not run": "dim"}


def console_judged(judged: Judged) -> list[RenderableType]:
    """Lay an evaluation out for a terminal: errors, then what can be said of attacks.

    Args:
        judged: The evaluation.

    Returns:
        Tables and lines to print.
    """
    from rich.text import Text

    n = f"{judged.n:,} images of {judged.stamp['data']}"
    shown: list[RenderableType] = [Text(f"error in % on {n}, 95 % intervals over images"), _table(judged)]
    for benchmark in judged.benchmarks:
        shown += [Text(f"{benchmark.suite}, 15 at 5 severities, {n}: {benchmark.told(n)}") for n in judged.networks]
    for name, found in judged.checks.items():
        shown.append(Text(f"{name}: {found['sentence']}", "bold"))
        for check in found["checks"]:
            result = Text(f"  {check['result']:8}", RESULTS[check["result"]])
            shown.append(result + Text(f" {check['name']}. {check['found']}", ""))
    return shown


def _table(judged: Judged) -> RenderableType:
    from rich import box
    from rich.table import Table

    first, *others = judged.networks
    caption = f"change: less {first}, in percentage points, images paired" if others else None
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left",
        caption_style="dim",
    )  # fmt: skip
    table.add_column("", overflow="fold", min_width=20)
    table.add_column("network", overflow="fold")
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    if others:
        table.add_column("change", justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
    for row, following in zip(judged.rows, [*judged.rows[1:], None], strict=True):
        for name in judged.networks:
            last = name == judged.networks[-1] and (following is None or following.suite != row.suite)
            table.add_row(*_line(row, name, first, paired=bool(others)), end_section=last)
    return table


def _line(row: Row, name: str, first: str, *, paired: bool) -> list[Text]:
    from rich.text import Text

    label = row.label if row.shift else f"{row.suite}: mean"
    error = row.errors[name]
    cells = [
        Text(label if name == first else "", "" if row.shift else "bold"),
        Text(name),
        Text(percent(error.mean)),
        Text(f"({bounds(error).replace(' to ', '-')})", "dim"),
    ]
    if not paired:
        return cells
    pair = row.pairs.get(name)
    if pair is None:
        return [*cells, Text(""), Text("")]
    word = pair.verdict.replace("no difference seen", "none seen")
    return [*cells, Text(points(pair.difference.mean)), Text(word, COLOURS[pair.verdict])]
