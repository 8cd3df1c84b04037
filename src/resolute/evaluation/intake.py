"""What an evaluation takes in: labelled images from a loader, a network's answers, and what is wrong with either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute.attacks import answer, evaluating
from resolute.data.info import photographs
from resolute.errors import InputError
from resolute.suites.shift import check

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resolute.data import DataInfo

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
