"""A published result, and the recipe that comes nearest to how it was got."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from resolute.recipes.recipe import Recipe

if TYPE_CHECKING:
    from resolute.training import TrainConfig


@dataclass(frozen=True, slots=True)
class Source:
    """One published result and the recipe that comes nearest to how it was got.

    Attributes:
        recipe: Complete; its methods and seeds are the usual ones, since the sources have neither.
        error: Published top-1 test error in %, of the network trained plainly; None if there is none.
        loss: What is minimised.
        where: Where the settings and the error stand.
        deviations: What the source did and the recipe does not, and what the source does not say and was chosen here.
    """

    recipe: Recipe
    error: float | None
    loss: str
    where: str
    deviations: tuple[str, ...] = ()


def source(
    name: str,
    model: str,
    data: str,
    train: TrainConfig,
    error: float | None,
    where: str,
    *deviations: str,
    loss: str = "cross-entropy",
    size: int | None = None,
    hold_out: bool = False,
) -> Source:
    """Put a source together; see `Source` and `Recipe`.

    Args:
        name: MODEL-DATA.
        model: A name as in ``models.build``.
        data: A name in ``data.DATASETS``.
        train: How the network is trained.
        error: Published top-1 test error in %.
        where: Where settings and error stand.
        deviations: What differs.
        loss: What is minimised.
        size: Side of the images, where the data set can give several.
        hold_out: Keep validation images out of training, where the source does.

    Returns:
        The source.
    """
    return Source(Recipe(name, data, model, train, size=size, hold_out=hold_out), error, loss, where, deviations)
