"""`resolute tune`."""

from __future__ import annotations

import shlex
from pathlib import Path  # noqa: TC003 typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resolute.cli.compare import command_line, make_recipe
from resolute.cli.flags import (
    BatchSize,
    DataDir,
    Device,
    Epochs,
    LearningRate,
    Model,
    Precision,
    RecipeData,
    Size,
    TrainFraction,
    UpdateBatchNorm,
    WeightDecay,
)
from resolute.errors import InputError

if TYPE_CHECKING:
    from resolute.methods import Settings

PASSED_ON = (
    "data", "data_dir", "size", "model", "epochs", "batch_size", "lr", "weight_decay", "train_fraction", "update_bn",
    "suites", "device", "precision",
)  # fmt: skip
"""Flags of `compare` that `tune` has too: the final comparison is to be run with the same."""


def tune(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="digits, mnist or images; else what fits --data.")
    ] = None,
    method: Annotated[str, typer.Option(help="What is tuned: r, gaussian, additive or dropout.")] = "r",
    data: RecipeData = None,
    data_dir: DataDir = None,
    size: Size = None,
    model: Model = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    weight_decay: WeightDecay = None,
    train_fraction: TrainFraction = None,
    update_bn: UpdateBatchNorm = None,
    suites: Annotated[str, typer.Option(help="Whose mean validation error is lowered, comma-separated.")] = "clean",
    eps: Annotated[str | None, typer.Option(help="Strengths to try first, comma-separated: 0.1,0.3.")] = None,
    where: Annotated[str | None, typer.Option(help="Places to try, comma-separated: input,hidden,both.")] = None,
    trials: Annotated[int, typer.Option(help="Settings that are tried at most.")] = 20,
    seeds: Annotated[int, typer.Option(help="Paired seeds of a finalist; 3 of them for every setting.")] = 5,
    margin: Annotated[
        float | None,
        typer.Option(help="Gain in points that is none; by default half of the baseline's error, at most 0.5."),
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no further setting is tried.")] = None,
    device: Device = None,
    precision: Precision = None,
    jobs: Annotated[int, typer.Option(help="Processes on this machine that share the networks.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; by default runs/tune-NAME-HASH.")] = None,
) -> None:
    """Choose eps, p and place of the noise on validation images; the test images are not looked at.

    Without arguments: R on scikit-learn's digits, in a few minutes. The same command goes on where a killed one
    stopped.
    """  # noqa: DOC501 the docstring is the command's help
    flags = {name: value for name, value in locals().items() if name in PASSED_ON and value is not None}
    from resolute.experiment import tune
    from resolute.report.tuning import console_tuned

    tune.load_optuna()
    grid: dict[str, Any] = {"eps": tuple(map(_number, eps.split(",")))} if eps else {}
    grid |= {"places": tuple(where.split(","))} if where else {}
    made = make_recipe(recipe, flags | {"seeds": seeds})
    least = None if margin is None else margin / 100
    plan = tune.Plan(made, method, trials=trials, margin=least, timeout=timeout, jobs=jobs, **grid)
    try:
        folder, tuned = tune.run_tuning(plan, out, command=command_line())
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    console = Console()
    console.print(console_tuned(tuned))
    final = _final(recipe, flags, method, (tuned.best or tuned.nearest).settings, seeds)
    lines = [tuned.sentence, f"{tuned.stopped}.", f"curve: {folder / 'curve.png'}", f"on the test set: {final}"]
    console.print("\n".join(lines), soft_wrap=True, highlight=False, markup=False)


def _final(recipe: str | None, flags: dict[str, Any], method: str, settings: Settings, seeds: int) -> str:
    """Write the command for the test set, with seeds that nothing was chosen on."""
    words = ["resolute", "compare", *([recipe] if recipe else [])]
    for name, value in flags.items():
        flag = name.replace("_", "-")
        if name != "suites":
            switch = [f"--{flag}" if value else f"--no-{flag}"]
            words += switch if isinstance(value, bool) else [f"--{flag}", str(value)]
    words += ["--methods", f"base,{method}", "--seeds", f"{seeds}-{2 * seeds - 1}", "--eps", f"{settings.eps:g}"]
    words += ["--p", f"{settings.p:g}"] if settings.p != 0.5 else []
    return shlex.join([*words, "--where", str(settings.where)])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--eps got {text!r}; it takes numbers, separated by commas.") from None
