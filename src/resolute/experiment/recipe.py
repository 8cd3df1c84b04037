"""A recipe: everything that a comparison of methods depends on; recipes by name; the settings of a search."""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from resolute.config import (
    FORMS,
    Augment,
    EpsScheduleKind,
    Grain,
    Interpolation,
    Settings,
    Spread,
    TrainConfig,
    check_fields,
)
from resolute.errors import InputError, check_strength, located, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which methods are compared on what, and how.

    Attributes:
        name: Short name, for folders and titles.
        data: A data set of `resolute list data`, or a folder of images or parquet files.
        data_dir: Folder that holds named data sets. None is the default.
        size: Side in pixels to which the images of a folder are resized. None is the side that a pretrained network's
            weights are for, and else keeps a size that all images share.
        interpolation: How they are resized. None is bilinear, or a pretrained network's own.
        model: A network of `resolute list models`: lenet, wrn-D-K, timm/NAME, torchvision/NAME, hf-hub:USER/NAME.
        pretrained: Start from the network's published weights, fetched once, with a new last layer for the data's
            classes. Mean and deviation are the network's own. All methods and seeds start from the same weights; the
            last layer follows from the seed, but where the weights are of as many classes as the data.
        weights: A file of the network's own weights to start from in their place: .safetensors, or .pth of tensors. It
            is known by its SHA-256, wherever it lies.
        methods: The methods, separated by commas: base,r,r+fgsm,r@eps=0.3@where=both. The baseline is one of them.
        baseline: The method that the others are compared with.
        seeds: How many paired seeds, or from which to which: 5 or 100-119. Methods with the same seed start from the
            same weights and see the same batches.
        settings: Strength of the methods.
        suites: Suites of `resolute list suites` that the networks are evaluated on, separated by commas.
        split: Evaluate on the test images, or on the validation images to choose settings.
        hold_out: Keep the validation images out of training. Their error is logged after each epoch.
        train: How each network is trained.
        train_fraction: Share of each class of the training images to train on, above 0 and at most 1. Which ones
            follows from the seed, for all methods alike. An epoch is a pass over them, so that there are fewer steps.
            Validation images, mean and deviation stay those of the whole set.
    """

    name: str
    data: str
    model: str
    train: TrainConfig
    data_dir: str | None = None
    size: int | None = None
    interpolation: Interpolation | None = None
    pretrained: bool = False
    weights: str | None = None
    methods: tuple[str, ...] = ("base", "fgsm", "r")
    baseline: str = "base"
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    settings: Settings = field(default_factory=Settings)
    suites: tuple[str, ...] = ("clean", "noise", "fgsm")
    split: Literal["test", "validation"] = "test"
    hold_out: bool = True
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        from resolute.methods import canonical, meaning

        check_fields(self)
        given = self.methods
        object.__setattr__(self, "methods", tuple(canonical(name) for name in given))
        object.__setattr__(self, "baseline", canonical(self.baseline))
        if len(set(self.methods)) < len(self.methods) or self.baseline not in self.methods:
            raise InputError(
                f"methods are {', '.join(given)}; each must stand there once, and the baseline "
                f"({self.baseline}) among them."
            )
        same: dict[tuple[object, ...], str] = {}
        for name in self.methods:
            if (first := same.setdefault(meaning(name, self.settings), name)) != name:
                raise InputError(f"methods {first} and {name} are one and the same with these settings: name it once.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds are {self.seeds}; there must be at least one, each once.")
        if self.split == "validation" and not self.hold_out:
            raise InputError("networks evaluated on the validation images must not be trained on them: hold_out=True.")
        if self.weights is not None or self.model.startswith("hf-hub:"):
            object.__setattr__(self, "pretrained", True)
        if not self.pretrained and (self.train.freeze != "none" or self.train.backbone_lr_scale != 1):
            raise InputError(
                f"freeze is {self.train.freeze!r} and backbone_lr_scale {self.train.backbone_lr_scale:g}, and nothing "
                "is pretrained: give weights (--weights FILE) or --pretrained, or leave them out."
            )
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
            A recipe without those two None, nor the ratio where eps is auto.
        """
        from resolute.noise.strength import RATIO

        train = replace(self.train, augment=self.train.augment or augment)
        settings = self.settings.resolved(radius)
        if settings.eps == "auto" and settings.ratio is None:
            settings = replace(settings, ratio=RATIO)
        return replace(self, settings=settings, train=train)


_Config = TypeVar("_Config", bound=Recipe | Settings | TrainConfig | Augment)


