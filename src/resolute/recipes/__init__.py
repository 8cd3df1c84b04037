"""Recipes by name. Each is a function that returns one complete frozen dataclass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.errors import InputError, unknown
from resolute.recipes.recipe import Recipe, completed, from_json, identity, set_name, to_json
from resolute.recipes.row import OPEN, RowRecipe, Weights
from resolute.recipes.rows import QUOTED, TRAINED, WEIGHTS
from resolute.recipes.source import Source
from resolute.recipes.sources import SOURCES
from resolute.training import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "OPEN", "QUOTED", "RECIPES", "SOURCES", "TRAINED", "WEIGHTS", "Recipe", "RowRecipe", "Source", "Weights",
    "completed", "customary", "from_json", "identity", "named", "set_name", "to_json",
]  # fmt: skip


def digits() -> Recipe:
    """Compare on scikit-learn's 8x8 digits, 810 training and 898 test images: the default, within two minutes.

    Returns:
        The recipe.
    """
    return Recipe(
        name="digits",
        data="digits",
        model="lenet",
        train=TrainConfig(epochs=30, batch_size=64, lr=0.05, warmup_epochs=1),
    )


def mnist() -> Recipe:
    """Compare on MNIST with LeNet: about 0.6 % error after 12 epochs.

    Returns:
        The recipe.
    """
    return Recipe(
        name="mnist",
        data="mnist",
        model="lenet",
        train=TrainConfig(epochs=12, batch_size=128, lr=0.04, warmup_epochs=1, channels_last=True),
    )


def images() -> Recipe:
    """Compare on any set of photographs, of up to 64 pixels a side unless a larger network is named.

    Returns:
        The recipe; ``data`` is to be replaced by a path.
    """
    return Recipe(
        name="images",
        data="images",
        model="wrn-16-2",
        seeds=(0, 1, 2),
        train=TrainConfig(epochs=15, batch_size=128, lr=0.1, warmup_epochs=1, channels_last=True),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"digits": digits, "mnist": mnist, "images": images}


def customary(data: str) -> Recipe:
    """Choose the recipe for a data set.

    Args:
        data: A name in ``data.DATASETS``, or a path.

    Returns:
        The recipe of that name, or `images` for anything else.
    """
    return RECIPES[data]() if data in RECIPES else images()


def named(name: str) -> Recipe:
    """Look up a recipe: ours, that of a network's source or of a row of the paper's tables.

    Args:
        name: A name in `RECIPES` or in `SOURCES`, or the id of a row of the paper's tables in `TRAINED`.

    Returns:
        The recipe.

    Raises:
        InputError: If the name is unknown; the nearest ones are named.

    Example:
        >>> named("wrn-28-10-cifar10").train.milestones
        (60, 120, 160)
    """
    if name in SOURCES:
        return SOURCES[name].recipe
    if name in TRAINED:
        return TRAINED[name].recipe
    if name not in RECIPES:
        raise InputError(unknown("recipe", name, [*RECIPES, *SOURCES, *TRAINED]))
    return RECIPES[name]()
