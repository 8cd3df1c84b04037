"""The training loss: the cross-entropy, or the network's own; and how a network hears of the progress.

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
    """Compute the mean loss of what a network returned: its own, or the cross-entropy."""
    inner = network(model)
    own: Callable[[Tensor, Tensor, Any], Tensor] | None = getattr(inner, "per_image_loss", None)
    if own is None:
        return F.cross_entropy(logits(outputs).float(), y, label_smoothing=label_smoothing)
    if label_smoothing:
        raise InputError(f"{type(inner).__name__} has its own loss, without labels to smooth: use label_smoothing 0.")
    return own(x, y, outputs).float().mean()


def logits(outputs: Any) -> Tensor:
    """Take the logits out of what a network returned."""
    first: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return first


def tell_progress(model: nn.Module, done: float) -> None:
    """Tell a network how far training is, if it wants to know."""
    listener: Callable[[float], None] | None = getattr(network(model), "on_progress", None)
    if listener is not None:
        listener(done)


def network(model: nn.Module) -> nn.Module:
    """Find the network under the wrappers of torch.compile and DDP, and behind its Normalize layer."""
    while isinstance(inner := getattr(model, "_orig_mod", getattr(model, "module", None)), nn.Module):
        model = inner
    found = getattr(model, "network", model)
    return found if isinstance(found, nn.Module) else model
