"""A network as attacks and evaluations ask it: in evaluation mode, in its own precision, answers in float32."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


def answer(model: nn.Module, x: Tensor) -> Any:
    """Ask a network in the precision of its weights, so that images can stay in float32.

    Args:
        model: Images in [0, 1] in, logits out.
        x: float32 [n, C, H, W].

    Returns:
        Logits in float32; what is no tensor is passed on as it came.
    """
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), x.dtype)
    outputs = model(x.to(dtype))
    return outputs.float() if isinstance(outputs, Tensor) and outputs.dtype.itemsize < 4 else outputs


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode and give each module its own mode back.

    Args:
        model: The network.

    Yields:
        Nothing; the network is in evaluation mode meanwhile.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
