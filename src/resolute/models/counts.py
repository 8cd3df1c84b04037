"""Parameters and multiply-adds, counted on the meta device: no memory, no arithmetic."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from resolute.models import build, facts

_NORMS = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
)


class Counts(NamedTuple):
    """Trained parameters, and multiply-adds of convolutions and matrix products for one image."""

    parameters: int
    multiply_adds: int


def count(model: nn.Module, shape: tuple[int, int, int]) -> Counts:
    """Count a network by running it once in evaluation mode. BatchNorm, activations and pools are not counted.

    Args:
        model: A network; on the meta device this takes no arithmetic. It is left in evaluation mode.
        shape: Channels, height and width of an image.

    Returns:
        The counts.

    Example:
        >>> count(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), (3, 2, 2))
        Counts(parameters=65, multiply_adds=60)
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.no_grad(), _MultiplyAdds() as counter:
        model.eval()(torch.zeros(1, *shape, device=device))
    return Counts(sum(parameter.numel() for parameter in model.parameters()), counter.total)


def count_named(name: str) -> Counts:
    """Count a network of `facts.SIZES` with the classes and images that it is stated for.

    Args:
        name: A key of ``SIZES``.

    Returns:
        The counts.
    """
    size = facts.SIZES[name]
    with torch.device("meta"), _MultiplyAdds():
        model = build(name, classes=size.classes, shape=size.shape)
    return count(model, size.shape)


class _MultiplyAdds(TorchDispatchMode):
    """Add up by torch's own formulas of floating-point operations, of which a multiply-add has two."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        if func in _NORMS and args[0].is_meta:
            # On meta this op is hundreds of lines of Python; its result has the shape of its input.
            return torch.empty_like(args[0]), *(torch.empty(0, device="meta") for _ in range(2))
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out) // 2
        return out