def changed(config: _Config, given: Mapping[str, Any]) -> _Config:
    """Change settings by the names of their fields, in a recipe and in what it holds; other names are passed over."""
    changes = {each.name: given[each.name] for each in dataclasses.fields(config) if each.name in given}
    if changes.get("eps", "auto") != "auto":  # then the recipe's own ratio is none
        changes = {"ratio": None} | changes
    for each in dataclasses.fields(config):
        held = getattr(config, each.name)
        if each.name == "augment" and any(part.name in given for part in dataclasses.fields(Augment)):
            held = held or Augment()
        if isinstance(held, (Settings, TrainConfig, Augment)):
            changes[each.name] = changed(held, given)
    return replace(config, **changes)


TUNABLE = ("r", "gaussian", "additive", "dropout")
"""Methods that have an eps and a site; only ``r`` has a p."""


@dataclass(frozen=True, slots=True)
class TuneConfig:
    """What `tune` tries, on validation images only.

    Attributes:
        recipe: Data, network, training, suites and seeds; its split becomes ``"validation"``.
        method: The method to tune: r, gaussian, additive or dropout.
        ratio: Noise-to-signal ratios to try first at each site, separated by commas: 0.5,1.0. Each network has the eps
            that `calibrate` finds for it. The ends of the curve are among them.
        eps: Fixed strengths to try in place of ratios, separated by commas: 0.1,0.3.
        where: Sites to try, separated by commas: input,hidden,both.
        grain: What one sign of R is for, to try, separated by commas: element,channel,sample.
        spread: Strengths of the samples of R to try, separated by commas: fixed,random.
        share: Shares of the samples that get R's noise to try, separated by commas: 0.5,1.
        eps_schedule: Schedules of eps to try, separated by commas: constant,off,early.
        trials: Largest number of settings to try.
        margin: Gain in percentage points that is too small to matter; by default half of the baseline's error, at most
            0.5.
        timeout: Seconds after which no further setting is tried. None is no limit.
        jobs: Processes on this machine that share the networks of a setting.
    """

    recipe: Recipe
    method: str = "r"
    ratio: tuple[float, ...] = (0.5, 1.0, 0.25, 2.0, 0.1)
    eps: tuple[float, ...] = ()
    where: tuple[str, ...] = ("hidden", "input", "both")
    grain: tuple[Grain, ...] = ("element",)
    spread: tuple[Spread, ...] = ("fixed",)
    share: tuple[float, ...] = (1.0,)
    eps_schedule: tuple[EpsScheduleKind, ...] = ("constant",)
    trials: int = 20
    margin: float | None = None
    timeout: float | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.method not in TUNABLE:
            raise InputError(f"{unknown('method', self.method, TUNABLE)} Those have an eps and a site to be tuned.")
        check_fields(self)
        for eps in self.eps:
            check_strength(eps)
        for name in (self.varied, "where", *FORMS):
            if not getattr(self, name):
                raise InputError(f"{name} is empty; there must be at least one to try.")
        if self.method != "r" and (own := self.forms.keys() - {"eps_schedule"}):
            raise InputError(f"only r has a {' and a '.join(sorted(own))}; {self.method} has none. Leave it out.")

    @property
    def forms(self) -> dict[str, list[Any]]:
        """What is tried beside the paper's constant noise, if anything."""
        tried = {name: [*getattr(self, name)] for name in FORMS}
        return {name: values for name, values in tried.items() if values != [getattr(Settings(), name)]}

    @property
    def varied(self) -> Literal["ratio", "eps"]:
        """What the search goes over."""
        return "eps" if self.eps else "ratio"

    @property
    def strengths(self) -> tuple[float, ...]:
        """Those to try first."""
        return self.eps or self.ratio

    @property
    def held_out(self) -> Recipe:
        """The recipe as tuning runs it: evaluated on the validation images, which are kept out of training."""
        methods = (self.recipe.baseline, self.method)
        return replace(self.recipe, methods=methods, split="validation", hold_out=True)

    @property
    def grid(self) -> list[Settings]:
        """The settings that are tried first: at each ratio (or eps) all sites, and there all forms."""
        forms = [dict(zip(FORMS, each, strict=True)) for each in itertools.product(*(getattr(self, f) for f in FORMS))]
        places = itertools.product(self.strengths, self.where)
        return [replace(self.settings(*place), **form) for place in places for form in forms]

    def settings(self, strength: float, where: str, p: float = 0.5) -> Settings:
        """The settings that have this ratio, or eps."""
        return Settings(strength, p, where) if self.eps else Settings("auto", p, where, ratio=strength)

    @property
    def identity(self) -> dict[str, Any]:
        """What a folder must agree in to be continued: not where the data lies, nor how much may be spent."""
        stored = identity(self.held_out)
        del stored["settings"]
        return {"recipe": stored, "method": self.method, **self.tried, "places": list(self.where), **self.forms}

    @property
    def tried(self) -> dict[str, list[float]]:
        """The strengths to try first, by what they are."""
        return {self.varied: list(self.strengths)}


