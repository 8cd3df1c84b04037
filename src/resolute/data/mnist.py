"""MNIST in torchvision's place and format, fetched into it whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch

from resolute.data.augmentation import Augment
from resolute.data.info import DataInfo, Images
from resolute.data.splits import of_training
from resolute.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

INFO = DataInfo(
    name="mnist",
    classes=10,
    shape=(1, 28, 28),
    mean=(0.1307,),
    std=(0.3081,),
    class_names=tuple("0123456789"),
    augment=Augment(shift=2),
    radius=0.1,
    radii=(0.1, 0.2, 0.3),
)
"""Mean and std of the 60,000 training images. The shift is that of Sabour et al. (2017, CapsNet). The largest
radius is that of Madry et al. (2018); for training the smallest is taken, Resolute's own choice, weaker than the 0.25
of Goodfellow et al. (2015)."""


def load_mnist(root: Path, split: str) -> Images:
    """Load MNIST from ``root/MNIST/raw``, after a download if it is not there.

    Args:
        root: The folder that ``torchvision.datasets.MNIST`` would be given.
        split: One of ``SPLITS``. The 10,000 are the test set; the 60,000 are the official training images.

    Returns:
        The images, [n, 1, 28, 28].

    Raises:
        InputError: If the files are missing and cannot be fetched, or cannot be read.
    """
    from torchvision.datasets import MNIST

    raw = root / "MNIST" / "raw"
    if not all((raw / file).is_file() for file in FILES):
        _fetch(root, raw)
    try:
        data = MNIST(root, train=split != "test")
    except (OSError, RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        _refuse_damaged(raw, str(error) or type(error).__name__)
    x, y = data.data, data.targets
    if x.shape[1:] != (28, 28) or len(x) != len(y) or int(y.max()) > 9:
        _refuse_damaged(raw, f"images {tuple(x.shape)}, labels {tuple(y.shape)} up to {int(y.max())}")
    index: Tensor = torch.arange(len(y)) if split == "test" else of_training(torch.arange(len(y)), split)
    return Images(INFO, x[index][:, None], y[index].long(), split)


def _fetch(root: Path, raw: Path) -> None:
    """Download into a folder beside the real one, then move whole files: a failed try leaves nothing to trip over."""
    from torchvision.datasets import MNIST

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mnist-", dir=root) as scratch:
            fresh = Path(scratch) / "MNIST" / "raw"
            fresh.mkdir(parents=True)
            for packed in raw.glob("*.gz"):
                shutil.copy(packed, fresh)
            MNIST(scratch, download=True)
            raw.mkdir(parents=True, exist_ok=True)
            for file in FILES:
                (fresh / file).replace(raw / file)
    except (OSError, RuntimeError, EOFError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise InputError(
            f"MNIST is not in {raw} and could not be fetched ({reason}). Put these four files there, packed (.gz) or "
            f"unpacked: {', '.join(FILES)}. Or say where they are: --data-dir, or the variable RESOLUTE_DATA, names "
            "the folder that holds MNIST/raw"
        ) from error


def _refuse_damaged(raw: Path, reason: str) -> NoReturn:
    raise InputError(
        f"the MNIST files in {raw} cannot be read ({reason}): delete the files {', '.join(FILES)} there, "
        "and they are fetched anew"
    )
