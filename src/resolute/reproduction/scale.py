"""The recipe of a row at three scales: as it stands, a tenth as long, or a few steps on small images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from resolute.data import Augment
from resolute.errors import InputError, unknown
from resolute.reproduction.smoke import write_digits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.recipes import Recipe
    from resolute.training import TrainConfig

REDUCED_SEEDS = (0, 1, 2)
LEAST_EPOCHS = 10
SMOKE = "smoke"


def scaled(recipe: Recipe, scale: str, folder: Path) -> Recipe:
    """Bring a row's recipe to a scale.

    Args:
        recipe: The recipe of a row.
        scale: ``"full"``: as it is. ``"reduced"``: 3 seeds and a tenth of the epochs, though not below 10 (or the
            recipe's own number), with the schedule compressed alike. ``"smoke"``: 1 seed and one epoch of two steps
            on a few of scikit-learn's digits, brought to the row's channels and pixels; no measurement. They are of
            two classes, so that suite ``top5`` is left out.
        folder: Where the images of a smoke run are written.

    Returns:
        The recipe, named after row and scale.

    Raises:
        InputError: If there is no such scale.
    """
    if scale not in SCALES:
        raise InputError(unknown("scale", scale, SCALES))
    return replace(SCALES[scale](recipe, folder), name=f"{recipe.name}-{scale}")


def _full(recipe: Recipe, folder: Path) -> Recipe:  # noqa: ARG001
    return recipe


def _reduced(recipe: Recipe, folder: Path) -> Recipe:  # noqa: ARG001
    train = recipe.train
    epochs = max(min(train.epochs, LEAST_EPOCHS), round(train.epochs / 10))
    return replace(recipe, train=_compressed(train, epochs), seeds=REDUCED_SEEDS)


def _compressed(train: TrainConfig, epochs: int) -> TrainConfig:
    share = epochs / train.epochs
    return replace(
        train,
        epochs=epochs,
        milestones=tuple(max(1, round(share * milestone)) for milestone in train.milestones),
        decay_epochs=share * train.decay_epochs,
        warmup_epochs=share * train.warmup_epochs,
    )


def _smoke(recipe: Recipe, folder: Path) -> Recipe:
    """Two steps of one image: an attacked step of NASNet-A with two takes 7 GB. More where some are held out."""
    batch_size = 4 if recipe.hold_out else 1
    train = replace(
        recipe.train,
        epochs=1,
        batch_size=batch_size,
        lr=recipe.train.lr * batch_size / recipe.train.batch_size,
        milestones=(),
        warmup_epochs=0.0,
        augment=recipe.train.augment or Augment(flip=True, crop=0.08),
    )
    data = write_digits(folder, *shape(recipe), few=not recipe.hold_out)
    suites = tuple(suite for suite in recipe.suites if suite != "top5")
    return replace(recipe, data=str(data), size=None, train=train, seeds=(0,), suites=suites)


def shape(recipe: Recipe) -> tuple[int, int]:
    """Tell the channels and the side of a row's images.

    Args:
        recipe: The recipe of a row.

    Returns:
        Channels and pixels a side.
    """
    return {"mnist": (1, 28), "imagenet": (3, recipe.size or 224)}.get(recipe.data, (3, 32))


SCALES: dict[str, Callable[[Recipe, Path], Recipe]] = {SMOKE: _smoke, "reduced": _reduced, "full": _full}
"""Scales by name."""
