"""One epoch of training: the same steps for every method and network."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute import counter, signs
from resolute.attacks import evaluating
from resolute.data import Images, batches, epoch_order, training_batches
from resolute.errors import DivergedError
from resolute.models import objective
from resolute.training.config import Epoch, TrainConfig, learning_rate
from resolute.training.sharding import WholeModel, WholeOptimizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.optim.swa_utils import AveragedModel

    from resolute.methods import Method, Settings


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What is to be trained.

    Attributes:
        method: How.
        settings: Strength of the method, resolved for the data.
        config: Epochs, optimizer and so on.
        seed: Seed of the order, the augmentation and all noise.
        data: The training set.
        validation: Images whose error is logged; nothing is chosen by it.
        out: Folder of the checkpoints.
    """

    method: Method
    settings: Settings
    config: TrainConfig
    seed: int
    data: Images
    validation: Images | None
    out: Path | None

    @property
    def identity(self) -> str:
        """What a checkpoint must agree in to be gone on from."""
        return repr((self.method.name, self.settings, self.config, self.seed, self.data.info.name, len(self.data)))

    @property
    def epochs_between_validations(self) -> int:
        """One, but where validation images outnumber those trained on: logging would cost more than training."""
        return max(1, round(len(self.validation or ()) / len(self.data)))


@dataclass(frozen=True, slots=True, eq=False)
class Trainee:
    """A network in training.

    Attributes:
        fabric: Lightning's, which knows devices, precision and the other processes.
        model: The network.
        compiled: The same, perhaps compiled.
        wrapped: The same, as the strategy wraps it: what is called in training.
        optimizer: Its optimizer.
        ema: The average of its weights, where there is one.
        whole: Where the network is sharded: a plain one like it, which `gather` fills.
    """

    fabric: Any
    model: nn.Module
    compiled: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None
    whole: nn.Module | None

    def parts(self, *, done: bool) -> dict[str, Any]:
        """Name everything that has a state beyond (seed, epoch); where the network is sharded, each process must ask.

        Args:
            done: Whether the last epoch is over, after which nobody asks for the optimizer's.

        Returns:
            Objects with ``state_dict`` and ``load_state_dict``.
        """
        if self.whole is not None:
            parts: dict[str, Any] = {"model": WholeModel(self.model)}
            return parts if done else parts | {"optimizer": WholeOptimizer(self.model, self.optimizer)}
        optimizer = None if done else self.optimizer
        parts = {"model": self.model, "optimizer": optimizer, "ema": self.ema}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def kept(self) -> nn.Module:
        """The network that training is for: the average of the weights where there is one."""
        return self.ema.module if self.ema else self.whole or self.model

    def gather(self) -> None:
        """Bring `kept` up to date, in each process, where the network is sharded."""
        if self.whole is not None:
            self.whole.load_state_dict(WholeModel(self.model).state_dict())


@dataclass(slots=True, eq=False)
class Moment:
    """Where an epoch is, in one process.

    Attributes:
        step: Steps done.
        loss: Sum of their losses.
        wrong: Sum of their shares of wrong answers.
        seconds: Wall time that they took.
        noise: State of torch's generator, from which noise and dropout are drawn; None at an epoch's begin.
    """

    step: int
    loss: Tensor
    wrong: Tensor
    seconds: float
    noise: Tensor | None


