"""What a network is trained on: cross-entropy, unless it brings its own loss; and how it hears of the progress.

Two methods that a network may have, and nothing else makes a difference to training:

- ``per_image_loss(x, y, outputs) -> Tensor [n]``: its own loss for images x, labels y and what it returned for x.
- ``on_progress(done)``: called before each step with the share of training that is done, in [0, 1).

In training mode a network with a loss of its own may return a tuple; its first item are the logits.

Attacks ascend the cross-entropy of the logits whatever the network was trained on: a margin loss is flat where the
answer is confidently right, and an attack on it would not move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable


def loss(model: nn.Module, x: Tensor, y: Tensor, outputs: Any, label_smoothing: float = 0.0) -> Tensor:
    """Judge what a network returned, by its own loss or by the cross-entropy.

    Args:
        model: The network, with or without its Normalize layer and the wrappers of torch.compile and DDP.
        x: The images that it was given, float [n, C, H, W] in [0, 1].
        y: Labels, int64 [n].
        outputs: ``model(x)``.
        label_smoothing: Share of the target that the cross-entropy spreads over all classes.

    Returns:
        The mean over the images, a float32 scalar.

    Raises:
        InputError: If labels are to be smoothed for a loss that is not the cross-entropy.

    Example:
        >>> import torch
        >>> loss(nn.Flatten(), torch.zeros(2, 4, 1, 1), torch.tensor([0, 3]), torch.zeros(2, 4))
        tensor(1.3863)
    """
    inner = network(model)
    own: Callable[[Tensor, Tensor, Any], Tensor] | None = getattr(inner, "per_image_loss", None)
    if own is None:
        return F.cross_entropy(logits(outputs).float(), y, label_smoothing=label_smoothing)
    if label_smoothing:
        raise InputError(f"{type(inner).__name__} has its own loss, without labels to smooth: use label_smoothing 0.")
    return own(x, y, outputs).float().mean()


def logits(outputs: Any) -> Tensor:
    """Take the logits out of what a network returned.

    Args:
        outputs: A tensor [n, classes], or a tuple that begins with it.

    Returns:
        The tensor.
    """
    first: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return first


def tell_progress(model: nn.Module, done: float) -> None:
    """Tell a network how far training is, if it wants to know.

    Args:
        model: As in `loss`.
        done: Share of all steps that are done, in [0, 1).
    """
    listener: Callable[[float], None] | None = getattr(network(model), "on_progress", None)
    if listener is not None:
        listener(done)


def network(model: nn.Module) -> nn.Module:
    """Find the network under the wrappers of torch.compile and DDP, and behind its Normalize layer.

    Args:
        model: A network of `models.build`, or any module.

    Returns:
        The child named ``network`` if there is one, else the module itself.
    """
    while isinstance(inner := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inner
    found = getattr(model, "network", model)
    return found if isinstance(found, nn.Module) else model
