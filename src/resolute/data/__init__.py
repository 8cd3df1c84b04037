"""Labelled images by name or by path: the catalog of data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from resolute.data.augment import Augment, augment
from resolute.data.dataset import SPLITS, DataInfo, Images, batches, data_root
from resolute.data.folders import load_encoded, open_folder
from resolute.data.imagenet import AUGMENT, RADIUS, load_imagenet
from resolute.data.parquet import open_parquet, parquet_files
from resolute.data.published import PUBLISHED, loader
from resolute.errors import InputError, unknown

if TYPE_CHECKING:
    from collections.abc import Callable


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
    name_or_path: str | Path, root: str | Path | None = None, split: str = "train", size: int | None = None
) -> Images:
    """Load one split of a data set: into memory, or as a stream from the disk if it is ImageNet or above 4 GiB.

    Of the official training images, in file order, image i is for ``"validation"`` if ``i % 10 == 9`` and for
    ``"train"`` otherwise. What is official for each kind of set, and what is refused, is written in docs/data.md.

    Args:
        name_or_path: A name in ``DATASETS``, or the path of an image folder or of a folder of parquet files. A name
            wins over a folder of the same name; write ``./digits`` for the folder.
        root: Where downloaded sets lie, see :func:`data_root`. Not used for a path, nor for ``digits``.
        split: ``"train"``, ``"validation"``, ``"test"``, or ``"train+validation"``.
        size: For ``imagenet``, the side in pixels of what the network gets; None is 224. For folders and parquet, the
            side of the square that images are brought to: the shorter side is resized (antialiased bilinear) and the
            centre cut out. None keeps a size that all images share, and else chooses 32, 64, 128 or 224.

    Returns:
        The images.

    Raises:
        InputError: If the name, split or size is unknown, or the data cannot be had or read.

    Examples:
        >>> images = load("digits", split="validation")
        >>> len(images), images.info.shape, images.x.dtype
        (89, (1, 8, 8), torch.uint8)
    """
    name = str(name_or_path)
    _check(name, split, size)
    if name == "imagenet":
        return load_imagenet(data_root(root), split, size)
    if name in DATASETS:
        return DATASETS[name](data_root(root), split)
    path = Path(name).expanduser()
    encoded = open_parquet(path) if parquet_files(path) else open_folder(path)
    return load_encoded(encoded, name, split, size, data_root() / "decoded")


def _check(name: str, split: str, size: int | None) -> None:
    if split not in SPLITS:
        raise InputError(unknown("split", split, SPLITS))
    if size is not None and size < 1:
        raise InputError(f"size is {size}: it is a number of pixels, 1 or more")
    if name in DATASETS:
        if size is not None and name != "imagenet":
            raise InputError(f"size {size} came with {name!r}, whose images have one size: leave it out")
        return
    path = Path(name).expanduser()
    if path.is_file():
        raise InputError(f"{name} is a file: give the path of the folder that it is in")
    if not path.is_dir():
        raise InputError(f"{unknown('data set', name, DATASETS)} There is no folder {path} either")
