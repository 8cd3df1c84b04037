"""The small published sets: scikit-learn's digits, and those that torchvision downloads, verifies and reads.

Addresses, checksums and places are looked up in torchvision's classes when files are needed. Nothing gets its final
name before its MD5 checksum is the published one, and no archive, MATLAB file or pickle is opened before that was
checked. No checksum is published for unpacked idx files: they must be as long as their headers say.
"""

from __future__ import annotations

import gzip
import http.client
import math
import os
import shutil
import socket
import tempfile
import zipfile
import zlib
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import numpy as np
import torch

from resolute.config import Augment
from resolute.data.dataset import DataInfo, Images, last_of_each_class, of_training
from resolute.errors import InputError
from resolute.safe_io import read_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

TIMEOUT = 30
"""Seconds without an answer after which a source is given up."""
MOST = 2**31
"""Bytes of a published file; the largest, SVHN's extra images, has 1.3 billion."""
MOST_IDX = 128 * 2**20
"""Bytes of an unpacked idx file; the largest, EMNIST's training images, has 88 million."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published set.

    Attributes:
        about: What it is, in a line.
        info: Its description.
        read: ``(root, part) -> (x, y)``: reads ``"train"``, ``"test"`` or another part of the set, uint8 [n, C, H, W]
            and int64 [n], after a download if its files are not there.
        training: The parts that make up the official training images, in order.
        held_out: Images of each class that are for validation, the last ones of each part; None for the rule of
            :func:`~resolute.data.dataset.of_training`.
    """

    about: str
    info: DataInfo
    read: Callable[[Path, str], tuple[Tensor, Tensor]]
    training: tuple[str, ...] = ("train",)
    held_out: Mapping[str, int] | None = None


def loader(published: Published) -> Callable[[Path, str], Images]:
    """Make the function that loads a published set.

    Args:
        published: The set.

    Returns:
        ``(root, split) -> Images``, documented by the line that describes the set. It raises :class:`InputError` if
        files are missing and cannot be fetched, or cannot be read.
    """

    def load(root: Path, split: str) -> Images:
        try:
            x, y = _read_split(published, root, split)
        except OSError as error:
            raise InputError(f"{published.info.name} cannot be read from {root}: {error}") from error
        return Images(published.info, x, y, split)

    load.__doc__ = published.about
    return load


def _read_split(published: Published, root: Path, split: str) -> tuple[Tensor, Tensor]:
    if split == "test":
        return published.read(root, "test")
    parts = [published.read(root, part) for part in published.training]
    x = torch.cat([images for images, _ in parts]) if len(parts) > 1 else parts[0][0]
    y = torch.cat([labels for _, labels in parts])
    if split == "train+validation":
        return x, y
    index = of_training(y, split)
    if published.held_out is not None:
        last = [last_of_each_class(parts[k][1], published.held_out[p]) for k, p in enumerate(published.training)]
        index = torch.nonzero(torch.cat(last) == (split == "validation"))[:, 0]
    return x[index], y[index]