def run_epoch(
    trainee: Trainee,
    job: Job,
    epoch: int,
    begun: Moment | None,
    on_step: Callable[[float], None] | None,
    pause: Callable[[Moment], None],
) -> Epoch:
    """Train for one epoch, or for the rest of one.

    Args:
        trainee: The network, which is changed.
        job: What it is trained on, and how.
        epoch: Which epoch, from 0.
        begun: Where it was left; None for its begin.
        on_step: Called after each step with the epochs done so far.
        pause: Called between two steps; it may raise.

    Returns:
        The epoch's row.

    Raises:
        DivergedError: If the loss is no longer finite.
    """
    fabric, config = trainee.fabric, job.config
    rank, world = fabric.global_rank, fabric.world_size
    _seed(trainee, counter.key(job.seed, "epoch", epoch, 0 if config.global_noise else rank), begun)
    size = min(config.batch_size, len(job.data) // world * world)
    steps = len(job.data) // size
    order = epoch_order(len(job.data), job.seed, epoch)[: steps * size].view(steps, world, -1)[:, rank].flatten()
    policy = config.augment or job.data.info.augment
    trainee.wrapped.train()
    zero = torch.zeros((), device=fabric.device)
    now = begun or Moment(0, zero, zero, 0.0, None)
    start = time.perf_counter() - now.seconds
    walk = training_batches(
        job.data, size // world, policy, seed=job.seed, epoch=epoch, order=order, device=fabric.device, rank=rank,
        first_step=now.step,
    )  # fmt: skip
    for step, (x, y) in enumerate(walk, now.step):
        rate = learning_rate(config, epoch + step / steps)
        objective.tell_progress(trainee.model, (epoch + step / steps) / config.epochs)
        with signs.sharded(rank) if config.global_noise else contextlib.nullcontext():
            step_loss, step_wrong = _step(trainee, job, x, y, rate)
        now.step, now.loss, now.wrong = step + 1, now.loss + step_loss, now.wrong + step_wrong
        if on_step:
            on_step(epoch + now.step / steps)
        if now.step < steps:
            now.seconds = time.perf_counter() - start
            pause(now)
    means: Any = fabric.all_reduce(torch.stack([now.loss, now.wrong]))
    mean_loss, train_error = (float(total) / steps for total in means)
    trained = time.perf_counter()
    check_finite(mean_loss, job, epoch)
    due = job.validation if (epoch + 1) % job.epochs_between_validations == 0 or epoch + 1 == config.epochs else None
    error = None if due is None else _validation_error(trainee, due)
    rate, seconds = learning_rate(config, epoch + (steps - 1) / steps), time.perf_counter() - start
    return Epoch(epoch + 1, rate, mean_loss, train_error, error, 1000 * (trained - start) / steps, seconds)


def generator_state(device: torch.device) -> Tensor:
    """Read the state of the generator that noise is drawn from.

    Args:
        device: Where the network is.

    Returns:
        uint8, on the CPU.
    """
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def check_finite(loss: float, job: Job, epoch: int) -> None:
    """Refuse to go on with a loss that is no number.

    Args:
        loss: The loss.
        job: What is trained.
        epoch: Which epoch, from 0.

    Raises:
        DivergedError: If it is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergedError(
            f"the loss became {loss} in epoch {epoch + 1} ({job.method.name}, lr {job.config.lr:.3g}). Lower lr, add "
            "warmup_epochs, or use precision 32-true. The last checkpoint before it is kept."
        )


def _seed(trainee: Trainee, seed: int, begun: Moment | None) -> None:
    torch.manual_seed(seed)
    if begun is None or begun.noise is None:
        return
    if trainee.fabric.device.type == "cuda":
        torch.cuda.set_rng_state(begun.noise, trainee.fabric.device)
    else:
        torch.set_rng_state(begun.noise)


def memory_format(config: TrainConfig) -> torch.memory_format:
    """Say how weights and images lie in memory.

    Args:
        config: Whether channels come last.

    Returns:
        torch's name of it.
    """
    return torch.channels_last if config.channels_last else torch.preserve_format


def _step(trainee: Trainee, job: Job, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    for group in trainee.optimizer.param_groups:
        group["lr"] = rate
    x = x.contiguous(memory_format=memory_format(job.config))
    with trainee.fabric.autocast():
        x, y = job.method.perturb_batch(trainee.compiled, x, y, job.settings)
    with trainee.fabric.autocast():
        outputs = trainee.wrapped(x)
    loss = objective.loss(trainee.model, x, y, outputs, job.config.label_smoothing)
    trainee.optimizer.zero_grad()
    trainee.fabric.backward(loss)
    if job.config.clip_norm:
        nn.utils.clip_grad_norm_(trainee.model.parameters(), job.config.clip_norm)
    trainee.optimizer.step()
    if trainee.ema:
        trainee.ema.update_parameters(trainee.model)
    return loss.detach(), (objective.logits(outputs).argmax(1) != y).float().mean()


def _validation_error(trainee: Trainee, images: Images) -> float:
    trainee.gather()
    fabric, model = trainee.fabric, trainee.kept
    wrong = torch.zeros((), dtype=torch.int64, device=fabric.device)
    share = torch.arange(len(images))[fabric.global_rank :: fabric.world_size]
    with evaluating(model), torch.no_grad(), fabric.autocast():
        for x, y in batches(images, 500, order=share, device=fabric.device):
            wrong += (model(x).argmax(1) != y).sum()
    return int(fabric.all_reduce(wrong, reduce_op="sum")) / len(images)
