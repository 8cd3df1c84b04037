"""What an evaluation takes in: labelled images from a loader, a network's answers, and what is wrong with either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from resolute.attacks import answer, evaluating
from resolute.data import load
from resolute.data.dataset import Images, batches, photographs, take
from resolute.errors import InputError
from resolute.noise import signs
from resolute.run_folder import Record
from resolute.shifts import find_shifts
from resolute.shifts.shift import check

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.data.dataset import DataInfo
    from resolute.run_folder import Key
    from resolute.shifts.shift import Shift


CLOSE = 1e-3
"""Rows of outputs that are all this close to a sum of 1, without a negative number, are probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class Floats:
    """Labelled images that were never bytes.

    Attributes:
        info: Description of the data set that they belong to.
        x: float32 [n, C, H, W] in [0, 1].
        y: int64 [n] in 0..classes-1.
        split: What they are called: ``"loader"``.
    """

    info: DataInfo
    x: Tensor
    y: Tensor
    split: str = "loader"

    def __len__(self) -> int:
        """Count the images."""
        return len(self.x)


def collect(loader: Iterable[Any], model: nn.Module, info: DataInfo | None = None) -> Floats:
    """Hold a loader's images in memory, so that image i is the same under every shift.

    Args:
        loader: Batches ``(x, y)``: float [b, C, H, W] in [0, 1], and integers [b]. It is gone through once.
        model: The network that they are for: the width of its answer is the number of classes.
        info: Description of the data; by default what is customary for photographs of this size.

    Returns:
        The images in the order in which they came.

    Raises:
        InputError: If a batch is something else, or there is none.
    """
    xs, ys = [], []
    for batch in loader:
        x, y = _pair(batch)
        check(x, torch.zeros(len(x), dtype=torch.int64))
        xs.append(x.detach().to("cpu", torch.float32))
        ys.append(y.detach().to("cpu", torch.int64))
    if not xs or not sum(map(len, xs)):
        raise InputError("the loader gave no batch. A generator is empty after one use: give a DataLoader or a list.")
    shapes = {tuple(x.shape[1:]) for x in xs}
    if len(shapes) > 1:
        raise InputError(f"the images have several shapes, {sorted(shapes)}; bring them to one size in the loader.")
    x, y = torch.cat(xs), torch.cat(ys)
    if info is None:
        classes = predict(model, x[:2].to(device_of(model))).shape[1]
        shape = (x.shape[1], x.shape[2], x.shape[3])
        grey = (0.5,) * shape[0]
        info = photographs("loader", shape, grey, grey, tuple(map(str, range(classes))))
    if not 0 <= int(y.min()) <= int(y.max()) < info.classes:
        raise InputError(
            f"the labels reach from {int(y.min())} to {int(y.max())}, and there are {info.classes} classes: wanted is "
            f"0 to {info.classes - 1}."
        )
    return Floats(info, x, y)


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise InputError(f"the loader gives {what}; wanted are batches (x, y): images and their labels.")
    x, y = (torch.as_tensor(part) for part in batch)
    if y.shape != x.shape[:1] or y.is_floating_point() or y.dtype == torch.bool:
        raise InputError(
            f"the labels of a batch are {str(y.dtype).removeprefix('torch.')} {tuple(y.shape)}; wanted is one class "
            f"number for each of its {len(x)} images, integers."
        )
    return x, y


