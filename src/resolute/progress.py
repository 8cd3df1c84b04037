"""What is said while work runs: sentences, and how far it is: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from resolute.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress

SECONDS_BETWEEN_LINES = 60.0
"""How often a line is written where there is no terminal, beside those at the end of a part."""


@dataclass(slots=True)
class Meter:
    """Tells how far some work is and, from its pace here, how long the rest will take.

    Attributes:
        total: All of the work, in any unit that grows evenly with time.
        found: What was done before this process began: it says nothing of the pace.
    """

    total: float
    found: float
    _console: Console
    _bar: Progress
    _start: float
    _said: float

    def tell(self, done: float, what: str, *, part: bool = False) -> None:
        """Show how far the work is."""
        now = time.monotonic()
        here = done - self.found
        left = clock((now - self._start) * (self.total - done) / here) if here > 0 else "-:--:--"
        self._bar.update(self._bar.task_ids[0], completed=done, description=visible(what), left=left)
        if not self._console.is_terminal and here > 0 and (part or now - self._said >= SECONDS_BETWEEN_LINES):
            self._said = now
            say(f"{what}, {clock(now - self._start)}, {left} left", self._console)


@contextlib.contextmanager
def progress(total: float, console: Console | None = None, *, found: float = 0.0) -> Iterator[Meter]:
    """Show progress while the block runs."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console, start = console or Console(stderr=True), time.monotonic()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]} left"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        bar.add_task("", total=total, completed=int(found), left="-:--:--")
        yield Meter(total, found, console, bar, start, start)


def say(text: str, console: Console | None = None, title: str = "") -> None:
    """Print a sentence on one line as it stands, on standard output unless told otherwise, behind a red title."""
    from rich.console import Console
    from rich.text import Text

    sentence = Text.assemble((title, "bold red"), " " if title else "", visible(text))
    (console or Console()).print(sentence, soft_wrap=True)


def say_warning(message: Warning | str, *_: object) -> None:
    """Show a warning as a sentence, without the line of code that it comes from: for `warnings.showwarning`."""
    from rich.console import Console

    say(" ".join(str(message).split()), Console(stderr=True), "warning:")


def clock(seconds: float) -> str:
    """Put a time as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
