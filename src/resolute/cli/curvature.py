"""`resolute curvature`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated

import typer
from rich.console import Console

from resolute.cli.compare import command_line
from resolute.cli.evaluate import load_networks
from resolute.cli.flags import Data, DataDir, DeviceName, Factory, FolderSize, NamedModel, Weights


def curvature(
    checkpoints: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[CHECKPOINT]...", help="Folders cells/METHOD-seedN; equal seeds are compared in pairs."
        ),
    ] = None,
    data: Data = "digits",
    data_dir: DataDir = None,
    size: FolderSize = None,
    split: Annotated[str, typer.Option(help="train, validation or test: what the loss is taken over.")] = "train",
    images: Annotated[int, typer.Option(help="Number of images, drawn at random.")] = 1000,
    model: NamedModel = None,
    weights: Weights = None,
    factory: Factory = None,
    top: Annotated[int, typer.Option(help="Largest eigenvalues to find.")] = 5,
    steps: Annotated[int, typer.Option(help="Lanczos steps of the spectral density.")] = 30,
    probes: Annotated[int, typer.Option(help="Random vectors of the spectral density.")] = 4,
    surface: Annotated[int, typer.Option(help="Points along each direction of the loss surface; 0 for none.")] = 15,
    surface_images: Annotated[int, typer.Option(help="Images of the loss surface.")] = 200,
    eps: Annotated[float, typer.Option(help="Measure with sign noise of this strength; 0 for none.")] = 0.0,
    where: Annotated[str, typer.Option(help="Its places: input, hidden, both, or a pattern.")] = "hidden",
    draws: Annotated[int, typer.Option(help="Draws of it that are averaged.")] = 4,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Images at a time: bounds the memory.")] = 250,
    double: Annotated[bool, typer.Option("--double", help="Measure in float64.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of images, vectors and draws.")] = 0,
    device: DeviceName = "auto",
    out: Annotated[Path | None, typer.Option(help="Folder of the results; by default runs/curvature-HASH.")] = None,
) -> None:
    """Measure how the loss of trained networks bends, by their inputs and by their parameters.

    Jacobian norms, eigenvalues of both ends, traces and spectral densities, each with its error, and the loss along
    the leading directions. The same command goes on with the next network where a killed one stopped, and shares the
    networks with its like in other terminals.
    """  # noqa: DOC501 the docstring is the command's help
    from resolute.curvature import survey
    from resolute.curvature.report import console_curvature
    from resolute.data import load
    from resolute.experiment import evaluation
    from resolute.report.page import show

    plan = survey.Survey(
        images, top, steps, probes, surface, surface_images, eps, where, draws, batch_size, double, seed, command_line()
    )
    place = evaluation.device(device)
    loaded = load(data, data_dir, split, size)
    subjects = load_networks(checkpoints or [], model, weights, factory, loaded)
    for subject in subjects:
        subject.model.to(place)
    folder = out or survey.survey_folder(subjects, loaded, plan)
    errors = survey.errors_beside(checkpoints or [])
    try:
        result = survey.survey(subjects, loaded, plan, folder, errors=errors)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from here.")
        raise typer.Exit(130) from None
    show(console_curvature(result), folder / "report.html")