def read_digits(_root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read scikit-learn's digits: odd images are the test's. The pixels 0..16 become bytes, ``round(255 * v / 16)``."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    chosen = slice(1 if part == "test" else 0, None, 2)
    pixels = np.rint(x[chosen].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    return torch.from_numpy(pixels), torch.from_numpy(y[chosen].astype(np.int64))


def read_mnist(kind: str, root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read MNIST, or a set in its format, from four files ``root/KIND/raw/*-ubyte``, packed (``.gz``) or not."""
    theirs, raw = _torchvision(kind), root / kind / "raw"
    packed = [
        (name, md5, [f"{mirror}{name}" for mirror in theirs.mirrors])
        for name, md5 in theirs.resources
        if not (raw / name.removesuffix(".gz")).is_file()
    ]
    _obtain(kind, root, raw, packed, f"packed or not: {', '.join(name for name, _ in theirs.resources)}")
    return _read_idx(_pair(raw, "train" if part == "train" else "t10k"), classes=10)


def read_emnist(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read EMNIST's balanced split, upright, from ``root/EMNIST/raw/gzip.zip`` or its files, packed or not."""
    theirs, raw, start = _torchvision("EMNIST"), root / "EMNIST" / "raw", f"emnist-balanced-{part}"
    pair = _pair(raw, start)
    with tempfile.TemporaryDirectory() as scratch:
        if not all(file.is_file() for file in pair):
            wanted = f"gzip.zip, or from it {start}-images-idx3-ubyte and {start}-labels-idx1-ubyte"
            _obtain("EMNIST", root, raw, [("gzip.zip", theirs.md5, [theirs.url])], wanted)
            with zipfile.ZipFile(raw / "gzip.zip") as archive:
                archive.extractall(scratch, [name for name in archive.namelist() if f"/{start}-" in name])
            pair = _pair(Path(scratch, "gzip"), start)
        x, y = _read_idx(pair, classes=47)
    return x.transpose(2, 3).contiguous(), y


def read_svhn(root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read a part of SVHN's cropped digits from ``root/PART_32x32.mat``; the label 10 becomes 0."""
    theirs = _torchvision("SVHN")
    url, name, md5 = theirs.split_list[part]
    _obtain("SVHN", root, root, [(name, md5, [url])], name)
    found = theirs(root, part)
    return torch.from_numpy(np.ascontiguousarray(found.data)), torch.from_numpy(found.labels)


def read_cifar(kind: str, root: Path, part: str) -> tuple[Tensor, Tensor]:
    """Read CIFAR's pickled batches in a folder below ``root``, or in the archive that has it, unpacked once."""
    from torchvision.datasets.utils import extract_archive

    theirs = _torchvision(kind)
    archive, folder = root / theirs.filename, root / theirs.base_folder
    if not all((folder / name).is_file() for name, _ in theirs.train_list + theirs.test_list):
        wanted = f"{archive.name}, or the folder {folder.name} that it holds"
        _obtain(kind, root, root, [(archive.name, theirs.tgz_md5, [theirs.url])], wanted)
        with _alone(folder) as scratch:
            extract_archive(archive, scratch)
            folder.mkdir(exist_ok=True)
            for file in (scratch / folder.name).iterdir():
                file.replace(folder / file.name)
    for name, md5 in theirs.train_list if part == "train" else theirs.test_list:
        _verify(folder / name, md5)
    found = theirs(root, train=part == "train")
    return torch.from_numpy(found.data.transpose(0, 3, 1, 2)), torch.tensor(found.targets)


def _torchvision(name: str) -> Any:
    """Torchvision's class; it does not look again at what is verified here, nor at CIFAR's file of class names."""
    import torchvision.datasets

    kind = getattr(torchvision.datasets, name)
    return type(name, (kind,), {"_check_integrity": lambda _: True, "_load_meta": lambda _: None})


def _obtain(title: str, root: Path, folder: Path, files: Sequence[tuple[str, str, list[str]]], wanted: str) -> None:
    """Download the files (name, MD5 checksum, addresses) that are missing, and verify all of them."""
    mirror, within = os.environ.get("RESOLUTE_MIRROR"), folder.relative_to(root)
    missing = [file for file in files if not (folder / file[0]).is_file()]
    if missing and mirror and not mirror.startswith(("http://", "https://")):
        raise InputError(f"RESOLUTE_MIRROR is {mirror!r}: it is an address that begins with http:// or https://")
    try:
        for name, md5, sources in missing:
            first = [f"{mirror.rstrip('/')}/{(within / name).as_posix()}"] if mirror else []
            _download(folder / name, md5, first + sources)
    except OSError as error:
        raise InputError(
            f"{title} is not in {folder} and could not be fetched ({error}). Put there {wanted}. Or say where they "
            "are: --data-dir, or the variable RESOLUTE_DATA, names the data folder, "
            f"{'which they lie in' if folder == root else f'which holds {within.as_posix()}'}; "
            "RESOLUTE_MIRROR names the address of another source"
        ) from error
    for name, md5, _ in files:
        _verify(folder / name, md5)


def _download(target: Path, md5: str, sources: Sequence[str]) -> None:
    """Let torchvision download a file, and move it to its place if its checksum is right."""
    from torchvision.datasets.utils import download_url

    reasons, patience = [], socket.getdefaulttimeout()
    with _alone(target) as scratch:
        if target.is_file():  # by another process
            return
        for source in sources:
            try:
                socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none
                download_url(source, scratch, target.name, md5)
            except (OSError, RuntimeError, http.client.HTTPException) as error:
                reasons.append(f"{urlsplit(source).netloc}: {error}")
            else:
                (scratch / target.name).replace(target)
                return
            finally:
                socket.setdefaulttimeout(patience)
    raise OSError("; ".join(dict.fromkeys(reasons)))


@contextmanager
def _alone(target: Path) -> Iterator[Path]:
    """Give one process at a time an empty folder beside a target; neither it nor an empty parent stays."""
    from filelock import FileLock

    lock, scratch = (target.with_name(f".{target.name}.{suffix}") for suffix in ("lock", "part"))
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, fallback_to_soft=False):  # a soft one outlives a killed process
            shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
            scratch.mkdir()
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
                with suppress(OSError):  # whoever waits for it sees that it is gone, and makes another
                    lock.unlink()
    finally:
        with suppress(OSError):  # one that holds something stays, and so do those above it
            for folder in made:
                folder.rmdir()


def _verify(path: Path, md5: str) -> None:
    """Refuse a file that is not what was published."""
    from torchvision.datasets.utils import calculate_md5

    size = path.stat().st_size
    found = calculate_md5(path) if size <= MOST else f"that of {size:,} bytes"
    if found != md5:
        raise _refused(path, f"its MD5 checksum is {found}, published is {md5}")


def _refused(path: Path, reason: object) -> InputError:
    return InputError(
        f"{path} is damaged or another file: {reason}. Delete it and it is fetched anew, or put the right file in its "
        "place"
    )


def _pair(folder: Path, start: str) -> list[Path]:
    """The images and labels of a part, unpacked if they are there."""
    names = [f"{start}-{kind}-ubyte" for kind in ("images-idx3", "labels-idx1")]
    return [next((file for file in (folder / n, folder / f"{n}.gz") if file.is_file()), folder / n) for n in names]


def _read_idx(pair: Sequence[Path], classes: int) -> tuple[Tensor, Tensor]:
    """Let torchvision read a pair of MNIST's files, packed or not."""
    from torchvision.datasets.mnist import read_image_file, read_label_file

    with tempfile.TemporaryDirectory() as scratch:
        x = read_image_file(_whole_idx(pair[0], 3, scratch))
        y = read_label_file(_whole_idx(pair[1], 1, scratch))
    if x.shape != (len(y), 28, 28) or int(y.max()) >= classes:
        found = f"images {tuple(x.shape)}, labels {tuple(y.shape)} up to {int(y.max())}"
        raise _refused(pair[0], f"with {pair[1].name} it gives {found}")
    return x[:, None], y


def _whole_idx(path: Path, dimensions: int, scratch: str) -> str:
    """Unpack an idx file if it is packed, and refuse one that is not as long as its header says."""
    whole, begin = path, 4 + 4 * dimensions
    if path.suffix == ".gz":
        whole = Path(scratch, path.stem)
        try:
            with gzip.open(path) as packed:
                whole.write_bytes(read_stream(cast("IO[bytes]", packed), MOST_IDX, path.name))
        except (gzip.BadGzipFile, EOFError, ValueError, zlib.error) as error:
            raise _refused(path, error) from error
    with whole.open("rb") as file:
        header = file.read(begin)
    found = whole.stat().st_size - begin
    if found < 0 or header[:4] != bytes((0, 0, 8, dimensions)):  # 8 stands for unsigned bytes
        raise _refused(path, f"it does not begin as an idx file of bytes in {dimensions} dimensions does")
    wanted = math.prod(np.frombuffer(header, ">u4", offset=4).tolist())
    if not 0 < found == wanted <= MOST_IDX:
        raise _refused(path, f"it holds {found:,} bytes where its header announces {wanted:,}")
    return str(whole)


NUMERALS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100 = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum",
    "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf",
    "woman", "worm",
)  # fmt: skip
FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
BALANCED = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")


def _info(
    name: str, side: int, class_names: tuple[str, ...], mean: tuple[float, ...], std: tuple[float, ...], aug: Augment
) -> DataInfo:
    # Of colour the radii of Madry et al. (2018) and Wong et al. (2020). Of grey the largest is that of Madry et al.;
    # for training the smallest is taken: Resolute's own choice, weaker than the 0.25 of Goodfellow et al. (2015).
    radii, radius = ((0.1, 0.2, 0.3), 0.1) if len(mean) == 1 else ((2 / 255, 4 / 255, 8 / 255), 8 / 255)
    return DataInfo(name, len(class_names), (len(mean), side, side), mean, std, class_names, aug, radius, radii)


# Zagoruyko and Komodakis (2016): CIFAR; and SVHN's pixels go in as they are, in [0, 1], and are not augmented.
_WRN = Augment(shift=4, padding="reflect", flip=True)
_UNSCALED = ((0.0,) * 3, (1.0,) * 3)

PUBLISHED = {
    "digits": Published(
        "Scikit-learn's digits, bundled with it: 1,797 handwritten digits, 8x8 grey",
        # The 899 even images are the official training images. No augmentation: a small convolutional network in
        # five-fold cross-validation on them, two seeds, made 14 errors without and 19.5 with shifts of one pixel.
        _info("digits", 8, NUMERALS, (0.3057,), (0.3760,), Augment()),
        read_digits,
    ),
    "mnist": Published(
        "MNIST: 70,000 handwritten digits, 28x28 grey",
        _info("mnist", 28, NUMERALS, (0.1307,), (0.3081,), Augment(shift=2)),  # Sabour et al. (2017, CapsNet)
        partial(read_mnist, "MNIST"),
    ),
    "fashion-mnist": Published(
        "Fashion-MNIST: 70,000 articles of clothing, 28x28 grey",
        _info("fashion-mnist", 28, FASHION, (0.2860,), (0.3530,), Augment(shift=4, flip=True)),  # Zhong et al. (2020)
        partial(read_mnist, "FashionMNIST"),
    ),
    "kmnist": Published(
        "Kuzushiji-MNIST: 70,000 cursive Japanese characters, 28x28 grey",
        _info("kmnist", 28, KUZUSHIJI, (0.1918,), (0.3483,), Augment(shift=2)),
        partial(read_mnist, "KMNIST"),
    ),
    "emnist": Published(
        "EMNIST (balanced): 131,600 handwritten digits and letters, 47 classes, 28x28 grey",
        _info("emnist", 28, BALANCED, (0.1751,), (0.3332,), Augment(shift=2)),
        read_emnist,
    ),
    "svhn": Published(
        "SVHN with its extra images: 630,420 house numbers' digits, 32x32 colour",
        _info("svhn", 32, NUMERALS, *_UNSCALED, Augment()),
        read_svhn,
        training=("train", "extra"),
        held_out={"train": 400, "extra": 200},  # Sermanet et al. (2012); Huang et al. (2016) hold out as many
    ),
    "svhn-core": Published(
        "SVHN without its extra images: 99,289 house numbers' digits, 32x32 colour",
        _info("svhn-core", 32, NUMERALS, *_UNSCALED, Augment()),
        read_svhn,
        held_out={"train": 400},
    ),
    "cifar10": Published(
        "CIFAR-10: 60,000 photographs of 10 kinds of things, 32x32 colour",
        # mean and std: (125.3, 123.0, 113.9) / 255 and (63.0, 62.1, 66.7) / 255 of Zagoruyko and Komodakis (2016)
        _info("cifar10", 32, CIFAR10, (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616), _WRN),
        partial(read_cifar, "CIFAR10"),
    ),
    "cifar100": Published(
        "CIFAR-100: 60,000 photographs of 100 kinds of things, 32x32 colour",
        _info("cifar100", 32, CIFAR100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), _WRN),
        partial(read_cifar, "CIFAR100"),
    ),
}
"""Published sets by name. Mean and std of the grey ones are those of their training images, as customary."""
