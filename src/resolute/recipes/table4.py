"""Table 4: MNIST and SVHN."""

from __future__ import annotations

from dataclasses import replace

from resolute.data import Augment
from resolute.methods import Settings
from resolute.recipes.row import rows_of
from resolute.recipes.sources import SOURCES
from resolute.training import TrainConfig

_LENET = replace(
    SOURCES["lenet-mnist"],
    recipe=replace(
        SOURCES["lenet-mnist"].recipe,
        settings=Settings(eps=0.1, where="input"),
        train=TrainConfig(
            epochs=20,
            batch_size=128,
            lr=0.02,
            warmup_epochs=1,
            augment=Augment(shift=2, rotation=10),
            channels_last=True,
        ),
    ),
    deviations=(
        "The printed 0.50 is in no source that was found (LeCun et al. 1998: 0.95, with distortions 0.8): all of the "
        "training was chosen here, the learning rate and R's eps and place on 6,000 validation images: at 0.04 some "
        "networks diverge.",
        "LeNet in Caffe's form (20-50-500, ReLU) with dropout 0.5, which the table ticks; that of 1998 has neither.",
        "Shifts of up to 2 pixels, as at the source of the same table's CapsNet, and turns of up to 10 degrees; the "
        "table ticks no augmentation.",
    ),
)

TRAINED = (
    *rows_of(4, "lenet", _LENET),
    *rows_of(
        4,
        "capsnet",
        SOURCES["capsnet-mnist"],
        "Shifts of up to 2 pixels and no dropout, as at the source; the table ticks dropout and no augmentation.",
        "Without reconstruction, as the printed 0.35; with it the source has 0.25, less than the printed R-CapsNet.",
    ),
    *rows_of(
        4,
        "sresnet",
        SOURCES["resnet110-sd-svhn"],
        "Neither dropout nor augmentation, as at the source; the table ticks both.",
    ),
    *rows_of(4, "wrn168", SOURCES["wrn-16-8-svhn"]),
)
"""Recipes by row."""
