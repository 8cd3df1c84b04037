"""Training: an explicit loop on Lightning Fabric, the same for every method and network.

Everything random in an epoch is derived from ``(seed, epoch, rank)``: the order of the images, the augmentation and
the state of torch's generators, from which noise and dropout are drawn. So a run that is resumed goes on as if it had
never stopped, and methods with the same seed meet the same images in the same order.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from resolute import methods
from resolute.errors import DivergedError, InputError
from resolute.methods import Method, Settings
from resolute.training import log as files
from resolute.training.config import Epoch, TrainConfig
from resolute.training.epoch import Job, Moment, Trainee, check_finite, generator_state, memory_format, run_epoch
from resolute.training.launching import joins, launch
from resolute.training.optimizer import make_optimizer
from resolute.training.sharding import shard
from resolute.training.statistics import update_statistics
from resolute.training.stopping import Stopped, held

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lightning_fabric import Fabric

    from resolute.data import Images

_SECONDS_BETWEEN_CHECKPOINTS = 10
"""After an epoch."""
_SECONDS_WITHIN_EPOCH = 600
"""Within an epoch, which may take hours."""
_STEPS_BETWEEN_LOOKS = 16
"""Where several processes train together and must agree to stop: asking each time would cost a wait."""


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
            from there, bit for bit as if it had not stopped. Then SIGINT and SIGTERM end the step and write a
            checkpoint before they take effect, which is 10 seconds later at most.
        on_step: Called after each step with the epochs done so far, 3.25 say; not where several devices have processes
            of their own.

    Returns:
        One row an epoch.

    Raises:
        DivergedError: If the loss is no longer finite; an `InputError` too.
        InputError: If the checkpoint is of another run, a setting is out of range, or a process that trains is killed.

    Example:
        >>> import resolute
        >>> data = resolute.data.load("digits")
        >>> model = resolute.models.build("lenet", classes=10, shape=(1, 8, 8))
        >>> log = train(model, data, method="r", config=TrainConfig(epochs=2))
        >>> log[1].loss < log[0].loss
        True
    """
    config = config or TrainConfig()
    method = methods.find(method) if isinstance(method, str) else method
    job = Job(method, (settings or Settings()).resolved(data.info.radius), config, seed, data, validation, out)
    told = on_step if config.devices == 1 else None
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        trained = launch(config, functools.partial(_fit, job=job, on_step=told), method.prepare(model, job.settings))
    if "refused" in trained:
        raise (DivergedError if trained["diverged"] else InputError)(trained["refused"])
    model.load_state_dict(trained["weights"])
    return [Epoch(**row) for row in trained["log"]]


def _fit(fabric: Fabric, model: nn.Module, job: Job, on_step: Callable[[float], None] | None) -> dict[str, Any]:
    try:
        with held() if job.out else contextlib.nullcontext(lambda: False) as asked:
            return _run(fabric, model, job, on_step, asked)
    except InputError as error:  # raised in every process alike; one that died of it would leave a traceback
        return {"refused": str(error), "diverged": isinstance(error, DivergedError)}


def _run(
    fabric: Fabric, model: nn.Module, job: Job, on_step: Callable[[float], None] | None, asked: Callable[[], bool]
) -> dict[str, Any]:
    trainee = _set_up(fabric, model, job.config)
    log, begun = _resume(trainee, job)
    writer = files.tensorboard(job.out) if job.out and fabric.is_global_zero and job.config.tensorboard else None
    saved = time.monotonic()

    def pause(moment: Moment) -> None:
        nonlocal saved
        wish = 2 if asked() else int(job.out is not None and time.monotonic() - saved > _SECONDS_WITHIN_EPOCH)
        if wish := _agreed(fabric, wish, moment.step):
            _save(trainee, job, log, moment)
            saved = time.monotonic()
        if wish == 2:
            raise Stopped

    for epoch in range(len(log), job.config.epochs):
        log.append(run_epoch(trainee, job, epoch, begun, on_step, pause))
        begun = None
        if writer:
            files.add_row(writer, log[-1])
        is_last = epoch + 1 == job.config.epochs
        stops = _agreed(fabric, int(asked()), 0)
        if is_last or stops or _agreed(fabric, int(time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS), 0):
            _save(trainee, job, log, None)
            saved = time.monotonic()
        if stops:
            raise Stopped
    if writer:
        writer.close()
    trainee.gather()
    if job.config.update_bn and (fabric.is_global_zero or joins(job.config)):
        update_statistics(trainee, job)
    return {"weights": trainee.kept.state_dict(), "log": [dataclasses.asdict(row) for row in log]}


