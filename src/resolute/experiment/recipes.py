"""Recipes by name. Each is a function that returns one complete frozen dataclass."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.experiment.recipe import Recipe
from resolute.training.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Callable


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
