"""`resolute list`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterator


class What(StrEnum):
    """What `resolute list` can list."""

    models = "models"
    data = "data"
    methods = "methods"
    suites = "suites"
    recipes = "recipes"


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


def _entries(kind: What) -> Iterator[tuple[str, str]]:
    from resolute import data, methods, models, recipes, suites

    match kind:
        case What.models:
            yield from ((name, entry.about) for name, entry in models.MODELS.items())
        case What.methods:
            yield from ((name, method.about) for name, method in methods.METHODS.items())
            yield "A+B", "several at once, such as r+fgsm"
        case What.data:
            yield from ((name, _first_line(load)) for name, load in data.DATASETS.items())
            yield "PATH", "a folder of images (class/file.jpg) or of Hugging Face parquet files"
        case What.suites:
            yield from ((name, _first_line(suite)) for name, suite in suites.SUITES.items())
        case What.recipes:
            yield from ((name, _first_line(recipe)) for name, recipe in recipes.RECIPES.items())


def _first_line(function: Any) -> str:
    return str(function.__doc__).split("\n", 1)[0].rstrip(".")
