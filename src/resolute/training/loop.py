"""One epoch of training: the same steps for every method and network."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute import methods
from resolute.attacks import evaluating, first_answer
from resolute.config import Settings, TrainConfig
from resolute.data.dataset import Images, batches, epoch_order, fingerprint, take, training_batches
from resolute.errors import DivergedError, InputError
from resolute.models import loss as losses
from resolute.models.weights import hold_statistics, learning
from resolute.noise import signs
from resolute.noise.robustify import set_eps_at, trust_statistics
from resolute.noise.schedule import EpsSchedule, eps_at
from resolute.noise.statistics import ENOUGH, update_bn
from resolute.noise.strength import RATIO, calibrate
from resolute.run_folder import identity_of, versions
from resolute.training import checkpoint as files
from resolute.training.checkpoint import Epoch
from resolute.training.distributed import WholeModel, WholeOptimizer, joins, launch, make_fabric, shard
from resolute.training.preemption import Stopped, held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from lightning_fabric import Fabric
    from torch.optim.swa_utils import AveragedModel

    from resolute.methods import Method


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


def make_optimizer(
    config: TrainConfig, parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Make the optimizer of a configuration."""
    lr, decay = config.lr, config.weight_decay
    if config.optimizer in ("adam", "adamw"):
        kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
        return kind(parameters, lr, betas=(config.momentum, 0.999), eps=config.damping, weight_decay=decay)
    if config.optimizer == "rmsprop":
        from timm.optim.rmsprop_tf import RMSpropTF

        return RMSpropTF(parameters, lr, _RMSPROP_MEMORY, config.damping, decay, config.momentum)
    return torch.optim.SGD(parameters, lr, config.momentum, weight_decay=decay, nesterov=config.nesterov)


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
        identity: What a checkpoint must agree in to be continued; empty without a folder.
    """

    method: Method
    settings: Settings
    config: TrainConfig
    seed: int
    data: Images
    validation: Images | None
    out: Path | None
    identity: Mapping[str, Any]

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
        eps: How the strength of its noise changes, where it does.
    """

    fabric: Any
    model: nn.Module
    compiled: nn.Module
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    ema: AveragedModel | None
    whole: nn.Module | None
    eps: EpsSchedule | None = None

    def parts(self, *, done: bool) -> dict[str, Any]:
        """Name all that has a state beyond (seed, epoch); where the network is sharded, each process must call this."""
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
    """Train for one epoch, or for the rest of one."""
    fabric, config = trainee.fabric, job.config
    rank, world = fabric.global_rank, fabric.world_size
    _seed(trainee, signs.key(job.seed, "epoch", epoch, 0 if config.global_noise else rank), begun)
    size = min(config.batch_size, len(job.data) // world * world)
    steps = len(job.data) // size
    order = epoch_order(len(job.data), job.seed, epoch)[: steps * size].view(steps, world, -1)[:, rank].flatten()
    policy = config.augment or job.data.info.augment
    trainee.wrapped.train()
    hold_statistics(trainee.model, config)
    zero = torch.zeros((), device=fabric.device)
    now = begun or Moment(0, zero, zero, 0.0, None)
    start = time.perf_counter() - now.seconds
    walk = training_batches(
        job.data, size // world, policy, seed=job.seed, epoch=epoch, order=order, device=fabric.device, rank=rank,
        first_step=now.step,
    )  # fmt: skip
    for step, (x, y) in enumerate(walk, now.step):
        rate = learning_rate(config, epoch + step / steps)
        done = (epoch + step / steps) / config.epochs
        losses.tell_progress(trainee.model, done)
        if trainee.eps:
            trainee.eps.move_to(done)
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
    """Read the state of the generator that noise is drawn from."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def check_finite(loss: float, job: Job, epoch: int) -> None:
    """Refuse to continue with a loss that is no number."""
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
    """Say how weights and images lie in memory."""
    return torch.channels_last if config.channels_last else torch.preserve_format


def _step(trainee: Trainee, job: Job, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    for group in trainee.optimizer.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    x = x.contiguous(memory_format=memory_format(job.config))
    with trainee.fabric.autocast():
        x, y = job.method.perturb_batch(trainee.compiled, x, y, job.settings)
    with trainee.fabric.autocast():
        outputs = trainee.wrapped(x)
    loss = losses.loss(trainee.model, x, y, outputs, job.config.label_smoothing)
    trainee.optimizer.zero_grad()
    trainee.fabric.backward(loss)
    if job.config.clip_norm:
        nn.utils.clip_grad_norm_(trainee.model.parameters(), job.config.clip_norm)
    trainee.optimizer.step()
    if trainee.ema:
        trainee.ema.update_parameters(trainee.model)
    return loss.detach(), (losses.logits(outputs).argmax(1) != y).float().mean()


def step_times(model: nn.Module, job: Job) -> Iterator[float]:
    """Take steps of length 0 on the first batch for as long as is asked; give the milliseconds that each took."""
    trainee = _set_up(make_fabric(job.config), job.method.prepare(model, job.settings), job)
    device = trainee.fabric.device
    size, policy = min(job.config.batch_size, len(job.data)), job.config.augment or job.data.info.augment
    walk = training_batches(job.data, size, policy, seed=0, epoch=0, order=torch.arange(size), device=device)
    x, y = next(walk)
    trainee.wrapped.train()
    hold_statistics(trainee.model, job.config)
    while True:
        begun = time.perf_counter()
        _step(trainee, job, x, y, 0.0)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield 1000 * (time.perf_counter() - begun)


def _validation_error(trainee: Trainee, images: Images) -> float:
    trainee.gather()
    fabric, model = trainee.fabric, trainee.kept
    wrong = torch.zeros((), dtype=torch.int64, device=fabric.device)
    share = torch.arange(len(images))[fabric.global_rank :: fabric.world_size]
    with evaluating(model), torch.no_grad(), fabric.autocast():
        for x, y in batches(images, 500, order=share, device=fabric.device):
            wrong += (model(x).argmax(1) != y).sum()
    return int(fabric.all_reduce(wrong, reduce_op="sum")) / len(images)


def update_statistics(trainee: Trainee, job: Job) -> None:
    """Estimate BatchNorm's statistics again on the next epochs' images as they are augmented, unattacked."""
    device, size = trainee.fabric.device, min(job.config.batch_size, len(job.data))
    policy = job.config.augment or job.data.info.augment

    def walk() -> Iterator[tuple[Tensor, Tensor]]:
        for epoch in itertools.count(job.config.epochs):
            order = epoch_order(len(job.data), job.seed, epoch)[: len(job.data) // size * size]
            yield from training_batches(job.data, size, policy, seed=job.seed, epoch=epoch, order=order, device=device)

    with trainee.fabric.autocast():
        update_bn(trainee.kept, walk(), batches=ENOUGH)


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
        settings: Strength of the method; by default eps 0.1 at the hidden activations and the data's radius. Where
            eps is auto, it is found on the first 64 images of this training and with the weights as they come.
        config: Epochs, optimizer, device and so on.
        seed: Seed of the order, the augmentation and all noise. Initial weights are the caller's.
        validation: Images whose error is logged after each epoch; nothing is chosen by it.
        out: Folder for ``train.csv``, checkpoints and logs. If it holds a checkpoint of the same run, the run continues
            from there, bit for bit as if it had not stopped. Then SIGINT and SIGTERM end the step and write a
            checkpoint before they take effect, which is 10 seconds later at most.
        on_step: Called after each step with the epochs done so far, 3.25 say; not where several devices have processes
            of their own.

    Returns:
        One row an epoch.

    Raises:
        DivergedError: If the loss is no longer finite; an `InputError` too.
        InputError: If the network does not give one logit for each class of the data, the checkpoint is of another run,
            a setting is out of range, or a process that trains is killed.

    Example:
        >>> import resolute
        >>> data = resolute.data.load("digits")
        >>> model = resolute.models.build("lenet", classes=10, shape=(1, 8, 8))
        >>> log = train(model, data, method="r", config=TrainConfig(epochs=2))
        >>> log[1].loss < log[0].loss
        True
    """
    config = config or TrainConfig()
    method = methods.find_method(method) if isinstance(method, str) else method
    settings = (settings or Settings()).resolved(data.info.radius)
    told = on_step if config.devices == 1 else None
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        _check(model, method, data)
        choose = functools.partial(_calibrated, model, data, config, seed)
        method, settings = methods.with_eps(method, settings, choose)
        identity = _identity(method, settings, config, seed, data, validation) if out else {}
        job = Job(method, settings, config, seed, data, validation, out, identity)
        prepared = method.prepare(model, job.settings)
        trust_statistics(prepared, watch=False)
        strengths = eps_at(prepared)
        learn = [weight for weight in prepared.parameters() if weight.requires_grad]
        try:
            trained = launch(config, functools.partial(_fit, job=job, on_step=told), prepared)
        finally:
            for weight in learn:
                weight.requires_grad_()
    if "refused" in trained:
        raise (DivergedError if trained["diverged"] else InputError)(trained["refused"])
    model.load_state_dict(trained["weights"])
    set_eps_at(prepared, strengths)
    return [Epoch(**row) for row in trained["log"]]


_TO_CALIBRATE = 64
"""Images that eps is calibrated on."""


def _calibrated(model: nn.Module, data: Images, config: TrainConfig, seed: int, settings: Settings) -> float:
    """Find the eps that has the ratio on the first images of a training; the same again where it is continued."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    if config.device != "cpu" and torch.cuda.is_available() and device.type == "cpu":
        device = torch.device("cuda")
        model = copy.deepcopy(model).to(device)
    if config.freeze != "none":
        hold_statistics(model.train(), config)  # so it is calibrated as it will be trained
    order, policy = epoch_order(len(data), seed, 0)[:_TO_CALIBRATE], config.augment or data.info.augment
    walk = training_batches(data, len(order), policy, seed=seed, epoch=0, order=order, device=device)
    return calibrate(model, next(iter(walk)), settings.ratio or RATIO, settings.p, settings.where, **settings.form)


def _check(model: nn.Module, method: Method, data: Images) -> None:
    """Refuse a network that cannot be trained on the data, before any step."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    x = take(data, torch.arange(min(2, len(data)))).to(device).float() / 255
    info, attacks = data.info, method.passes > 1
    first_answer(model, x, classes=info.classes, data=info.name, gradient="images" if attacks else "weights")


def _identity(
    method: Method, settings: Settings, config: TrainConfig, seed: int, data: Images, validation: Images | None
) -> dict[str, Any]:
    """Give what a training depends on, but for the initial weights, which its checkpoint holds further trained."""
    return identity_of(
        {
            "method": method.name,
            "settings": dataclasses.asdict(settings),
            "config": dataclasses.asdict(config),
            "augment": dataclasses.asdict(config.augment or data.info.augment),
            "seed": seed,
            "images": {"train": fingerprint(data), "validation": validation and fingerprint(validation)},
            "versions": versions(),
        }
    )


def _fit(fabric: Fabric, model: nn.Module, job: Job, on_step: Callable[[float], None] | None) -> dict[str, Any]:
    try:
        with held() if job.out else contextlib.nullcontext(lambda: False) as asked:
            return _run(fabric, model, job, on_step, asked)
    except InputError as error:  # raised in every process alike; one that died of it would leave a traceback
        return {"refused": str(error), "diverged": isinstance(error, DivergedError)}


def _run(
    fabric: Fabric, model: nn.Module, job: Job, on_step: Callable[[float], None] | None, asked: Callable[[], bool]
) -> dict[str, Any]:
    trainee = _scheduled(_set_up(fabric, model, job), job)
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
    estimates = job.config.update_bn and job.config.freeze == "none"
    if estimates and (fabric.is_global_zero or joins(job.config) or job.config.sync_bn):
        update_statistics(trainee, job)
    return {"weights": trainee.kept.state_dict(), "log": [dataclasses.asdict(row) for row in log]}


def _scheduled(trainee: Trainee, job: Job) -> Trainee:
    kind = methods.settings_of(job.method.name, job.settings).eps_schedule
    if kind == "constant" or not eps_at(trainee.model):
        return trainee
    return dataclasses.replace(trainee, eps=EpsSchedule(trainee.model, kind, job.config.epochs))


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
        files.save_state(job.out, job.identity, state, log, within)


def _resume(trainee: Trainee, job: Job) -> tuple[list[Epoch], Moment | None]:
    fabric = trainee.fabric
    stored = files.load_state(job.out, job.identity, fabric.device) if job.out else None
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


def _set_up(fabric: Fabric, model: nn.Module, job: Job) -> Trainee:
    config, classes = job.config, job.data.info.classes
    if config.sync_bn and fabric.device.type != "cuda":
        raise InputError("sync_bn needs GPUs: torch's SyncBatchNorm has no other kind. Leave it out.")
    if config.sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    model = model.to(memory_format=memory_format(config))
    if config.strategy == "fsdp":
        whole = model.to(fabric.device)
        model = shard(copy.deepcopy(whole), fabric.device, fabric.world_size)
        compiled: Any = torch.compile(model) if config.compile else model
        optimizer = make_optimizer(config, learning(model, config, classes))
        return Trainee(fabric, model, compiled, compiled, optimizer, None, whole)
    compiled = torch.compile(model) if config.compile else model
    wrapped, optimizer = fabric.setup(compiled, make_optimizer(config, learning(model, config, classes)))
    ema = None
    if config.ema:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
    return Trainee(fabric, model, compiled, wrapped, optimizer, ema, None)
