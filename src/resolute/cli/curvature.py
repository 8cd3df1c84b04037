"""`resolute curvature`."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 typer reads it
from typing import Annotated, Any

import typer

from resolute.cli.evaluate import DEVICE, TEST_DATA, Named, Networks, load_networks
from resolute.cli.flags import command_line, of, settings_for, takes
from resolute.config import CurvatureConfig


@takes(TEST_DATA, of(CurvatureConfig, but=("command",)), of(Named), DEVICE)
def curvature(
    networks: Networks = None,
    *,
    split: Annotated[str, typer.Option(help="Images to take the loss over: train, validation or test.")] = "train",
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/curvature-HASH.")] = None,
    **given: Any,
) -> None:
    """Measure the curvature of the loss of trained networks, with respect to their inputs and their parameters.

    Jacobian norms, largest and lowest eigenvalues, traces and spectral densities, each with its error, and the loss
    along the leading directions. To continue a measurement that was stopped, run the same command again; in several
    terminals it shares the networks.
    """
    from resolute.curvature import survey
    from resolute.curvature.report import console_curvature
    from resolute.data import load
    from resolute.experiment import evaluation
    from resolute.report.page import show

    plan = CurvatureConfig(**settings_for(CurvatureConfig, given), command=command_line())
    place = evaluation.device(given["device"])
    resized = given.get("interpolation", "bilinear")
    images = load(given["data"], given.get("data_dir"), split, given.get("size"), resized)
    folders = networks or []
    subjects = load_networks(folders, Named(**settings_for(Named, given)), images)
    for subject in subjects:
        subject.model.to(place)
    folder = out or survey.survey_folder(subjects, images, plan)
    result = survey.survey(subjects, images, plan, folder, errors=survey.errors_beside(folders))
    show(console_curvature(result), folder / "report.html")
