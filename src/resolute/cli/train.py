"""`resolute train`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated, Any

import typer

from resolute.cli.compare import make_recipe
from resolute.cli.flags import command_line, of, takes
from resolute.config import Augment, Settings, TrainConfig
from resolute.errors import InputError
from resolute.experiment.recipe import Recipe
from resolute.progress import say


@takes(
    of(
        Recipe,
        "data",
        "data_dir",
        "size",
        "interpolation",
        "model",
        "pretrained",
        "weights",
        "suites",
        "train_fraction",
        unset=True,
        data="digits",
        suites="clean",
    ),
    of(Settings, unset=True),
    of(TrainConfig, unset=True),
    of(Augment, unset=True),
)
def train(
    *,
    method: Annotated[str, typer.Option(help="base, fgsm, r, ...; a + joins two.")] = "r",
    seed: Annotated[int, typer.Option(help="Seed of weights, order, augmentation and noise.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; by default runs/NAME-HASH.")] = None,
    **given: Any,
) -> None:
    """Train one network by one method and evaluate it; over several devices and machines if you like.

    To continue a run that was stopped, run the same command again. On several machines, on each: torchrun --nnodes M
    --nproc-per-node N --rdzv-endpoint HOST:PORT -m resolute train --nodes M --devices N ...
    """  # noqa: DOC501 the docstring is the command's help
    from resolute.experiment import grid
    from resolute.models.checkpoint import read_spec

    if "," in method:
        raise InputError(f"--method got {method!r}; it takes one method. Several are trained by `resolute compare`.")
    recipe = make_recipe(None, given | {"methods": (method,), "baseline": method, "seeds": (seed,)})
    folder, records = grid.train_one(recipe, out, command=command_line())
    for record in records:
        shift = "clean" if record.suite == "clean" else f"{record.suite}, {record.shift} {record.severity:.4g}"
        say(f"{shift}: {100 * record.error:.2f} % wrong of {record.n:,}")
    if records:
        if recipe.settings.eps == "auto" and "eps" in (spec := read_spec(folder)):
            say(f"eps: {spec['eps']:g}, found for the ratio")
        say(f"network: {folder}")
