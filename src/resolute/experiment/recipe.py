"""A recipe: everything that a comparison of methods depends on, complete and in one place."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from resolute import methods
from resolute.data import DATASETS
from resolute.data.augment import Augment
from resolute.errors import InputError
from resolute.methods import Settings
from resolute.training.config import TrainConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which methods are compared on what, and how.

    Attributes:
        name: Short name, for folders and titles.
        data: A name in ``data.DATASETS``, or a path.
        data_dir: Folder that holds named data sets; None for the default.
        size: Side that the images of a folder are brought to; None for their own.
        model: A name as in ``models.build``.
        methods: The methods, the baseline among them.
        baseline: The method that the others are compared with.
        seeds: Seeds of the runs; methods with the same seed start from the same weights and see the same batches.
        settings: Strength of the methods.
        suites: What the trained networks are judged by.
        split: What the trained networks are judged on: ``"test"``, or ``"validation"`` to choose settings without
            looking at the test images.
        hold_out: Keep the validation images out of training and log their error after each epoch.
        train: How each network is trained.
        train_fraction: Share of each class of the training images that is trained on, above 0 and up to 1; which ones
            follows from the seed, for all methods alike. An epoch is a pass over them, so that there are fewer steps.
            Validation images, mean and deviation stay those of the whole set.
    """

    name: str
    data: str
    model: str
    train: TrainConfig
    data_dir: str | None = None
    size: int | None = None
    methods: tuple[str, ...] = ("base", "fgsm", "r")
    baseline: str = "base"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    settings: Settings = field(default_factory=Settings)
    suites: tuple[str, ...] = ("clean", "noise", "fgsm")
    split: Literal["test", "validation"] = "test"
    hold_out: bool = True
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        methods.find_all(self.methods)
        if len(set(self.methods)) < len(self.methods) or self.baseline not in self.methods:
            raise InputError(
                f"methods are {', '.join(self.methods)}; each must stand there once, and the baseline "
                f"({self.baseline}) among them."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seeds are {self.seeds}; there must be at least one, each once and 0 or more.")
        if self.split not in ("test", "validation"):
            raise InputError(f"split is {self.split!r}; it is 'test' or 'validation'.")
        if self.split == "validation" and not self.hold_out:
            raise InputError("networks that are judged on the validation images must not train on them: hold_out=True.")
        if not 0 < self.train_fraction <= 1:
            raise InputError(f"train_fraction is {self.train_fraction}; it must be above 0 and at most 1.")
        if not isinstance(self.settings.where, str):
            raise InputError("a recipe's where is text (input, hidden, both or a pattern), since it is kept as JSON.")

    @property
    def cells(self) -> list[tuple[str, int]]:
        """The runs as (method, seed), methods alternating, so that a slow hour slows all of them."""
        return [(method, seed) for seed in self.seeds for method in self.methods]

    def resolved(self, augment: Augment, radius: float) -> Recipe:
        """Fill in what follows the data set: the radius of FGSM training and the augmentation.

        Args:
            augment: What is customary for it.
            radius: What is customary for it, in pixel units.

        Returns:
            A recipe without those two None.
        """
        train = dataclasses.replace(self.train, augment=self.train.augment or augment)
        return dataclasses.replace(self, settings=self.settings.resolved(radius), train=train)


def to_json(recipe: Recipe) -> dict[str, Any]:
    """Turn a recipe into what JSON can hold.

    Args:
        recipe: The recipe.

    Returns:
        Nested dicts and lists; `from_json` gives the recipe back.
    """
    return dataclasses.asdict(recipe)


def identity(recipe: Recipe) -> dict[str, Any]:
    """Give everything that the figures of a recipe depend on, to tell whether a folder holds its run.

    Args:
        recipe: The recipe.

    Returns:
        Its fields as JSON has them, without where the data lies: a folder of images is known by its name alone.
    """
    stored: dict[str, Any] = json.loads(json.dumps(to_json(recipe)))
    del stored["data_dir"]
    return stored | {"data": set_name(recipe.data)}


def set_name(data: str) -> str:
    """Name a data set the same however the path of its folder is written.

    Args:
        data: A name in ``data.DATASETS``, or the path of a folder.

    Returns:
        The name, or that of the folder.
    """
    return data if data in DATASETS else Path(data).expanduser().resolve().name


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """Fill in what an earlier version could not store: fields that came later, at their defaults.

    Args:
        stored: A recipe as read from JSON, perhaps with other entries beside it.

    Returns:
        The same with the fields that it lacked, also of its settings, training and augmentation, as JSON has them.
    """
    whole = {f.name: f.default for f in dataclasses.fields(Recipe) if f.default is not dataclasses.MISSING} | stored
    for name, default in (("settings", Settings()), ("train", TrainConfig())):
        if isinstance(whole.get(name), dict):
            whole[name] = dataclasses.asdict(default) | whole[name]
    train = whole.get("train")
    if isinstance(train, dict) and isinstance(train["augment"], dict):
        whole["train"] = train | {"augment": dataclasses.asdict(Augment()) | train["augment"]}
    filled: dict[str, Any] = json.loads(json.dumps(whole))
    return filled


def from_json(stored: dict[str, Any]) -> Recipe:
    """Read a recipe as JSON holds it.

    Args:
        stored: As returned by `to_json`, lists in place of tuples allowed.

    Returns:
        The recipe.

    Raises:
        InputError: If a field is missing or unknown.
    """
    try:
        train = dict(stored["train"])
        augment = train.pop("augment")
        train["milestones"] = tuple(train["milestones"])
        tuples = {key: tuple(stored[key]) for key in ("methods", "seeds", "suites")}
        return Recipe(
            **{
                **stored,
                **tuples,
                "settings": Settings(**stored["settings"]),
                "train": TrainConfig(**train, augment=augment and Augment(**augment)),
            }
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"this is not a recipe of this version ({error}). Run again into an empty folder.") from error
