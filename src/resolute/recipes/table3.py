"""Table 3: compact networks on ImageNet."""

from __future__ import annotations

from resolute.models import ABSENT
from resolute.recipes.row import Weights, rows_of
from resolute.recipes.sources import SOURCES

_TOP_5 = "Top-5 is not measured: an evaluation counts top-1."

TRAINED = (
    *rows_of(3, "condensenet8", SOURCES["condensenet-g8-imagenet"], _TOP_5),
    *rows_of(3, "condensenet4", SOURCES["condensenet-g4-imagenet"], _TOP_5),
)
"""Recipes by row."""
QUOTED = {
    "3-inception-v1": "the paper has no FGSM- or R- row of it",
    "3-mobilenet": "the paper has no FGSM- or R- row of it",
    "3-shufflenet": "the paper has no FGSM- or R- row of it, and no library has weights (torchvision's are of V2)",
    "3-nasnet-b": f"not built: {ABSENT['nasnet-b']}",
    "3-nasnet-c": f"not built: {ABSENT['nasnet-c']}",
}
"""Rows that are not trained, and why."""
WEIGHTS = {
    "3-inception-v1": Weights("inception-v1", 224, ("torchvision's weights: BN, and 3x3 where the source has 5x5.",)),
    "3-mobilenet": Weights(
        "mobilenet-v1", 224, ("timm's weights come from a longer training of its own, not from the source's.",)
    ),
}
"""Published weights by base row."""