def to_json(recipe: Recipe) -> dict[str, Any]:
    """Turn a recipe into what JSON can hold."""
    return dataclasses.asdict(recipe)


def identity(recipe: Recipe) -> dict[str, Any]:
    """Give everything that the figures of a recipe depend on, to tell whether a folder holds its run."""
    stored: dict[str, Any] = json.loads(json.dumps(to_json(recipe)))
    del stored["data_dir"], stored["weights"]  # their content is told apart by its hash
    return stored | {"data": set_name(recipe.data)}


def set_name(data: str) -> str:
    """Name a data set the same however the path of its folder is written."""
    from resolute.data import DATASETS

    return data if data in DATASETS else located(data).resolve().name


def completed(stored: dict[str, Any]) -> dict[str, Any]:
    """Fill in what an earlier version could not store, fields that came later, with what it did."""
    whole = {f.name: f.default for f in dataclasses.fields(Recipe) if f.default is not dataclasses.MISSING} | stored
    for name, default in (("settings", Settings(eps=0.1)), ("train", TrainConfig(update_bn=False))):
        if isinstance(whole.get(name), dict):
            whole[name] = dataclasses.asdict(default) | whole[name]
    train = whole.get("train")
    if isinstance(train, dict) and isinstance(train["augment"], dict):
        whole["train"] = train | {"augment": dataclasses.asdict(Augment()) | train["augment"]}
    filled: dict[str, Any] = json.loads(json.dumps(whole))
    return filled


def from_json(stored: dict[str, Any]) -> Recipe:
    """Read a recipe as JSON holds it."""
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


def digits() -> Recipe:
    """Compare on scikit-learn's 8x8 digits, 810 training and 898 test images: the default, within two minutes.

    Returns:
        The recipe.
    """
    return Recipe(
        name="digits",
        data="digits",
        model="lenet",
        seeds=tuple(range(8)),
        settings=Settings(ratio=2.5),  # chosen on validation images: experiments/LOG.md, digits, LeNet
        suites=("clean", "disturbances", "noise", "fgsm"),
        train=TrainConfig(epochs=30, batch_size=64, lr=0.05, warmup_epochs=1),
    )


def mnist() -> Recipe:
    """Compare on MNIST with LeNet: about 0.6 % error after 12 epochs.

    Returns:
        The recipe.
    """
    return Recipe(
        name="mnist",
        data="mnist",
        model="lenet",
        settings=Settings(ratio=1.0),  # chosen on validation images: experiments/LOG.md, MNIST, LeNet
        train=TrainConfig(epochs=12, batch_size=128, lr=0.04, warmup_epochs=1, channels_last=True),
    )


def finetune() -> Recipe:
    """Compare on any set of photographs with a pretrained network, which is named beside its weights.

    Returns:
        The recipe; ``data``, ``model`` and ``weights`` are to be replaced.
    """
    return Recipe(
        name="finetune",
        data="images",
        model="timm/tf_efficientnet_lite0",
        pretrained=True,
        seeds=(0, 1, 2),
        train=TrainConfig(
            epochs=12,
            batch_size=32,
            optimizer="adamw",
            lr=3e-3,
            backbone_lr_scale=0.1,
            freeze="bn",
            weight_decay=0.01,
            warmup_epochs=1,
            augment=Augment(flip=True),
            channels_last=True,
        ),
    )


def images() -> Recipe:
    """Compare on any set of photographs, of up to 64 pixels a side unless a larger network is named.

    Returns:
        The recipe; ``data`` is to be replaced by a path.
    """
    return Recipe(
        name="images",
        data="images",
        model="wrn-16-2",
        seeds=(0, 1, 2),
        train=TrainConfig(epochs=15, batch_size=128, lr=0.1, warmup_epochs=1, channels_last=True),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"digits": digits, "mnist": mnist, "images": images, "finetune": finetune}


def customary(data: str) -> Recipe:
    """Choose the recipe for a data set.

    Args:
        data: A name in ``data.DATASETS``, or a path.

    Returns:
        The recipe of that name, or `images` for anything else.
    """
    return RECIPES[data]() if data in RECIPES else images()
