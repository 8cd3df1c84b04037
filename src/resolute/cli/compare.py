"""`resolute compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolute.cli.flags import command_line, of, takes
from resolute.config import Augment, Settings, TrainConfig
from resolute.experiment.recipe import Recipe, changed

if TYPE_CHECKING:
    from collections.abc import Mapping


@takes(
    of(Recipe, but=("name", "baseline"), unset=True),
    of(Settings, unset=True),
    of(TrainConfig, but=("nodes",), unset=True),
    of(Augment, unset=True),
)
def compare(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A name of `resolute list recipes`; else one for --data.")
    ] = None,
    *,
    jobs: Annotated[int, typer.Option(help="Cells at a time: processes on this machine, or tasks of Ray.")] = 1,
    on: Annotated[str, typer.Option(help="local, ray, or ray://HOST:PORT of a running cluster.")] = "local",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/NAME-HASH.")] = None,
    **given: Any,
) -> None:
    """Train networks by every method with paired seeds, evaluate them on the same images, and test the differences.

    Without arguments: base, FGSM and R on scikit-learn's digits, in under two minutes. Settings that you do not give
    are those of the recipe. To continue a run that was stopped, run the same command again.
    """
    from resolute.experiment import grid
    from resolute.report.page import console_summary, show

    made = make_recipe(recipe, given)
    folder, summary = grid.run_comparison(made, out, jobs=jobs, on=on, command=command_line())
    show(console_summary(summary), folder / "report.html")


def make_recipe(name: str | None, given: Mapping[str, Any]) -> Recipe:
    """Start from a named recipe, or from what is customary for the data, and change the given settings."""
    from resolute.experiment import recipe
    from resolute.paper.rows import named_recipe

    if name:
        start = named_recipe(name)
    else:
        tuned = given.get("pretrained") or "weights" in given or str(given.get("model")).startswith("hf-hub:")
        start = recipe.finetune() if tuned else recipe.customary(given.get("data", "digits"))
    if "data" in given and start.name in ("images", "finetune"):
        given = {**given, "name": Path(given["data"]).resolve().name}
    return changed(start, given)
