"""`resolute compare`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from resolute.cli.flags import (
    BatchSize,
    Compile,
    DataDir,
    Device,
    Epochs,
    Eps,
    LearningRate,
    Model,
    Precision,
    RecipeData,
    Size,
    TrainFraction,
    UpdateBatchNorm,
    WeightDecay,
    Where,
)
from resolute.errors import InputError

if TYPE_CHECKING:
    from resolute.experiment.recipe import Recipe


def compare(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A name of `list recipes`; else what fits --data.")
    ] = None,
    data: RecipeData = None,
    data_dir: DataDir = None,
    size: Size = None,
    model: Model = None,
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated: base,fgsm,r,r+fgsm,r@eps=0.3@where=both.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Number of paired seeds, or from which to which: 100-119.")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    opt: Annotated[str | None, typer.Option(help="sgd, adam or rmsprop.")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of SGD and RMSProp; Adam's first beta.")] = None,
    nesterov: Annotated[bool | None, typer.Option("--nesterov/--no-nesterov", help="SGD's momentum.")] = None,
    opt_eps: Annotated[float | None, typer.Option(help="What Adam and RMSProp add before they divide.")] = None,
    clip_grad: Annotated[float | None, typer.Option(help="Largest norm of the gradient; 0 is off.")] = None,
    weight_decay: WeightDecay = None,
    sched: Annotated[str | None, typer.Option(help="cosine, linear, step, exponential, staircase.")] = None,
    milestones: Annotated[str | None, typer.Option(help="Epochs of the step schedule, comma-separated.")] = None,
    decay_rate: Annotated[float | None, typer.Option(help="Factor of step, exponential and staircase.")] = None,
    decay_epochs: Annotated[float | None, typer.Option(help="Epochs for that factor, but of step.")] = None,
    min_lr: Annotated[float | None, typer.Option(help="Least learning rate after the warm-up.")] = None,
    warmup_epochs: Annotated[float | None, typer.Option(help="Epochs of linear warm-up.")] = None,
    smoothing: Annotated[float | None, typer.Option(help="Label smoothing.")] = None,
    model_ema: Annotated[float | None, typer.Option(help="Decay of a moving average of the weights.")] = None,
    shift: Annotated[int | None, typer.Option(help="Augmentation: random shift by up to this many pixels.")] = None,
    padding: Annotated[str | None, typer.Option(help="What a shift brings in: zeros or reflect.")] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help="Augmentation: random flips.")] = None,
    erase: Annotated[float | None, typer.Option(help="Augmentation: probability of random erasing.")] = None,
    crop: Annotated[float | None, typer.Option(help="Augmentation: least share of the area in a random crop.")] = None,
    rotation: Annotated[
        float | None, typer.Option(help="Augmentation: random rotation by up to so many degrees.")
    ] = None,
    eps: Eps = None,
    p: Annotated[float | None, typer.Option(help="Probability of the sign +1.")] = None,
    where: Where = None,
    radius: Annotated[str | None, typer.Option(help="Budget of FGSM training, in pixel units: 0.1 or 8/255.")] = None,
    suites: Annotated[str | None, typer.Option(help="Comma-separated: clean,noise,fgsm.")] = None,
    split: Annotated[str | None, typer.Option(help="Judge on test, or on validation to choose settings.")] = None,
    hold_out: Annotated[bool | None, typer.Option("--hold-out/--train-on-all", help="Keep validation out.")] = None,
    train_fraction: TrainFraction = None,
    update_bn: UpdateBatchNorm = None,
    device: Device = None,
    devices: Annotated[int | None, typer.Option(help="Processes that train together (DDP).")] = None,
    precision: Precision = None,
    compile: Compile = None,  # noqa: A002
    channels_last: Annotated[bool | None, typer.Option("--channels-last/--no-channels-last", help="Layout.")] = None,
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard/--no-tensorboard", help="Also log there.")] = None,
    jobs: Annotated[int, typer.Option(help="Cells at a time: processes on this machine, or tasks of Ray.")] = 1,
    on: Annotated[str, typer.Option(help="local, ray, or ray://HOST:PORT of a cluster that is running.")] = "local",
    out: Annotated[Path | None, typer.Option(help="Run directory; by default runs/NAME-HASH.")] = None,
) -> None:
    """Train every method with paired seeds, judge them on the same images, and say whether they differ.

    Without arguments: base, FGSM and R on scikit-learn's digits, in under two minutes. The same command goes on where
    a killed one stopped.
    """  # noqa: DOC501 the docstring is the command's help
    given = {
        name: value for name, value in locals().items() if name not in ("recipe", "jobs", "on") and value is not None
    }
    from resolute.experiment import grid
    from resolute.report.page import console_table

    made = make_recipe(recipe, given)
    try:
        folder, summary = grid.run_comparison(made, out, jobs=jobs, on=on, command=command_line())
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    console = Console()
    console.print(console_table(summary))
    console.print(summary.sentence, soft_wrap=True, highlight=False, markup=False)
    if summary.missing:
        console.print(summary.limits[0], soft_wrap=True, highlight=False)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


MOST_SEEDS = 10_000
"""Paired seeds of a run: more is a slip of the finger."""


def make_recipe(name: str | None, flags: dict[str, Any]) -> Recipe:
    """Start from a named recipe, or from what is customary for the data, and apply the flags that were given.

    Args:
        name: A name in ``recipes.RECIPES``, or None.
        flags: Values by flag.

    Returns:
        The recipe.

    Raises:
        InputError: If a name is unknown or a value cannot be used.
    """
    from dataclasses import replace

    from resolute.attacks import parse_radius
    from resolute.data.augment import Augment
    from resolute.experiment import recipes
    from resolute.paper.rows import named_recipe

    start = named_recipe(name) if name else recipes.customary(flags.get("data", "digits"))

    def chosen(**names: str) -> dict[str, Any]:
        return {field: flags[flag] for field, flag in names.items() if flag in flags}

    def same(*names: str) -> dict[str, Any]:
        return chosen(**{name: name for name in names})

    settings = same("eps", "p", "where") | ({"radius": parse_radius(flags["radius"])} if "radius" in flags else {})
    train = same("epochs", "batch_size", "lr", "weight_decay", "warmup_epochs", "device", "devices", "precision")
    train |= same(
        "nodes", "strategy", "global_noise", "sync_bn", "compile", "channels_last", "tensorboard", "update_bn"
    )
    train |= same("momentum", "nesterov", "decay_epochs")
    train |= chosen(optimizer="opt", damping="opt_eps", clip_norm="clip_grad", gamma="decay_rate", lr_floor="min_lr")
    train |= chosen(schedule="sched", label_smoothing="smoothing", ema="model_ema")
    if "milestones" in flags:
        train["milestones"] = tuple(_whole(part, "--milestones") for part in flags["milestones"].split(","))
    if augment := same("shift", "padding", "flip", "erase", "crop", "rotation"):
        train["augment"] = replace(start.train.augment or Augment(), **augment)
    whole = same("baseline", "data", "data_dir", "size", "model", "split", "hold_out", "train_fraction")
    if "data" in flags and start.name == "images":
        whole["name"] = Path(flags["data"]).resolve().name
    lists: dict[str, Any] = {
        key: tuple(part.strip() for part in flags[key].split(",")) for key in ("methods", "suites") if key in flags
    }
    seeds: dict[str, Any] = {"seeds": _seeds(str(flags["seeds"]))} if "seeds" in flags else {}
    return replace(
        start,
        settings=replace(start.settings, **settings),
        train=replace(start.train, **train),
        **whole,
        **lists,
        **seeds,
    )


def _whole(text: str, flag: str) -> int:
    if not text.strip().isdigit():
        raise InputError(f"{flag} got {text!r}; it takes whole numbers, separated by commas.")
    return int(text)


def _seeds(text: str) -> tuple[int, ...]:
    numbers = re.fullmatch(r"(?:(\d+)-)?(\d+)", text.strip(), re.ASCII)
    if not numbers:
        raise InputError(f"--seeds got {text!r}; it takes how many, 5, or from which to which, 100-119.")
    first, last = numbers.groups()
    seeds = range(int(first), int(last) + 1) if first else range(int(last))
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise InputError(f"--seeds got {text!r}, which are {len(seeds):,} seeds; wanted are 1 to {MOST_SEEDS:,}.")
    return tuple(seeds)


def command_line() -> str:
    """Give this process's command as it can be pasted into a shell.

    Returns:
        One line.
    """
    import shlex

    return shlex.join(["resolute", *sys.argv[1:]])
