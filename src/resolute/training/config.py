"""How a network is trained, its optimizer, and the row that each epoch leaves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from resolute.data.augment import Augment


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How a network is trained, whatever the method, on the cross-entropy or on the network's own loss.

    The defaults, SGD with Nesterov momentum 0.9 and weight decay 5e-4, are those of Zagoruyko and Komodakis (2016).

    Attributes:
        epochs: Passes over the training set.
        batch_size: Images in a step, over all devices; an incomplete last batch is skipped.
        lr: Highest learning rate.
        optimizer: ``"sgd"``, ``"adam"`` or ``"rmsprop"`` (as TensorFlow has it).
        momentum: Of SGD and RMSProp; the first beta of Adam. Above 0 and below 1.
        nesterov: Whether SGD's momentum is Nesterov's.
        damping: What Adam adds to the root of the mean of squared gradients, and RMSProp to that mean.
        weight_decay: L2 penalty on every parameter.
        clip_norm: Largest norm of the gradient over all parameters; longer ones are scaled down. 0 is off.
        schedule: The rate after each step: ``"cosine"`` or ``"linear"`` to 0; ``"step"``: times ``gamma`` at each
            milestone; ``"exponential"``: times ``gamma`` for each ``decay_epochs``, smoothly; ``"staircase"``: the same
            at once.
        milestones: Epochs at which the step schedule falls.
        gamma: Factor of the step, exponential and staircase schedules.
        decay_epochs: Epochs in which the exponential and staircase schedules fall by ``gamma``; may be a fraction.
        lr_floor: Least learning rate after the warm-up.
        warmup_epochs: Epochs of linear rise from 0 to ``lr``; may be a fraction.
        label_smoothing: Share of the target spread over all classes, in [0, 1).
        ema: Decay of an exponential moving average of the weights at each step, which is then what is kept; 0 is off.
        update_bn: Estimate BatchNorm's statistics anew when training is over, without the method's noise, on one more
            epoch of the training images as they are augmented, unattacked. They are noisier in training than in
            evaluation, as with Dropout.
        augment: What is done to training images; None for what is customary for the data set.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        devices: Processes on each machine, one a device; above 1 they train together.
        nodes: Machines that train together; torchrun or SLURM starts the processes on each.
        strategy: How processes train together: ``"ddp"``, each with the whole network, or ``"fsdp"``, each with a
            part of every weight, its gradient and its momentum (FSDP2); to judge, a whole copy is filled.
        global_noise: Draw R's noise by the place in the whole batch, so that any number of processes draws what one
            would; other noise, Dropout's say, is then the same in every process. By default each draws its own.
        sync_bn: Take BatchNorm's statistics over the batches of all devices, which are GPUs.
        precision: ``"32-true"`` or ``"bf16-mixed"``.
        compile: Compile the network with torch.compile.
        channels_last: Keep weights and images with their channels last in memory: LeNet's step on a CPU takes 0.6 of
            the time.
        tensorboard: Write TensorBoard logs beside the CSV.

    Raises:
        InputError: If a value is out of its range, or a GPU is wanted and there is none.
    """

    epochs: int = 20
    batch_size: int = 64
    lr: float = 0.05
    optimizer: Literal["sgd", "adam", "rmsprop"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    damping: float = 1e-8
    weight_decay: float = 5e-4
    clip_norm: float = 0.0
    schedule: Literal["cosine", "linear", "step", "exponential", "staircase"] = "cosine"
    milestones: tuple[int, ...] = ()
    gamma: float = 0.1
    decay_epochs: float = 1.0
    lr_floor: float = 0.0
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    update_bn: bool = False
    augment: Augment | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    global_noise: bool = False
    sync_bn: bool = False
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    compile: bool = False
    channels_last: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        wanted = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "lr": (0 < self.lr < math.inf, "a positive number"),
            "optimizer": (self.optimizer in _OPTIMIZERS, f"one of {', '.join(_OPTIMIZERS)}"),
            "damping": (0 < self.damping < math.inf, "a positive number"),
            "momentum": (0 < self.momentum < 1, "above 0 and below 1"),
            "weight_decay": (self.weight_decay >= 0, "at least 0"),
            "clip_norm": (0 <= self.clip_norm < math.inf, "at least 0"),
            "schedule": (self.schedule in _FALL, f"one of {', '.join(_FALL)}"),
            "decay_epochs": (0 < self.decay_epochs < math.inf, "a positive number"),
            "lr_floor": (0 <= self.lr_floor <= self.lr, "from 0 to lr"),
            "warmup_epochs": (0 <= self.warmup_epochs <= self.epochs, "from 0 to epochs"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            "ema": (0 <= self.ema < 1, "at least 0 and below 1"),
            "device": (self.device in ("auto", "cpu", "cuda"), "auto, cpu or cuda"),
            "nodes": (self.nodes >= 1, "at least 1"),
            "devices": (
                self.devices >= 1 and self.batch_size % max(1, self.devices * self.nodes) == 0,
                "at least 1, and batch_size a multiple of devices times nodes",
            ),
            "strategy": (
                self.strategy == "ddp" or (self.strategy == "fsdp" and self.devices * self.nodes > 1 and not self.ema),
                "ddp, or fsdp over several devices and without a moving average of the weights",
            ),
            "precision": (self.precision in ("32-true", "bf16-mixed"), "32-true or bf16-mixed"),
        }
        for name, (good, want) in wanted.items():
            if not good:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be {want}.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise InputError("device is 'cuda', and torch sees no GPU here. Use device 'cpu', or leave it at 'auto'.")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the training log.

    Attributes:
        epoch: From 1.
        lr: Learning rate at the end of the epoch.
        loss: Mean training loss.
        train_error: Share of wrong answers on the batches as the method made them, in [0, 1].
        validation_error: Share of wrong answers on the validation images in evaluation mode; None without them, and
            after most epochs where they outnumber the training images (not after the last).
        step_ms: Mean wall time of a step in milliseconds.
        seconds: Wall time of the epoch with its validation.
    """

    epoch: int
    lr: float
    loss: float
    train_error: float
    validation_error: float | None
    step_ms: float
    seconds: float


def learning_rate(config: TrainConfig, done: float) -> float:
    """Give the learning rate at a moment of training.

    Args:
        config: Highest rate, schedule and warm-up.
        done: Epochs done so far, fractions included.

    Returns:
        The rate; it rises linearly over the warm-up, then follows the schedule over the rest.

    Example:
        >>> [learning_rate(TrainConfig(epochs=10, lr=0.1, warmup_epochs=2), done) for done in (1, 2, 6)]
        [0.05, 0.1, 0.05]
    """
    if done < config.warmup_epochs:
        return config.lr * done / config.warmup_epochs
    return max(config.lr * _FALL[config.schedule](config, done), config.lr_floor)


def _share(config: TrainConfig, done: float) -> float:
    """Tell how much of the training after the warm-up is done."""
    return (done - config.warmup_epochs) / (config.epochs - config.warmup_epochs)


_OPTIMIZERS = ("sgd", "adam", "rmsprop")
_FALL: dict[str, Callable[[TrainConfig, float], float]] = {
    "cosine": lambda config, done: (1 + math.cos(math.pi * _share(config, done))) / 2,
    "linear": lambda config, done: 1 - _share(config, done),
    "step": lambda config, done: config.gamma ** sum(done >= milestone for milestone in config.milestones),
    "exponential": lambda config, done: config.gamma ** (done / config.decay_epochs),
    "staircase": lambda config, done: config.gamma ** math.floor(done / config.decay_epochs + 1e-9),
}
"""What share of the highest rate is left, by the name of the schedule."""

_RMSPROP_MEMORY = 0.9
"""Decay of the mean of squared gradients in the Inception and NASNet sources."""


def make_optimizer(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Make the optimizer of a configuration."""
    lr, decay = config.lr, config.weight_decay
    if config.optimizer == "adam":
        betas = (config.momentum, 0.999)
        return torch.optim.Adam(parameters, lr, betas=betas, eps=config.damping, weight_decay=decay)
    if config.optimizer == "rmsprop":
        from timm.optim.rmsprop_tf import RMSpropTF

        return RMSpropTF(parameters, lr, _RMSPROP_MEMORY, config.damping, decay, config.momentum)
    return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=decay, nesterov=config.nesterov)