def device_of(model: nn.Module) -> torch.device:
    """Say where a network is.

    Args:
        model: The network.

    Returns:
        The device of its first parameter; the CPU if it has none.
    """
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Ask a network in evaluation mode, without gradients.

    Args:
        model: Images in [0, 1] in, logits out.
        x: float [n, C, H, W] on the network's device.

    Returns:
        Logits [n, classes].

    Raises:
        InputError: If the answer is no matrix of n rows of numbers.
    """
    with evaluating(model), torch.no_grad():
        outputs: Any = answer(model, x)
    if not isinstance(outputs, Tensor):
        raise InputError(
            f"the model returns {_named(outputs)}; wanted is one tensor of logits [n, classes]. Wrap it in a module "
            "that returns the logits alone."
        )
    if outputs.ndim != 2 or len(outputs) != len(x):
        raise InputError(
            f"the model returns {tuple(outputs.shape)} for {len(x)} images; wanted are logits [n, classes]."
        )
    return outputs


def _named(outputs: Any) -> str:
    if isinstance(outputs, (tuple, list)):
        return f"a {type(outputs).__name__} of {len(outputs)}"
    return f"a {type(outputs).__name__}"


def check_network(model: nn.Module, x: Tensor, info: DataInfo) -> None:
    """Refuse a network that cannot be judged on some images.

    Args:
        model: The network.
        x: A few of the images, float [n, C, H, W] on its device.
        info: Description of the data.

    Raises:
        InputError: If it cannot take the images, or answers with something else than one finite logit a class:
            probabilities are refused, since their gradient vanishes where the network is sure, and every attack with
            it.
    """
    try:
        outputs = predict(model, x)
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"the model cannot take images of {'x'.join(map(str, info.shape))} pixels (channels first): {reason}"
        ) from error
    if outputs.shape[1] != info.classes:
        raise InputError(
            f"the model tells {outputs.shape[1]} classes apart, and {info.name} has {info.classes}: wanted is a "
            "network that was trained on these classes."
        )
    if not outputs.isfinite().all():
        raise InputError("the model answers with NaN or infinity on clean images: its weights are broken.")
    if outputs.min() >= 0 and bool(((outputs.sum(1) - 1).abs() < CLOSE).all()):
        raise InputError(
            "the model returns probabilities; wanted are logits. Take the last softmax away: its gradient vanishes "
            "where the network is sure, so that attacks would look weak."
        )


PROBE = 16
"""Images that a network is shown before anything is counted."""


def evaluate(
    model: nn.Module,
    data: Images | str | Iterable[Any],
    suites: Sequence[str] = ("clean",),
    seed: int = 0,
    *,
    name: str = "model",
    method: str = "-",
    run_seed: int = 0,
    batch_size: int = 500,
    info: DataInfo | None = None,
    root: str | Path | None = None,
) -> list[Record]:
    """Count right answers under each shift of some suites.

    The network is in evaluation mode meanwhile and has its modes back afterwards.

    Args:
        model: Images in [0, 1] in, logits out; on the device where it shall run.
        data: The test images; or the name or path of a data set whose test split is taken; or a DataLoader, or any
            iterable, of batches (x, y): float NCHW in [0, 1], and integers. A loader is gone through once and held in
            memory.
        suites: Names in ``suites.SUITES``.
        seed: Seed of the disturbances. Each image's are a function of (seed, shift, severity, index) alone.
        name: The network's name in the records.
        method: The training method's name in the records.
        run_seed: Seed of the training run in the records.
        batch_size: Images in a batch.
        info: For a loader: description of the data, which sets the radii of attacks. By default that of photographs
            of this size, see `resolute.data.dataset.photographs`.
        root: The folder that holds named data sets and released corruptions.

    Returns:
        One record for each shift and severity.

    Example:
        >>> import resolute
        >>> model = resolute.models.build("lenet", classes=10, shape=(1, 8, 8))
        >>> [record] = evaluate(model, "digits")
        >>> record.suite, record.n
        ('clean', 898)
    """
    images = _images(model, data, info, root)
    bits = measure(model, images, suites, seed, batch_size=batch_size, root=root)
    return records(bits, data=images.info.name, model=name, method=method, seed=run_seed)


def _images(
    model: nn.Module, data: Images | str | Iterable[Any], info: DataInfo | None, root: str | Path | None
) -> Images | Floats:
    if isinstance(data, str):
        return load(data, root, split="test")
    return data if isinstance(data, (Images, Floats)) else collect(data, model, info)


def measure(
    model: nn.Module,
    images: Images | Floats,
    suite_names: Sequence[str],
    seed: int = 0,
    *,
    batch_size: int = 500,
    root: str | Path | None = None,
    on_batch: Callable[[int], None] | None = None,
    sharded: bool = False,
) -> dict[Key, NDArray[np.bool_]]:
    """Tell image by image whether a network is right under each shift.

    Args:
        model: As in `evaluate`.
        images: The test images.
        suite_names: Names in ``suites.SUITES``.
        seed: Seed of the disturbances.
        batch_size: Images in a batch.
        root: The folder that holds released corruptions.
        on_batch: Called after each batch, under each shift, with the number of its images.
        sharded: Whether all processes of torch.distributed's group call this together: each looks at its share of the
            images, and each gets the answers for all of them.

    Returns:
        For each (suite, shift, severity) a boolean array [n], True where the answer is right.
    """
    shifts = find_shifts(suite_names, images.info, root)
    [clean] = find_shifts(["clean"], images.info)
    x, _ = shown_to(model, images, clean, seed, torch.arange(min(PROBE, len(images))))
    check_network(model, x, images.info)
    bits = {}
    for shift in shifts:
        shared = sharded and dist.is_initialized() and not shift.block  # images of a block stay together
        share = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
        right = measure_shift(model, images, shift, seed, batch_size=batch_size, share=share, on_batch=on_batch)
        bits[shift.key] = _joined(right, len(images), share[1])
    return bits


def _joined(right: NDArray[np.bool_], n: int, world: int) -> NDArray[np.bool_]:
    """Put the shares of all processes in the order of the images; none is padded, so none is counted twice."""
    if world == 1:
        return right
    shares: list[Any] = [None] * world
    dist.all_gather_object(shares, right)
    whole = np.empty(n, dtype=bool)
    for rank, share in enumerate(shares):
        whole[rank::world] = share
    return whole


def measure_shift(
    model: nn.Module,
    images: Images | Floats,
    shift: Shift,
    seed: int = 0,
    *,
    batch_size: int = 500,
    limit: int | None = None,
    share: tuple[int, int] = (0, 1),
    on_batch: Callable[[int], None] | None = None,
) -> NDArray[np.bool_]:
    """Tell image by image whether a network is right under one shift.

    Args:
        model: As in `evaluate`.
        images: The test images.
        shift: What is done to them.
        seed: Seed of the disturbances.
        batch_size: Images in a batch; where the shift has a block, that many.
        limit: Only the first so many images; None for all.
        share: ``(rank, world)``: only the images ``rank``, ``rank + world`` and so on.
        on_batch: Called after each batch with the number of its images.

    Returns:
        bool [n], or of the share, True where the answer is right.

    Raises:
        InputError: If the batch size is below 1.
    """
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}: it must be 1 or more")
    size = shift.block or batch_size
    order = torch.arange(len(images) if limit is None else min(limit, len(images)))[share[0] :: share[1]]
    right: list[Tensor] = []
    shown = _batches(stored(images, shift), order, size, device_of(model))
    with evaluating(model):
        for index, (x, y) in zip(order.split(size), shown, strict=True):
            changed = _shifted(model, x, y, shift, seed, index)
            right.append(_right(predict(model, changed), y, shift.top))
            if on_batch:
                on_batch(len(index))
    return torch.cat(right).cpu().numpy()


def _right(logits: Tensor, y: Tensor, top: int) -> Tensor:
    chosen = logits.argmax(1, keepdim=True) if top == 1 else logits.topk(top, dim=1).indices
    return (chosen == y[:, None]).any(1)


def shown_to(
    model: nn.Module, images: Images | Floats, shift: Shift, seed: int, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Make what a network sees of some images under a shift.

    Args:
        model: The network; attacks look at it.
        images: The test images, or what is `stored` in their place.
        shift: What is done to them.
        seed: Seed of the disturbances.
        index: int64 [b], positions of the images in the set.

    Returns:
        float32 [b, C, H, W] in [0, 1] and int64 [b], on the network's device.
    """
    device = device_of(model)
    x = images.x[index] if isinstance(images, Floats) else take(images, index).to(torch.float32).div_(255)
    x, y = x.to(device), images.y[index].to(device)
    with evaluating(model):
        return _shifted(model, x, y, shift, seed, index), y


