"""Parameters and multiply-adds, counted on the meta device: no memory, no arithmetic."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from resolute.models import build, facts

_NORMS = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit_no_training.default,
)
_FILLS = (
    torch.ops.aten.normal_.default,
    torch.ops.aten.uniform_.default,
    torch.ops.aten.zero_.default,
    torch.ops.aten.fill_.Scalar,
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


def _broadcast(args: Any) -> Tensor:
    """What an elementwise operation returns, with its shape alone."""
    sizes = itertools.zip_longest(*(reversed(x.shape) for x in args if isinstance(x, Tensor)), fillvalue=1)
    return torch.empty([max(own) for own in sizes][::-1], device="meta")


def _product(args: Any) -> Tensor:
    """What ``addmm`` returns, with its shape alone."""
    return torch.empty(args[1].shape[0], args[2].shape[1], device="meta")


class _MultiplyAdds(TorchDispatchMode):
    """Add up by torch's own formulas of floating-point operations, of which a multiply-add has two."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: else torch loads its compiler, which takes longer than the counting."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry

        if args and isinstance(args[0], Tensor) and args[0].is_meta:
            # On meta these are hundreds of lines of Python, and torch's compiler is loaded for them.
            if func in _NORMS:
                return torch.empty_like(args[0]), *(torch.empty(0, device="meta") for _ in range(2))
            if func is torch.ops.aten.mean.dim:
                return torch.ops.aten.sum.dim_IntList(*args, **(kwargs or {}))
            if func in _FILLS:
                return args[0]
            if torch.Tag.pointwise in func.tags:
                return args[0] if func._schema.is_mutable else _broadcast(args)
        by_shape = func is torch.ops.aten.addmm.default and args[1].is_meta
        out = _product(args) if by_shape else func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=out) // 2
        return out
