"""Settings that are flags too: each is one field, its help is its line under Attributes. Nothing heavy is imported."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from numbers import Integral, Real
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from resolute.errors import InputError, check_strength, parse_radius, shown

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Freeze = Literal["none", "bn", "backbone"]
Interpolation = Literal["bilinear", "bicubic"]
Schedule = Literal["cosine", "linear", "step", "exponential", "staircase"]
EpsScheduleKind = Literal["constant", "early", "late", "ramp", "off"]
Device = Literal["auto", "cpu", "cuda"]
Grain = Literal["element", "channel", "sample"]
Spread = Literal["fixed", "random"]
Precision = Literal["32-true", "bf16-mixed"]

LARGEST = 1e30
"""Of a setting without an upper end of its own; float32, in which networks compute, ends at 3.4e38."""


class Range(NamedTuple):
    """Numbers that a setting may be: from low to high, an end that is open left out."""

    low: float = 0
    high: float = LARGEST
    open: Literal["", "low", "high", "both"] = ""
    unit: str = ""

    def __contains__(self, value: Any) -> bool:
        above = self.low < value if self.open in ("low", "both") else self.low <= value
        return bool(above and (value < self.high if self.open in ("high", "both") else value <= self.high))

    def __str__(self) -> str:
        low, high = (f"{end:,.0f}" if 1e3 <= end < 1e16 else f"{end:g}" for end in (self.low, self.high))
        above = f"at least {low} and" if self.open == "high" else f"above {low} and"
        upto = f"{above} {'at most' if self.open == 'low' else 'below'}" if self.open else f"from {low} to"
        return f"{upto} {high} {self.unit}".rstrip()


POSITIVE = Range(open="low")
RANGES = {
    **dict.fromkeys(("lr", "damping", "decay_epochs", "ratio"), POSITIVE),
    **dict.fromkeys(("weight_decay", "clip_norm", "lr_floor", "warmup_epochs"), Range()),
    **dict.fromkeys(("label_smoothing", "ema"), Range(0, 1, "high")),
    **dict.fromkeys(("gamma", "crop", "train_fraction", "backbone_lr_scale"), Range(0, 1, "low")),
    **dict.fromkeys(("batch_size", "limit", "images", "surface_images"), Range(1, 1e9, unit="images")),
    **dict.fromkeys(("top", "steps", "probes", "draws"), Range(1, 1e9)),
    **dict.fromkeys(("epochs", "trials"), Range(1, 1e6)),
    **dict.fromkeys(("seed", "seeds"), Range(0, 1e15)),
    **dict.fromkeys(("devices", "nodes", "jobs"), Range(1, 4096)),
    "milestones": Range(0, 1e6),
    "timeout": Range(0, LARGEST, "low", "seconds"),
    "size": Range(1, 4096, unit="pixels"),
    "shift": Range(0, 4096, unit="pixels"),
    "momentum": Range(0, 1, "both"),
    "margin": Range(0, 100, "both", "percentage points"),
    "erase": Range(0, 1),
    "share": Range(0, 1),
    "rotation": Range(0, 180, unit="degrees"),
    "surface": Range(0, 101, unit="points (0: no surface)"),
}
"""What each number may be, by the name of its field, in every class of settings."""
_WORDS: dict[Any, tuple[Any, str]] = {
    int: (Integral, "a whole number"), float: (Real, "a number"), bool: (bool, "True or False"), str: (str, "text"),
}  # fmt: skip
_types: Any = functools.cache(get_type_hints)


def check_fields(config: Any) -> None:
    """Refuse a value that is not of its field's type, or is outside its range, whoever gives it."""
    for name, kind in _types(type(config)).items():
        value = getattr(config, name)
        kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
        if value is None and NoneType in kinds:
            continue
        if wanted := _wanted(value, kinds[0], RANGES.get(name)):
            raise InputError(f"{name} is {shown(value)}; it must be {wanted}.")


