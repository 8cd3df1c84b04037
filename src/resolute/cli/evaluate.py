"""`resolute evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolute.cli.flags import command_line, of, settings_for, takes
from resolute.config import EvaluateConfig, TrainConfig
from resolute.errors import InputError
from resolute.experiment.recipe import Recipe

if TYPE_CHECKING:
    from resolute.data.dataset import Images
    from resolute.evaluation.networks import Network


@dataclass(frozen=True, slots=True)
class Named:
    """A network that is no cell of a run folder.

    Attributes:
        model: Another network by its name, such as timm/NAME; it needs --weights.
        weights: The file of its weights: .safetensors, or .pth of tensors.
        factory: Another network as package.module:function, which returns it; this runs your code.
    """

    model: str | None = None
    weights: str | None = None
    factory: str | None = None


Networks = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[NETWORK]...", help="Folders cells/METHOD-seedN; others are compared with the first."),
]
TEST_DATA = of(Recipe, "data", "data_dir", "size", "interpolation", unset=True, data="digits")
DEVICE = of(TrainConfig, "device")


@takes(TEST_DATA, of(EvaluateConfig), of(Named), DEVICE)
def evaluate(
    networks: Networks = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/evaluate-HASH.")] = None,
    **given: Any,
) -> None:
    """Evaluate trained networks on clean, disturbed, corrupted and attacked test images.

    Images are in [0, 1]; a network normalises them itself. To continue an evaluation that was stopped, run the same
    command again.
    """
    from resolute.data import load
    from resolute.experiment import evaluation
    from resolute.report.evaluation import console_evaluation
    from resolute.report.page import show

    place, root = evaluation.device(given["device"]), given.get("data_dir")
    images = load(given["data"], root, "test", given.get("size"), given.get("interpolation", "bilinear"))
    plan = evaluation.Plan(images, **settings_for(EvaluateConfig, given), root=root, command=command_line())
    _ = plan.shifts  # an unknown suite is refused before a network is loaded
    loaded = load_networks(networks or [], Named(**settings_for(Named, given)), images)
    for network in loaded:
        network.model.to(place)
    folder = out or evaluation.evaluation_folder(loaded, plan)
    found = evaluation.evaluate_networks(loaded, plan, folder)
    show(console_evaluation(found), folder / "report.html")


def load_networks(folders: list[Path], named: Named, images: Images) -> list[Network]:
    """Load every network that the command line names, at least one."""
    from resolute.evaluation.networks import from_checkpoint, from_factory, from_name

    if (named.model is None) != (named.weights is None):
        raise InputError("--model NAME and --weights FILE belong together.")
    found = [from_checkpoint(folder, images.info) for folder in folders]
    if named.model is not None and named.weights is not None:
        found.append(from_name(named.model, Path(named.weights), images.info))
    if named.factory is not None:
        found.append(from_factory(named.factory))
    if not found:
        raise InputError("no network to evaluate: give a NETWORK, or --model NAME --weights FILE, or --factory.")
    return found