def _shifted(model: nn.Module, x: Tensor, y: Tensor, shift: Shift, seed: int, index: Tensor) -> Tensor:
    seeds = signs.fold(signs.key(seed, *shift.key), index.to(x.device))
    return shift.apply(model, x, y, seeds)


def _batches(
    images: Images | Floats, order: Tensor, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    if not isinstance(images, Floats):
        return batches(images, batch_size, order=order, device=device)
    return ((images.x[index].to(device), images.y[index].to(device)) for index in order.split(batch_size))


def stored(images: Images | Floats, shift: Shift) -> Images | Floats:
    """Read what a shift shows in place of the test images.

    Args:
        images: The test images.
        shift: The shift.

    Returns:
        The images on disk for released corruptions, else the test images themselves.

    Raises:
        InputError: If the released files are not those of these images.
    """
    if shift.stored is None:
        return images
    if isinstance(images, Floats):
        raise InputError("released corruptions belong to a data set by name or path, and a loader came.")
    return shift.stored(images)


def records(bits: dict[Key, NDArray[np.bool_]], *, data: str, model: str, method: str, seed: int) -> list[Record]:
    """Count the bits of `measure`.

    Args:
        bits: For each (suite, shift, severity) a boolean array [n].
        data: Name of the data set.
        model: Name of the network.
        method: Name of the training method.
        seed: Seed of the training run.

    Returns:
        One record for each key, in the order of the keys.
    """
    return [
        Record(data, model, method, seed, suite, shift, severity, int(right.sum()), len(right))
        for (suite, shift, severity), right in bits.items()
    ]
