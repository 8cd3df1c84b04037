"""`resolute tune`."""

from __future__ import annotations

import shlex
from pathlib import Path  # noqa: TC003 typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resolute.cli.compare import make_recipe
from resolute.cli.flags import as_words, command_line, of, settings_for, takes
from resolute.config import Augment, TrainConfig
from resolute.experiment.recipe import Recipe, TuneConfig

if TYPE_CHECKING:
    from resolute.config import Settings

DATA = (
    "data",
    "data_dir",
    "size",
    "interpolation",
    "model",
    "pretrained",
    "weights",
    "train_fraction",
    "suites",
    "seeds",
)


@takes(
    of(Recipe, *DATA, unset=True, suites="clean", seeds="5"),
    of(TuneConfig),
    of(TrainConfig, but=("nodes",), unset=True),
    of(Augment, unset=True),
)
def tune(
    recipe: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="A name of `resolute list recipes`; else one for --data.")
    ] = None,
    *,
    out: Annotated[Path | None, typer.Option(help="Folder of the study; by default runs/tune-NAME-HASH.")] = None,
    **given: Any,
) -> None:
    """Choose the noise-to-signal ratio, p and the site of the noise on validation images; the test images are not used.

    Without arguments: R on scikit-learn's digits, in a few minutes. To continue a study that was stopped, run the same
    command again.
    """
    from resolute.experiment import tune
    from resolute.report.page import show
    from resolute.report.tuning import console_tuned

    tune.load_optuna()
    own = settings_for(TuneConfig, given)
    shared = {name: value for name, value in given.items() if name not in own}
    plan = TuneConfig(make_recipe(recipe, shared), **own)
    folder, tuned = tune.run_tuning(plan, out, command=command_line())
    final = _final(recipe, shared, plan.method, (tuned.best or tuned.nearest).settings)
    show([*console_tuned(tuned), f"curve: {folder / 'curve.png'}", f"on the test set: {final}"])


def _final(recipe: str | None, shared: dict[str, Any], method: str, settings: Settings) -> str:
    """Write the command for the test set, with seeds that nothing was chosen on."""
    n, first = len(shared["seeds"]), max(shared["seeds"]) + 1
    kept = {name: value for name, value in shared.items() if name not in ("suites", "seeds")}
    words = ["resolute", "compare", *([recipe] if recipe else []), *as_words(kept)]
    words += ["--methods", f"base,{method}", "--seeds", f"{first}-{first + n - 1}"]
    auto = settings.ratio is not None
    words += ["--eps", "auto", "--ratio", f"{settings.ratio:g}"] if auto else ["--eps", f"{settings.eps:g}"]
    words += ["--p", f"{settings.p:g}"] if settings.p != 0.5 else []
    words += as_words(settings.unusual)
    return shlex.join([*words, "--where", str(settings.where)])
