"""Training: an explicit loop on Lightning Fabric, the same for every method and network.

Everything random in an epoch is derived from ``(seed, epoch, rank)``: the order of the images, the augmentation and
the state of torch's generators, from which noise and dropout are drawn. So a run that is resumed after an epoch goes
on as if it had never stopped, and methods with the same seed meet the same images in the same order.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute import counter, methods
from resolute.attacks import evaluating
from resolute.data import Images, batches, epoch_order, training_batches
from resolute.errors import InputError
from resolute.methods import Method, Settings
from resolute.models import objective
from resolute.surgery import unrobustify
from resolute.training import log as files
from resolute.training.config import Epoch, TrainConfig, learning_rate
from resolute.training.optimizer import make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric import Fabric
    from torch.optim.swa_utils import AveragedModel

_SECONDS_BETWEEN_CHECKPOINTS = 10


def train(
    model: nn.Module,
    data: Images,
    *,
    method: str | Method = "base",
    settings: Settings | None = None,
    config: TrainConfig | None = None,
    seed: int = 0,
    validation: Images | None = None,
    out: Path | None = None,
    on_step: Callable[[float], None] | None = None,
) -> list[Epoch]:
    """Train a network in place by one of the methods.

    Args:
        model: Images in [0, 1] in, logits out. It keeps the noise that the method put into it, silent in eval mode.
        data: The training set.
        method: A name in ``methods.METHODS``, several joined by ``+``, or a `Method`.
        settings: Strength of the method; by default eps 0.1 at the hidden activations and the data's radius.
        config: Epochs, optimizer, device and so on.
        seed: Seed of the order, the augmentation and all noise. Initial weights are the caller's.
        validation: Images whose error is logged after each epoch; nothing is chosen by it.
        out: Folder for ``train.csv``, checkpoints and logs. If it holds a checkpoint of the same run, the run goes on
            from there, bit for bit as if it had not stopped.
        on_step: Called after each step with the epochs done so far, 3.25 say; not where several devices have processes
            of their own.

    Returns:
        One row an epoch.

    Raises:
        InputError: If the loss is no longer finite, the checkpoint is of another run, or a setting is out of range.

    Example:
        >>> import resolute
        >>> data = resolute.data.load("digits")
        >>> model = resolute.models.build("lenet", classes=10, shape=(1, 8, 8))
        >>> log = train(model, data, method="r", config=TrainConfig(epochs=2))
        >>> log[1].loss < log[0].loss
        True
    """
    from lightning_fabric import Fabric

    config = config or TrainConfig()
    method = methods.find(method) if isinstance(method, str) else method
    fabric = Fabric(
        accelerator=config.device,
        devices=config.devices,
        strategy="ddp_spawn" if config.devices > 1 else "auto",
        precision=config.precision,
    )
    job = _Job(method, (settings or Settings()).resolved(data.info.radius), config, seed, data, validation, out)
    with torch.random.fork_rng(range(torch.cuda.device_count())), tempfile.TemporaryDirectory() as folder:
        # The result comes back as a file: a process's tensors end with it, and Fabric's pipe blocks when full.
        result = Path(folder) / "result.pt"
        told = on_step if config.devices == 1 else None
        fit: Callable[..., None] = functools.partial(_fit, job=job, on_step=told, result=result)
        fabric.launch(fit, method.prepare(model, job.settings))
        trained = torch.load(result, weights_only=True)
    if "refused" in trained:
        raise InputError(trained["refused"])
    model.load_state_dict(trained["weights"])
    return [Epoch(**row) for row in trained["log"]]


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
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


@dataclass(frozen=True, slots=True, eq=False)
class _Trainee:
    fabric: Fabric
    model: nn.Module
    compiled: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None

    @property
    def parts(self) -> dict[str, Any]:
        """Everything that has a state beyond (seed, epoch)."""
        parts = {"model": self.model, "optimizer": self.optimizer, "ema": self.ema}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def kept(self) -> nn.Module:
        """The network that training is for: the average of the weights where there is one."""
        return self.ema.module if self.ema else self.model


def _fit(fabric: Fabric, model: nn.Module, job: _Job, on_step: Callable[[float], None] | None, result: Path) -> None:
    try:
        trained = _run(fabric, model, job, on_step)
    except InputError as error:  # raised in every process alike; one that died of it would leave a traceback
        trained = {"refused": str(error)}
    if fabric.is_global_zero:
        torch.save(trained, result)


def _run(fabric: Fabric, model: nn.Module, job: _Job, on_step: Callable[[float], None] | None) -> dict[str, Any]:
    trainee = _set_up(fabric, model, job.config)
    log = _resume(trainee, job)
    out = job.out if fabric.is_global_zero else None
    writer = files.tensorboard(out) if out and job.config.tensorboard else None
    saved = time.monotonic()
    for epoch in range(len(log), job.config.epochs):
        log.append(_epoch(trainee, job, epoch, on_step))
        if writer:
            files.add_row(writer, log[-1])
        is_last = epoch + 1 == job.config.epochs
        if out and (is_last or time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS):
            files.save(out, job.identity, {name: part.state_dict() for name, part in trainee.parts.items()}, log)
            saved = time.monotonic()
    if writer:
        writer.close()
    if job.config.update_bn and fabric.is_global_zero:
        _update_statistics(trainee, job)
    return {"weights": trainee.kept.state_dict(), "log": [dataclasses.asdict(row) for row in log]}


def _resume(trainee: _Trainee, job: _Job) -> list[Epoch]:
    stored = files.load(job.out, job.identity, trainee.fabric.device) if job.out else None
    if stored is None:
        return []
    states, log = stored
    try:
        for name, part in trainee.parts.items():
            part.load_state_dict(states[name])
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the checkpoint in {job.out} is of another network ({error}). Choose another folder."
        ) from error
    return log


def _set_up(fabric: Fabric, model: nn.Module, config: TrainConfig) -> _Trainee:
    model = model.to(memory_format=_memory_format(config))
    compiled: Any = torch.compile(model) if config.compile else model
    optimizer = make_optimizer(config, model.parameters())
    wrapped, optimizer = fabric.setup(compiled, optimizer)
    ema = None
    if config.ema:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        ema = AveragedModel(
            model,
            multi_avg_fn=get_ema_multi_avg_fn(config.ema),
            use_buffers=True,
        )
    return _Trainee(fabric, model, compiled, wrapped, optimizer, ema)


def _memory_format(config: TrainConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.preserve_format


def _epoch(trainee: _Trainee, job: _Job, epoch: int, on_step: Callable[[float], None] | None) -> Epoch:
    fabric, config = trainee.fabric, job.config
    rank, world = fabric.global_rank, fabric.world_size
    torch.manual_seed(counter.key(job.seed, "epoch", epoch, rank))
    size = min(config.batch_size, len(job.data) // world * world)
    steps = len(job.data) // size
    order = epoch_order(len(job.data), job.seed, epoch)[: steps * size][rank::world]
    policy = config.augment or job.data.info.augment
    trainee.wrapped.train()
    loss, wrong = torch.zeros((), device=fabric.device), torch.zeros((), device=fabric.device)
    start = time.perf_counter()
    walk = training_batches(
        job.data, size // world, policy, seed=job.seed, epoch=epoch, order=order, device=fabric.device, rank=rank
    )
    for step, (x, y) in enumerate(walk):
        rate = learning_rate(config, epoch + step / steps)
        objective.tell_progress(trainee.model, (epoch + step / steps) / config.epochs)
        step_loss, step_wrong = _step(trainee, job, x, y, rate)
        loss, wrong = loss + step_loss, wrong + step_wrong
        if on_step:
            on_step(epoch + (step + 1) / steps)
    means: Any = fabric.all_reduce(torch.stack([loss, wrong]))
    mean_loss, train_error = (float(total) / steps for total in means)
    trained = time.perf_counter()
    if not math.isfinite(mean_loss):
        raise InputError(
            f"the loss became {mean_loss} in epoch {epoch + 1} ({job.method.name}, lr {rate:.3g}). Lower lr, add "
            "warmup_epochs, or use precision 32-true. The last checkpoint before it is kept."
        )
    validation_error = _validation_error(trainee, job.validation)
    seconds = time.perf_counter() - start
    return Epoch(epoch + 1, rate, mean_loss, train_error, validation_error, 1000 * (trained - start) / steps, seconds)


def _step(trainee: _Trainee, job: _Job, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    for group in trainee.optimizer.param_groups:
        group["lr"] = rate
    x = x.contiguous(memory_format=_memory_format(job.config))
    with trainee.fabric.autocast():
        x, y = job.method.perturb_batch(trainee.compiled, x, y, job.settings)
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


def _update_statistics(trainee: _Trainee, job: _Job) -> None:
    """Estimate BatchNorm's statistics on a copy without noise, so that the network keeps its own."""
    from torch.optim.swa_utils import update_bn

    fabric, epoch = trainee.fabric, job.config.epochs
    torch.manual_seed(counter.key(job.seed, "statistics"))
    silent = unrobustify(copy.deepcopy(trainee.kept))
    size = min(job.config.batch_size, len(job.data))
    order = epoch_order(len(job.data), job.seed, epoch)[: len(job.data) // size * size]
    policy = job.config.augment or job.data.info.augment
    walk: Any = training_batches(job.data, size, policy, seed=job.seed, epoch=epoch, order=order, device=fabric.device)
    with fabric.autocast():
        update_bn(walk, silent)
    trainee.kept.load_state_dict(silent.state_dict())


def _validation_error(trainee: _Trainee, images: Images | None) -> float | None:
    if images is None:
        return None
    model = trainee.kept
    wrong = torch.zeros((), dtype=torch.int64, device=trainee.fabric.device)
    with evaluating(model), torch.no_grad(), trainee.fabric.autocast():
        for x, y in batches(images, 500, device=trainee.fabric.device):
            wrong += (model(x).argmax(1) != y).sum()
    return int(wrong) / len(images)
