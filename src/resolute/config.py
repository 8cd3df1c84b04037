"""Settings that are flags too: each is one field, its help is its line under Attributes. Nothing heavy is imported."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from resolute.errors import InputError, check_strength, parse_radius

Optimizer = Literal["sgd", "adam", "rmsprop"]
Schedule = Literal["cosine", "linear", "step", "exponential", "staircase"]
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How strong each method is.

    Attributes:
        eps: Strength of the noise, at least 0 and below 1. ``r`` and its controls of equal power use it.
        p: Probability of the sign +1. Only ``r`` uses it.
        where: Sites of the noise: input, hidden, both, or a pattern over module names. In Python, whatever
            `robustify` takes.
        radius: Budget of FGSM and PGD training in pixel units, such as 0.1 or 8/255. None is the data set's usual one.
    """

    eps: float = 0.1
    p: float = 0.5
    where: Any = "hidden"
    radius: float | None = None

    def __post_init__(self) -> None:
        check_strength(self.eps, self.p)
        if self.radius is not None:
            parse_radius(self.radius)

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
        if self.shift < 0:
            raise InputError(f"shift is {self.shift}: it is a number of pixels, 0 or more")
        if self.padding not in {"zeros", "reflect"}:
            raise InputError(f"padding is {self.padding!r}: it is 'zeros' or 'reflect'")
        if not 0 <= self.erase <= 1:
            raise InputError(f"erase is {self.erase}: it is a probability, from 0 to 1")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop is {self.crop}: it is a share of the image's area, above 0 and at most 1")
        if not 0 <= self.rotation <= 180:
            raise InputError(f"rotation is {self.rotation}: it is an angle in degrees, from 0 to 180")


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a network is trained, whatever the method, on the cross-entropy or on the network's own loss.

    The defaults, SGD with Nesterov momentum 0.9 and weight decay 5e-4, are those of Zagoruyko and Komodakis (2016).

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images in a step, over all devices. An incomplete last batch is skipped.
        lr: Highest learning rate. It is not scaled by the number of devices.
        optimizer: The optimizer; ``"rmsprop"`` as TensorFlow has it.
        momentum: Momentum of SGD and RMSProp, first beta of Adam. Above 0 and below 1.
        nesterov: Use Nesterov's momentum in SGD.
        damping: Added to the denominator of Adam and RMSProp. Adam adds it to the root of the mean of squared
            gradients, RMSProp to that mean.
        weight_decay: L2 penalty on every parameter.
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
        update_bn: Estimate BatchNorm's statistics again after training, without the method's noise. This takes one
            more epoch of the training images as they are augmented, unattacked. They are noisier in training than in
            evaluation, as with Dropout.
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
    update_bn: bool = False
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
        for name, (good, want) in self._wanted().items():
            if not good:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be {want}.")
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise InputError(
                    "device is 'cuda', and torch sees no GPU here. Use device 'cpu', or leave it at 'auto'."
                )

    def _wanted(self) -> dict[str, tuple[bool, str]]:
        """Whether each setting is good, and what it must be."""
        together = self.devices * self.nodes
        return {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "lr": (0 < self.lr < math.inf, "a positive number"),
            "optimizer": (self.optimizer in get_args(Optimizer), f"one of {', '.join(get_args(Optimizer))}"),
            "damping": (0 < self.damping < math.inf, "a positive number"),
            "momentum": (0 < self.momentum < 1, "above 0 and below 1"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "clip_norm": (0 <= self.clip_norm < math.inf, "at least 0"),
            "schedule": (self.schedule in get_args(Schedule), f"one of {', '.join(get_args(Schedule))}"),
            "decay_epochs": (0 < self.decay_epochs < math.inf, "a positive number"),
            "lr_floor": (0 <= self.lr_floor <= self.lr, "from 0 to lr"),
            "warmup_epochs": (0 <= self.warmup_epochs <= self.epochs, "from 0 to epochs"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            "ema": (0 <= self.ema < 1, "at least 0 and below 1"),
            "device": (self.device in get_args(Device), "auto, cpu or cuda"),
            "nodes": (self.nodes >= 1, "at least 1"),
            "devices": (
                self.devices >= 1 and self.batch_size % max(1, together) == 0,
                "at least 1, and batch_size a multiple of devices times nodes",
            ),
            "strategy": (
                self.strategy == "ddp" or (self.strategy == "fsdp" and together > 1 and not self.ema),
                "ddp, or fsdp over several devices and without a moving average of the weights",
            ),
            "precision": (self.precision in get_args(Precision), "32-true or bf16-mixed"),
        }


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
        if self.limit is not None and self.limit < 1:
            raise InputError(f"limit is {self.limit}; it is a number of images, 1 or more.")
        if self.batch_size < 1:
            raise InputError(f"batch_size is {self.batch_size}; it is a number of images, 1 or more.")


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
        for name in ("images", "top", "steps", "draws", "batch_size", "probes"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not 0 <= self.surface <= 101:
            raise InputError(f"surface is {self.surface}; it is a number of points from 0 (none) to 101.")