def _agreed(fabric: Fabric, wish: int, step: int) -> int:
    """Give the largest wish of all processes, which meet at some steps alone."""
    if fabric.world_size == 1 or step % _STEPS_BETWEEN_LOOKS:
        return wish if fabric.world_size == 1 else 0
    largest: Any = fabric.all_reduce(torch.tensor(wish, device=fabric.device), reduce_op="max")
    return int(largest)


def _save(trainee: Trainee, job: Job, log: list[Epoch], moment: Moment | None) -> None:
    if job.out is None:
        return
    fabric, within = trainee.fabric, None
    if moment:
        own = torch.stack([moment.loss, moment.wrong, torch.tensor(moment.seconds, device=fabric.device)])
        numbers = fabric.all_gather(own).reshape(fabric.world_size, -1).cpu()
        check_finite(float(numbers[:, 0].sum()), job, len(log))
        noise = fabric.all_gather(generator_state(fabric.device)).reshape(fabric.world_size, -1).cpu()
        within = {"step": moment.step, "numbers": numbers, "noise": noise}
    parts = trainee.parts(done=len(log) == job.config.epochs)
    state = {name: part.state_dict() for name, part in parts.items()}
    if fabric.is_global_zero:
        files.save(job.out, job.identity, state, log, within)


def _resume(trainee: Trainee, job: Job) -> tuple[list[Epoch], Moment | None]:
    fabric = trainee.fabric
    stored = files.load(job.out, job.identity, fabric.device) if job.out else None
    seen = torch.tensor([1.0 + len(stored[1]) if stored else 0.0], device=fabric.device)
    if float(fabric.all_reduce(seen.clone())) != float(seen):
        raise InputError(f"not every machine sees the same checkpoint in {job.out}: put it on a disk that all share.")
    if stored is None:
        return [], None
    states, log, within = stored
    try:
        for name, part in trainee.parts(done=len(log) == job.config.epochs).items():
            part.load_state_dict(states[name])
        if within is None:
            return log, None
        loss, wrong, seconds = within["numbers"][fabric.global_rank]
        noise = within["noise"][fabric.global_rank].cpu()
        return log, Moment(int(within["step"]), loss, wrong, float(seconds), noise)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"the checkpoint in {job.out} is of another network ({error}). Choose another folder."
        ) from error


def _set_up(fabric: Fabric, model: nn.Module, config: TrainConfig) -> Trainee:
    if config.sync_bn and fabric.device.type != "cuda":
        raise InputError("sync_bn needs GPUs: torch's SyncBatchNorm has no other kind. Leave it out.")
    if config.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = model.to(memory_format=memory_format(config))
    if config.strategy == "fsdp":
        whole = model.to(fabric.device)
        model = shard(copy.deepcopy(whole), fabric.device, fabric.world_size)
        compiled: Any = torch.compile(model) if config.compile else model
        return Trainee(fabric, model, compiled, compiled, make_optimizer(config, model.parameters()), None, whole)
    compiled = torch.compile(model) if config.compile else model
    wrapped, optimizer = fabric.setup(compiled, make_optimizer(config, model.parameters()))
    ema = None
    if config.ema:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    return Trainee(fabric, model, compiled, wrapped, optimizer, ema, None)
