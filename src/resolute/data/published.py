"""The published sets of small images that are fetched: one table of what each is, one way to load any of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from resolute.data.augment import Augment
from resolute.data.dataset import DataInfo, Images, last_of_each_class, of_training
from resolute.data.hosts import CIFAR, EMNIST, IDX, SVHN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from resolute.data.hosts import Host


@dataclass(frozen=True, slots=True)
class Published:
    """A published set.

    Attributes:
        about: What it is, in a line.
        info: Its description.
        host: How its files are had and read.
        training: The parts that make up the official training images, in order.
        held_out: Images of each class that are for validation, the last ones of each part; None for the rule of
            :func:`~resolute.data.dataset.of_training`.
    """

    about: str
    info: DataInfo
    host: Host
    training: tuple[str, ...] = ("train",)
    held_out: Mapping[str, int] | None = None


def loader(published: Published) -> Callable[[Path, str], Images]:
    """Make the function that loads a published set."""

    def load(root: Path, split: str) -> Images:
        return load_published(published, root, split)

    load.__doc__ = published.about
    return load


def load_published(published: Published, root: Path, split: str) -> Images:
    """Load a split of a published set, after a download if its files are not there."""
    if split == "test":
        return Images(published.info, *published.host.read(root, "test"), split)
    parts = [published.host.read(root, part) for part in published.training]
    y = torch.cat([labels for _, labels in parts])
    if published.held_out is None or split == "train+validation":
        index = of_training(torch.arange(len(y)), split)
    else:
        held_out = torch.cat(
            [
                last_of_each_class(labels, published.held_out[part])
                for part, (_, labels) in zip(published.training, parts, strict=True)
            ]
        )
        index = (held_out if split == "validation" else ~held_out).nonzero().squeeze(1)
    x = torch.cat([images for images, _ in parts]) if len(parts) > 1 else parts[0][0]
    return Images(published.info, x if split == "train+validation" else x[index], y[index], split)


DIGITS = tuple("0123456789")
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
FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
KUZUSHIJI = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
BALANCED = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt")


def _grey(name: str, mean: float, std: float, class_names: tuple[str, ...], augment: Augment) -> DataInfo:
    # The largest radius is that of Madry et al. (2018). For training the smallest is taken: Resolute's own choice,
    # weaker than the 0.25 of Goodfellow et al. (2015).
    radii = (0.1, 0.2, 0.3)
    return DataInfo(name, len(class_names), (1, 28, 28), (mean,), (std,), class_names, augment, 0.1, radii)


def _colour(
    name: str, mean: tuple[float, ...], std: tuple[float, ...], class_names: tuple[str, ...], augment: Augment
) -> DataInfo:
    # The radii are those of Madry et al. (2018) and Wong et al. (2020).
    radii = (2 / 255, 4 / 255, 8 / 255)
    return DataInfo(name, len(class_names), (3, 32, 32), mean, std, class_names, augment, 8 / 255, radii)


_WRN = Augment(shift=4, padding="reflect", flip=True)
"""Zagoruyko and Komodakis (2016), CIFAR."""
_UNSCALED = ((0.0,) * 3, (1.0,) * 3)
"""SVHN's pixels go in as they are, in [0, 1], and are not augmented: Zagoruyko and Komodakis (2016)."""

PUBLISHED = {
    "mnist": Published(
        "MNIST: 70,000 handwritten digits, 28x28 grey",
        _grey("mnist", 0.1307, 0.3081, DIGITS, Augment(shift=2)),  # the shift: Sabour et al. (2017, CapsNet)
        IDX("MNIST", "MNIST"),
    ),
    "fashion-mnist": Published(
        "Fashion-MNIST: 70,000 articles of clothing, 28x28 grey",
        _grey("fashion-mnist", 0.2860, 0.3530, FASHION, Augment(shift=4, flip=True)),  # Zhong et al. (2020)
        IDX("FashionMNIST", "Fashion-MNIST"),
    ),
    "kmnist": Published(
        "Kuzushiji-MNIST: 70,000 cursive Japanese characters, 28x28 grey",
        _grey("kmnist", 0.1918, 0.3483, KUZUSHIJI, Augment(shift=2)),
        IDX("KMNIST", "Kuzushiji-MNIST"),
    ),
    "emnist": Published(
        "EMNIST (balanced): 131,600 handwritten digits and letters, 47 classes, 28x28 grey",
        _grey("emnist", 0.1751, 0.3332, BALANCED, Augment(shift=2)),
        EMNIST(),
    ),
    "svhn": Published(
        "SVHN with its extra images: 630,420 house numbers' digits, 32x32 colour",
        _colour("svhn", *_UNSCALED, DIGITS, Augment()),
        SVHN(),
        training=("train", "extra"),
        held_out={"train": 400, "extra": 200},  # Sermanet et al. (2012); Huang et al. (2016) hold out as many
    ),
    "svhn-core": Published(
        "SVHN without its extra images: 99,289 house numbers' digits, 32x32 colour",
        _colour("svhn-core", *_UNSCALED, DIGITS, Augment()),
        SVHN(),
        held_out={"train": 400},
    ),
    "cifar10": Published(
        "CIFAR-10: 60,000 photographs of 10 kinds of things, 32x32 colour",
        # mean and std: (125.3, 123.0, 113.9) / 255 and (63.0, 62.1, 66.7) / 255 of Zagoruyko and Komodakis (2016)
        _colour("cifar10", (0.4914, 0.4824, 0.4467), (0.2471, 0.2435, 0.2616), CIFAR10, _WRN),
        CIFAR("CIFAR10", "CIFAR-10", "labels"),
    ),
    "cifar100": Published(
        "CIFAR-100: 60,000 photographs of 100 kinds of things, 32x32 colour",
        _colour("cifar100", (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), CIFAR100, _WRN),
        CIFAR("CIFAR100", "CIFAR-100", "fine_labels"),
    ),
}
"""Published sets by name. Mean and std of the grey ones are those of their training images, as customary."""
