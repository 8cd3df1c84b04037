"""`resolute list`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from resolute.cli.flags import takes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resolute.paper.rows import RowRecipe


class What(StrEnum):
    """What `resolute list` can list."""

    models = "models"
    data = "data"
    methods = "methods"
    suites = "suites"
    recipes = "recipes"


@takes()
def list_(
    what: Annotated[
        What | None, typer.Argument(metavar="[WHAT]", help="models, data, methods, suites, recipes.")
    ] = None,
) -> None:
    """Show which models, data sets, methods, suites and recipes there are."""
    from rich.table import Table

    console = Console()
    for kind in [what] if what else What:
        table = Table("name", "what it is", title=kind.value, title_justify="left", box=None, pad_edge=False)
        for name, about in _entries(kind):
            table.add_row(escape(name), escape(about))
        console.print(table, "")
    if what == What.models:
        _print_sizes(console)
    if what == What.recipes:
        _print_deviations(console)


def _print_deviations(console: Console) -> None:
    """Say where each recipe of a source is from, and in what it differs."""
    from rich.table import Table

    from resolute.paper.sources import SOURCES

    notes = Table(title="sources and deviations", title_justify="left", box=None, pad_edge=False, show_header=False)
    notes.add_column(no_wrap=True)
    for name, source in SOURCES.items():
        notes.add_row(name, escape(f"{source.where}. Loss: {source.loss}."))
        for deviation in source.deviations or ("No deviation is known.",):
            notes.add_row("", f"- {escape(deviation)}")
    console.print(notes)


def _entries(kind: What) -> Iterator[tuple[str, str]]:
    from resolute import data, methods, models, shifts
    from resolute.experiment import recipe
    from resolute.paper import rows, sources

    match kind:
        case What.models:
            yield from ((name, entry.about) for name, entry in models.MODELS.items())
            yield from ((name, f"not built: {why}") for name, why in models.ABSENT.items())
        case What.methods:
            yield from ((name, method.about) for name, method in methods.METHODS.items())
            yield "A+B", "several at once, such as r+fgsm"
        case What.data:
            yield from ((name, _first_line(load)) for name, load in data.DATASETS.items())
            yield "PATH", "a folder of images (class/file.jpg) or of Hugging Face parquet files"
        case What.suites:
            yield from ((name, _first_line(suite)) for name, suite in shifts.SUITES.items())
        case What.recipes:
            yield from ((name, _first_line(recipe)) for name, recipe in recipe.RECIPES.items())
            for name, source in sources.SOURCES.items():
                error = "no published error" if source.error is None else f"published error {source.error:.2f} %"
                yield name, f"{source.recipe.model} as at its source: {error}"
            yield from ((name, _of_row(row)) for name, row in rows.TRAINED.items())
            yield from ((name, f"quoted: {why}") for name, why in rows.QUOTED.items())


def _of_row(row: RowRecipe) -> str:
    recipe = row.recipe
    epochs = f"{recipe.train.epochs} epochs of batch {recipe.train.batch_size}"
    return f"{' and '.join(recipe.methods)}: {recipe.model} on {recipe.data}, {epochs}, {recipe.train.optimizer}"


def _print_sizes(console: Console) -> None:
    """Count every network of the paper's tables beside what is printed and published, with the deviation."""
    from rich.table import Table

    from resolute.paper.sizes import SIZES, count_named

    table = Table(title="sizes", title_justify="left", box=None, pad_edge=False)
    table.add_column("network", no_wrap=True)
    table.add_column("what")
    for heading in ("counted", "paper", "source", "off"):
        table.add_column(heading, justify="right")
    with console.status("counting"):
        for name, size in SIZES.items():
            counts = count_named(name)
            for index, label in enumerate(("parameters", "mult-adds")):
                paper, source = size.printed[index], size.published[index]
                wanted = paper or source
                off = f"{100 * (counts[index] / wanted - 1):+.1f} %" if wanted else ""
                row = (
                    f"{counts[index]:,}" if index == 0 else f"{counts[index] / 1e6:,.2f}M",
                    *map(_millions, (paper, source)),
                )
                table.add_row("" if index else name, label, *row, off)
    console.print(table, "")
    console.print(
        "M: million. paper: the tables that this library implements. off: from the paper, else from the source. "
        "mult-adds: those of convolutions and matrix products for one image in evaluation mode."
    )
    notes = Table(title="\nsources and notes", title_justify="left", box=None, pad_edge=False, show_header=False)
    for name, size in SIZES.items():
        if size.source or size.note:
            notes.add_row(name, ". ".join(filter(None, (size.source, size.note))))
    console.print(notes)


def _millions(value: float | None) -> str:
    return "" if value is None else f"{value / 1e6:,.7g}M"


def _first_line(function: Any) -> str:
    return str(function.__doc__).split("\n", 1)[0].rstrip(".")
