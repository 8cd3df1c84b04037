"""How each network of the paper's tables was trained at its own source, and in what our recipe differs from that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resolute.recipes.imagenet import IMAGENET
from resolute.recipes.small_images import SMALL_IMAGES

if TYPE_CHECKING:
    from resolute.recipes.source import Source

SOURCES: dict[str, Source] = {source.recipe.name: source for source in (*SMALL_IMAGES, *IMAGENET)}
"""Sources by the name of their recipe, MODEL-DATA."""
