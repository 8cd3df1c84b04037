"""Go through the shifts and tell, image by image, whether the network is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from resolute import counter, suites
from resolute.attacks import evaluating
from resolute.data import Images, batches, load, take
from resolute.errors import InputError
from resolute.evaluation.intake import Floats, check_network, collect, device_of, predict
from resolute.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from resolute.data import DataInfo
    from resolute.records import Key
    from resolute.suites import Shift

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
            of this size, see `resolute.data.info.photographs`.
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
    shifts = suites.find(suite_names, images.info, root)
    [clean] = suites.find(["clean"], images.info)
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
    seeds = counter.fold(counter.key(seed, *shift.key), index.to(x.device))
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