def _wanted(value: Any, kind: Any, within: Range | None) -> str:
    """Say what is wanted in place of a value, or nothing."""
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        told = [_wanted(each, inner, within) for each in value] if isinstance(value, (tuple, list)) else [""]
        return next(filter(None, told), "" if isinstance(value, (tuple, list)) else "a tuple")
    if kind not in _WORDS:
        return ""
    wanted, word = _WORDS[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        return f"{word}, {within}" if within else word
    return str(within) if within and value not in within else ""


FORMS = ("grain", "spread", "share", "eps_schedule")
"""What a search may go over beside strength, site and p."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How strong each method is.

    Attributes:
        eps: Strength of the noise, at least 0 and below 1; or auto: what has the ratio in each network, as the same eps
            means something else in each. ``r`` and its controls of equal power use it.
        p: Probability of the sign +1. Only ``r`` uses it.
        where: Sites of the noise: input, hidden, both, layers, last, or a pattern over module names. In Python,
            whatever `robustify` takes.
        eps_schedule: How eps changes over training. ``"early"``: it falls linearly to 0 by half of the training;
            ``"late"``: 0 for the first half; ``"ramp"``: it rises linearly from 0; ``"off"``: 0 for the last tenth.
        radius: Budget of FGSM and PGD training in pixel units, such as 0.1 or 8/255. None is the data set's usual one.
        grain: What one sign is for: each element, a sample's channel, or a sample. Only ``r`` uses it.
        spread: Strength of the samples: fixed, or random from 0 to eps. Only ``r`` uses it.
        share: Share of the samples that get noise at a step. Only ``r`` uses it.
        ratio: Noise-to-signal ratio that ``--eps auto`` has, on the first images and with the initial weights of each
            network; None is 0.5. See `resolute.calibrate`.

    Raises:
        InputError: If a setting is out of range, or there is a ratio beside a fixed eps.
    """

    eps: float | Literal["auto"] = "auto"
    p: float = 0.5
    where: Any = "hidden"
    radius: float | None = None
    grain: Grain = "element"
    spread: Spread = "fixed"
    share: float = 1.0
    eps_schedule: EpsScheduleKind = "constant"
    ratio: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None:
            object.__setattr__(self, "radius", parse_radius(self.radius))
        check_fields(self)
        if self.eps != "auto" and self.ratio is not None:
            raise InputError(f"ratio is {self.ratio} and eps {self.eps}: a ratio is what eps 'auto' is chosen by.")
        check_strength(0.0 if self.eps == "auto" else self.eps, self.p)

    @property
    def form(self) -> dict[str, Any]:
        """The form of the noise, as `robustify`, `strength` and `calibrate` take it."""
        return {"grain": self.grain, "spread": self.spread, "share": self.share}

    @property
    def unusual(self) -> dict[str, Any]:
        """What of form and schedule is not the paper's constant noise."""
        usual = {each.name: each.default for each in dataclasses.fields(self)}
        return {name: value for name in FORMS if (value := getattr(self, name)) != usual[name]}

    def resolved(self, radius: float) -> Settings:
        """Fill in what follows the data set.

        Args:
            radius: Its customary radius, in pixel units.

        Returns:
            Settings without None.
        """
        return self if self.radius is not None else dataclasses.replace(self, radius=radius)


@dataclass(frozen=True, slots=True)
class Augment:
    """How training images are augmented. The default is not at all.

    Attributes:
        shift: Largest random shift in pixels, up, down, left and right. It is a crop of the image's own size after
            padding with this many pixels on each side. Every offset is equally likely.
        padding: What the shift brings in: ``"zeros"`` (black) or ``"reflect"`` (the image mirrored at its border
            pixel). Reflection needs ``shift`` below the image's height and width.
        flip: Mirror each image left to right with probability 0.5.
        erase: Probability that a random rectangle of an image is replaced with noise. The noise is uniform in [0, 1]
            for each pixel and channel (the filling that Zhong et al. prefer). 0.5 is theirs.
        crop: Smallest share of an image's area that a random crop keeps, above 0; 1 is no crop. The crop (any place,
            width over height from 3/4 to 4/3) is brought back to the image's size. 0.08 is ImageNet's custom (Szegedy
            et al., 2015). Photographs that are streamed are cropped as they are decoded.
        rotation: Largest angle in degrees, 0 to 180, of a random rotation. It turns about the centre, either way;
            nearest pixels, black corners. 15 is in weiaicunzai's recipe for Inception V3 on CIFAR-100.

    Raises:
        InputError: If a value is out of its range.
    """

    shift: int = 0
    padding: Literal["zeros", "reflect"] = "zeros"
    flip: bool = False
    erase: float = 0.0
    crop: float = 1.0
    rotation: float = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a network is trained, whatever the method, on the cross-entropy or on the network's own loss.

    The defaults, SGD with Nesterov momentum 0.9 and weight decay 5e-4, are those of Zagoruyko and Komodakis (2016).

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images in a step, over all devices. An incomplete last batch is skipped.
        lr: Highest learning rate. It is not scaled by the number of devices.
        optimizer: The optimizer; ``"rmsprop"`` as TensorFlow has it.
        backbone_lr_scale: Learning rate of all layers but the last, as a share of ``lr``. The last layer is new where a
            pretrained network gets other classes.
        freeze: What of a pretrained network stays as it came: nothing, BatchNorm's statistics, or all but the last
            layer. ``"bn"``: its BatchNorm layers run in evaluation mode, and their weights learn; ``"backbone"``: so do
            they, and the last layer alone learns. Noise and dropout act in both. ``update_bn`` then does nothing.
        momentum: Momentum of SGD and RMSProp, first beta of Adam and AdamW. Above 0 and below 1.
        nesterov: Use Nesterov's momentum in SGD.
        damping: Added to the denominator of Adam, AdamW and RMSProp. Adam adds it to the root of the mean of squared
            gradients, RMSProp to that mean.
        weight_decay: L2 penalty on every parameter; AdamW takes its multiple by the rate off the parameter itself.
        clip_norm: Largest norm of the gradient over all parameters; 0 is off. Longer ones are scaled down.
        schedule: How the learning rate falls: ``"cosine"`` or ``"linear"`` to 0, ``"step"`` times ``gamma`` at each
            milestone, ``"exponential"`` times ``gamma`` for each ``decay_epochs``, ``"staircase"`` the same at once.
        milestones: Epochs at which the step schedule falls.
        gamma: Factor of the step, exponential and staircase schedules.
        decay_epochs: Epochs in which the exponential and staircase schedules fall by ``gamma``. May be a fraction.
        lr_floor: Lowest learning rate after the warm-up.
        warmup_epochs: Epochs of linear rise from 0 to ``lr``. May be a fraction.
        label_smoothing: Share of the target that is spread over all classes, at least 0 and below 1.
        ema: Decay of an exponential moving average of the weights; 0 is off. The average is what is kept.
        update_bn: Estimate BatchNorm's statistics again after training, without the method's noise. The training images
            of a few batches are taken as they are augmented, unattacked. A network without BatchNorm stays as it is.
        augment: How training images are augmented. None is what is customary for the data set.
        device: Where to compute.
        devices: Processes on each machine that train together, one for each device.
        nodes: Machines that train together; torchrun or SLURM starts the processes on each.
        strategy: How processes train together: ``"ddp"``, each with the whole network, or ``"fsdp"``, each with a
            part of every weight. FSDP2 shares out the gradient and the momentum too; to evaluate, a whole copy is
            filled.
        global_noise: Draw R's noise by the position in the whole batch, as one process would. Other noise, such as
            Dropout's, is then the same in every process. By default each process draws its own.
        sync_bn: Compute BatchNorm's statistics over the batches of all devices, which are GPUs.
        precision: Numbers in training: float32, or bfloat16 where autocast allows it.
        compile: Compile the network with torch.compile.
        channels_last: Keep weights and images with their channels last in memory. LeNet's step on a CPU takes 0.6 of
            the time.
        tensorboard: Write TensorBoard logs beside the CSV.

    Raises:
        InputError: If a value is out of its range, or a GPU is wanted and there is none.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.05
    optimizer: Optimizer = "sgd"
    backbone_lr_scale: float = 1.0
    freeze: Freeze = "none"
    momentum: float = 0.9
    nesterov: bool = True
    damping: float = 1e-8
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    schedule: Schedule = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    decay_epochs: float = 1.0
    lr_floor: float = 0.0
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    update_bn: bool = True
    augment: Augment | None = None
    device: Device = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    global_noise: bool = False
    sync_bn: bool = False
    precision: Precision = "32-true"
    compile: bool = False
    channels_last: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        together = self.devices * self.nodes
        fits = {
            "lr_floor": (self.lr_floor <= self.lr, "from 0 to lr"),
            "warmup_epochs": (self.warmup_epochs <= self.epochs, "from 0 to epochs"),
            "devices": (self.batch_size % together == 0, "such that batch_size is a multiple of devices times nodes"),
            "backbone_lr_scale": (
                self.backbone_lr_scale == 1 or self.freeze != "backbone",
                "1 where freeze is 'backbone'",
            ),
            "strategy": (
                self.strategy == "ddp" or (together > 1 and not self.ema),
                "ddp, or fsdp over several devices and without a moving average of the weights",
            ),
        }
        for name, (good, want) in fits.items():
            if not good:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be {want}.")
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise InputError(
                    "device is 'cuda', and torch sees no GPU here. Use device 'cpu', or leave it at 'auto'."
                )


@dataclass(frozen=True, slots=True)
class EvaluateConfig:
    """How finished networks are evaluated.

    Attributes:
        suites: Suites of `resolute list suites`, separated by commas: clean,disturbances,corruptions,attacks. The clean
            images always come first.
        seed: Seed of the disturbances.
        limit: Only so many of the test images, each class in its proportion. None is all of them.
        batch_size: Images in a batch.
    """

    suites: tuple[str, ...] = ("clean", "disturbances")
    seed: int = 0
    limit: int | None = None
    batch_size: int = 500

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True)
class CurvatureConfig:
    """How the curvature of a loss is measured.

    Attributes:
        images: Number of images, drawn at random from the split by ``seed``.
        top: Number of largest eigenvalues by the parameters to find.
        steps: Lanczos steps of the spectral density and for each image.
        probes: Random vectors of the spectral density.
        surface: Points along each of the two leading directions of the loss surface; 0 for no surface.
        surface_images: Images of the loss surface.
        eps: Strength of the sign noise during the measurement; 0 for none.
        where: Sites of that noise: input, hidden, both, or a pattern over module names.
        draws: Draws of that noise to average over.
        batch_size: Images in a batch; it bounds the memory and changes no result.
        double: Compute in float64.
        seed: Seed of images, vectors and draws.
        command: The command line to quote.
    """

    images: int = 1000
    top: int = 5
    steps: int = 30
    probes: int = 4
    surface: int = 15
    surface_images: int = 200
    eps: float = 0.0
    where: str = "hidden"
    draws: int = 4
    batch_size: int = 250
    double: bool = False
    seed: int = 0
    command: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_fields(self)
        check_strength(self.eps)
