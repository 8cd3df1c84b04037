"""How far a comparison is, shown while it runs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from resolute import methods

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from resolute.recipes import Recipe

Shown = tuple["Callable[[str, int, float], None]", "Callable[[str, int], None]"]


@contextlib.contextmanager
def progress(recipe: Recipe, console: Console | None) -> Iterator[Shown]:
    """Show how far the grid is, in epochs weighted by what a method's epoch costs, and how long it will take.

    Args:
        recipe: What is compared.
        console: Where; standard error by default.

    Yields:
        What to call with method, seed and the epochs done, and what to call with method and seed of a finished cell.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = console or Console(stderr=True)
    passes = {name: methods.find(name).passes for name in recipe.methods}
    epochs = recipe.train.epochs
    total = epochs * sum(passes[method] for method, _ in recipe.cells)
    done = dict.fromkeys(recipe.cells, 0.0)
    start = time.monotonic()
    times = (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("left"))
    shown = console.is_terminal
    with Progress(TextColumn("{task.description}"), BarColumn(), *times, console=console, disable=not shown) as bar:
        task = bar.add_task("", total=total)

        def tell(method: str, seed: int, epoch: float) -> None:
            done[method, seed] = passes[method] * epoch
            what = f"{method} seed {seed}, epoch {min(int(epoch) + 1, epochs)}/{epochs}"
            bar.update(task, completed=sum(done.values()), description=what)

        def finish(method: str, seed: int) -> None:
            tell(method, seed, epochs)
            if not shown:
                spent = time.monotonic() - start
                left = spent * (total / sum(done.values()) - 1)
                console.print(f"{method} seed {seed} done, {spent:.0f} s, {left:.0f} s left")

        yield tell, finish
