"""`resolute evaluate`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from resolute.cli.compare import command_line
from resolute.cli.flags import Data, DataDir, DeviceName, DisturbanceSeed, Factory, FolderSize, NamedModel, Weights
from resolute.errors import InputError

if TYPE_CHECKING:
    from resolute.data.dataset import Images
    from resolute.evaluation.networks import Network


def evaluate(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[CHECKPOINT]...", help="Folders cells/METHOD-seedN; a second is compared in pairs."),
    ] = None,
    data: Data = "digits",
    data_dir: DataDir = None,
    size: FolderSize = None,
    suites: Annotated[
        str, typer.Option(help="Comma-separated: clean,disturbances,corruptions,attacks; see `list suites`.")
    ] = "clean,disturbances",
    model: NamedModel = None,
    weights: Weights = None,
    factory: Factory = None,
    seed: DisturbanceSeed = 0,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Images in a batch.")] = 500,
    limit: Annotated[int | None, typer.Option(help="Only so many test images, each class in proportion.")] = None,
    device: DeviceName = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default runs/evaluate-HASH.")] = None,
) -> None:
    """Evaluate trained networks on clean, disturbed, corrupted and attacked test images.

    The same command goes on where a killed one stopped. Images are in [0, 1]; a network normalises them itself.
    """  # noqa: DOC501 the docstring is the command's help
    from resolute.data import load
    from resolute.experiment import evaluation
    from resolute.report.evaluation import console_evaluation, load_evaluation
    from resolute.report.page import show

    place = evaluation.device(device)
    images = load(data, data_dir, "test", size)
    plan = evaluation.Plan(images, tuple(suites.split(",")), seed, limit, batch_size, data_dir, command_line())
    _ = plan.shifts  # an unknown suite is told before a network is loaded
    networks = load_networks(checkpoints or [], model, weights, factory, images)
    for network in networks:
        network.model.to(place)
    folder = out or evaluation.default_folder(networks, plan)
    try:
        evaluation.evaluate_networks(networks, plan, folder)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    show(console_evaluation(load_evaluation(folder)), folder / "report.html")


def load_networks(
    checkpoints: list[Path], model: str | None, weights: Path | None, factory: str | None, images: Images
) -> list[Network]:
    """Load every network that the flags name.

    Args:
        checkpoints: Folders cells/METHOD-seedN.
        model: A name for `models.build`, which belongs to ``weights``.
        weights: Its file.
        factory: ``package.module:function``.
        images: What they will be asked.

    Returns:
        The networks, at least one.

    Raises:
        InputError: If none is named, or one cannot be loaded.
    """
    from resolute.evaluation.networks import from_checkpoint, from_factory, from_name

    if (model is None) != (weights is None):
        raise InputError("--model NAME and --weights FILE belong together.")
    found = [from_checkpoint(folder, images.info) for folder in checkpoints]
    if model is not None and weights is not None:
        found.append(from_name(model, weights, images.info))
    if factory is not None:
        found.append(from_factory(factory))
    if not found:
        raise InputError("nothing to evaluate: give a CHECKPOINT, or --model NAME --weights FILE, or --factory.")
    return found
