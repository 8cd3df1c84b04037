"""Data sets by name, ImageNet among them, and folders by path."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, get_args

from resolute.config import Augment, Interpolation
from resolute.data.augment import augment
from resolute.data.dataset import SPLITS, DataInfo, Images, batches, data_root
from resolute.data.folders import check_classes, first_names, is_utf8, load_encoded, open_folder, stream
from resolute.data.parquet import open_parquet, parquet_files
from resolute.data.published import PUBLISHED, loader
from resolute.errors import InputError, located, unknown, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.data.folders import Encoded


SIDE = 224

CENTRE = 0.875
"""Side of the centre that is tested over the shorter side that the image is resized to: 224 of 256."""

_CLASSES = 1000

AUGMENT = Augment(flip=True, crop=0.08)
"""torchvision's."""

RADIUS = 4 / 255
"""Wong et al. (2020)."""


def load_imagenet(root: Path, split: str, size: int | None = None) -> Images:
    """Load ImageNet-1k: 1,281,167 photographs to train on, 50,000 to test on, streamed from the disk."""
    # For training, a photograph is cropped at random as it is decoded (``Augment.crop``); otherwise its shorter side is
    # resized to ``size / 0.875`` (256 for 224) and the centre cut out.
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
    _check_imagenet(encoded)
    return stream(encoded, _info(encoded, size or SIDE), split, round((size or SIDE) / CENTRE))


def _is_there(path: Path) -> bool:
    return (path / "train").is_dir() or any("train" in file.name for file in parquet_files(path))


def _info(encoded: Encoded, side: int) -> DataInfo:
    """Describe the set: the radii are those of Wong et al. (2020), the moments and crops those of torchvision."""
    return DataInfo(
        name="imagenet",
        classes=_CLASSES,
        shape=(3, side, side),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        class_names=encoded.class_names,
        augment=AUGMENT,
        radius=RADIUS,
        radii=(2 / 255, 4 / 255, 8 / 255),
    )


def _check_imagenet(encoded: Encoded) -> None:
    if len(encoded.counts) < 2:
        raise InputError(f"{encoded.place} has {next(iter(encoded.counts))} alone: put val beside train")
    found = len(encoded.class_names)
    if found != _CLASSES:
        raise InputError(f"{encoded.place} has {found:,} classes, and ImageNet-1k has 1,000{_which(encoded)}")
    check_classes(encoded)


def _which(encoded: Encoded) -> str:
    wanted = (resources.files("timm.data._info") / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    missing = sorted(set(wanted) - set(encoded.class_names))
    foreign = sorted(set(encoded.class_names) - set(wanted))
    if len(missing) == _CLASSES:
        return ". Wanted are its 1,000 synsets, n01440764 and so on"
    parts = [f"{verb} {first_names(names)}" for verb, names in (("missing:", missing), ("foreign:", foreign)) if names]
    return f"; {'; '.join(parts)}"


__all__ = ["DATASETS", "SPLITS", "Augment", "DataInfo", "Images", "augment", "batches", "data_root", "load"]

DATASETS: dict[str, Callable[[Path, str], Images]] = {
    **{name: loader(published) for name, published in PUBLISHED.items()},
    "imagenet": load_imagenet,
}
"""Loaders by name: ``(root, split) -> Images``."""


def customs(name: str) -> tuple[Augment, float]:
    """Tell what is customary for a named data set, without loading it: the same as in its images' description."""
    if name not in DATASETS:
        raise InputError(unknown("data set", name, DATASETS))
    if name == "imagenet":
        return AUGMENT, RADIUS
    info = PUBLISHED[name].info
    return info.augment, info.radius


def load(
    name_or_path: str | Path,
    root: str | Path | None = None,
    split: str = "train",
    size: int | None = None,
    interpolation: Interpolation = "bilinear",
) -> Images:
    """Load one split of a data set: into memory, or as a stream from the disk if it is ImageNet or above 4 GiB.

    Every tenth of the official training images is for ``"validation"``, the rest for ``"train"``. What is official for
    each kind of set, and what is refused, is written in docs/data.md.

    Args:
        name_or_path: A name in ``DATASETS``, or the path of an image folder or of a folder of parquet files. A name
            wins over a folder of the same name; write ``./digits`` for the folder.
        root: Where downloaded sets lie, see :func:`data_root`. Not used for a path, nor for ``digits``.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``"train+validation"``.
        size: For ``imagenet``, the side in pixels of what the network gets; None is 224. For folders and parquet, the
            side of the square that images are brought to: the shorter side is resized (antialiased) and the centre
            cut out. None keeps a size that all images share, and else chooses 32, 64, 128 or 224.

        interpolation: For folders and parquet, how they are resized: ``"bilinear"`` or ``"bicubic"``.

    Returns:
        The images.

    Raises:
        InputError: If the name, split, size or interpolation is unknown, or the data cannot be had or read.

    Examples:
        >>> images = load("digits", split="validation")
        >>> len(images), images.info.shape, images.x.dtype
        (89, (1, 8, 8), torch.uint8)
    """
    name = str(name_or_path)
    if not is_utf8(name):
        raise InputError(f"the path {visible(name)} is no UTF-8, in which reports are written: rename the folder")
    _check(name, split, size, interpolation)
    if name == "imagenet":
        return load_imagenet(data_root(root), split, size)
    if name in DATASETS:
        return DATASETS[name](data_root(root), split)
    path = located(name)
    encoded = open_parquet(path) if parquet_files(path) else open_folder(path)
    return load_encoded(encoded, name, split, size, data_root() / "decoded", interpolation)


def _check(name: str, split: str, size: int | None, interpolation: str) -> None:
    if split not in SPLITS:
        raise InputError(unknown("split", split, SPLITS))
    if size is not None and size < 1:
        raise InputError(f"size is {size}: it is a number of pixels, 1 or more")
    if interpolation not in get_args(Interpolation):
        raise InputError(unknown("interpolation", interpolation, get_args(Interpolation)))
    if name in DATASETS:
        if interpolation != "bilinear":
            raise InputError(f"interpolation {interpolation} came with {name!r}, which is no folder: leave it out")
        if size is not None and name != "imagenet":
            raise InputError(f"size {size} came with {name!r}, whose images have one size: leave it out")
        return
    path = located(name)
    if path.is_file():
        raise InputError(f"{name} is a file: give the path of the folder that it is in")
    if "/" in name and not path.exists():
        raise InputError(f"there is no folder {path}. Give one that is there, or one of {', '.join(sorted(DATASETS))}")
    if not path.is_dir():
        raise InputError(f"{unknown('data set', name, DATASETS)} There is no folder {path} either")
