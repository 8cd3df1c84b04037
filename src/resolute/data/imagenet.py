"""ImageNet-1k, streamed from a folder of synsets or from parquet files; no developer's kit is needed."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from resolute.data.augment import Augment
from resolute.data.dataset import DataInfo
from resolute.data.folders import check_classes, listed, open_folder, stream
from resolute.data.parquet import open_parquet, parquet_files
from resolute.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.data.dataset import Images
    from resolute.data.folders import Encoded

SIDE = 224
CENTRE = 0.875
"""Side of the centre that is tested over the shorter side that the image is resized to: 224 of 256."""
CLASSES = 1000
AUGMENT = Augment(flip=True, crop=0.08)
"""torchvision's."""
RADIUS = 4 / 255
"""Wong et al. (2020)."""


def load_imagenet(root: Path, split: str, size: int | None = None) -> Images:
    """Load ImageNet-1k: 1,281,167 photographs to train on, 50,000 to test on, streamed from the disk.

    For training, a photograph is cropped at random as it is decoded (``Augment.crop``); otherwise its shorter side is
    resized to ``size / 0.875`` (256 for 224) and the centre cut out.

    Args:
        root: The data folder, which holds ``imagenet`` (or itself is it): ``train`` and ``val``, each with a folder
            ``n01440764`` and so on for each of the 1,000 classes; or ``train-*.parquet`` and ``validation-*.parquet``,
            perhaps below ``data``.
        split: One of ``SPLITS``. The official validation images are the test set.
        size: Side of the square that the network gets. 224, if None.

    Returns:
        The images, as a stream.

    Raises:
        InputError: If the set is not there, or is not ImageNet-1k as a whole.
    """
    path = next((folder for folder in (root / "imagenet", root) if _is_there(folder)), None)
    if path is None:
        raise InputError(
            f"ImageNet is not in {root / 'imagenet'}, and it can be had from image-net.org only by those who agree to "
            "its terms. Put there train/n01440764/*.JPEG and so on for 1,000 classes, and val/ with the same 1,000 "
            "folders; or Hugging Face's train-*.parquet and validation-*.parquet. Or say where they are: --data-dir, "
            "or the variable RESOLUTE_DATA, names the folder that holds imagenet"
        )
    # The test part of the parquet files has no labels, and that of a folder no classes.
    opened = open_parquet if parquet_files(path) else open_folder
    encoded = opened(path, ("train", "validation"))
    _check(encoded)
    return stream(encoded, _info(encoded, size or SIDE), split, round((size or SIDE) / CENTRE))


def _is_there(path: Path) -> bool:
    return (path / "train").is_dir() or any("train" in file.name for file in parquet_files(path))


def _info(encoded: Encoded, side: int) -> DataInfo:
    """Describe the set: the radii are those of Wong et al. (2020), the moments and crops those of torchvision."""
    return DataInfo(
        name="imagenet",
        classes=CLASSES,
        shape=(3, side, side),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        class_names=encoded.class_names,
        augment=AUGMENT,
        radius=RADIUS,
        radii=(2 / 255, 4 / 255, 8 / 255),
    )


def _check(encoded: Encoded) -> None:
    if len(encoded.counts) < 2:
        raise InputError(f"{encoded.place} has {next(iter(encoded.counts))} alone: put val beside train")
    found = len(encoded.class_names)
    if found != CLASSES:
        raise InputError(f"{encoded.place} has {found:,} classes, and ImageNet-1k has 1,000{_which(encoded)}")
    check_classes(encoded)


def _which(encoded: Encoded) -> str:
    wanted = (resources.files("timm.data._info") / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    missing = sorted(set(wanted) - set(encoded.class_names))
    foreign = sorted(set(encoded.class_names) - set(wanted))
    if len(missing) == CLASSES:
        return ". Wanted are its 1,000 synsets, n01440764 and so on"
    parts = [f"{verb} {listed(names)}" for verb, names in (("missing:", missing), ("foreign:", foreign)) if names]
    return f"; {'; '.join(parts)}"
