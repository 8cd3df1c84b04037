"""The perturbed output of an activation module, in as few passes over memory and bytes kept as the module's own."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute import kernels, signs
from resolute.op import changed_order, noisy, run

if TYPE_CHECKING:
    from collections.abc import Callable

_aten = torch.ops.aten

_SLOPES: dict[type[nn.Module], Callable[[Any], float]] = {
    nn.ReLU: lambda _: 0.0,
    nn.LeakyReLU: lambda act: float(act.negative_slope),
}
"""Rectifiers that one pass computes together with the noise."""

_GRADIENTS: dict[type[nn.Module], Callable[[Any, Tensor, Tensor], Tensor]] = {
    nn.ReLU6: lambda _, grad, x: _aten.hardtanh_backward(grad, x, 0.0, 6.0),
    nn.ELU: lambda act, grad, x: _aten.elu_backward(grad, act.alpha, 1, 1, False, x),
    nn.CELU: lambda act, grad, x: _aten.elu_backward(grad, act.alpha, 1, 1 / act.alpha, False, x),
    nn.SELU: lambda _, grad, x: _aten.elu_backward(grad, 1.6732632423543772, 1.0507009873554805, 1, False, x),
    nn.GELU: lambda act, grad, x: _aten.gelu_backward(grad, x, approximate=act.approximate),
    nn.SiLU: lambda _, grad, x: _aten.silu_backward(grad, x),
    nn.Mish: lambda _, grad, x: _aten.mish_backward(grad, x),
    nn.Hardswish: lambda _, grad, x: _aten.hardswish_backward(grad, x),
}
"""Derivatives in x of activations that have the sign of x wherever they are not 0: keeping x is enough for both."""

_TIMM_GRADIENTS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "GELU": lambda _, grad, x: _aten.gelu_backward(grad, x, approximate="none"),
    "GELUTanh": lambda _, grad, x: _aten.gelu_backward(grad, x, approximate="tanh"),
}
"""The same for classes of timm.layers.activations, by name: to import timm takes seconds."""

_COPY_FIRST = {nn.ReLU6, nn.SiLU, nn.Mish, nn.Hardswish}
"""In place these keep a copy of x for backward, not the result: the result may be overwritten again."""


def activate(module: nn.Module, own: type[nn.Module], x: Tensor, eps: float | Tensor, level: int) -> Tensor:
    """Perturb the output of an activation module.

    Args:
        module: The module.
        own: Its class, whose `forward` is the activation without noise.
        x: Its input.
        eps: Strength.
        level: Probability of the sign +1, in steps of 2**-16.

    Returns:
        g(activation(x)); ``x`` itself if the module works in place.
    """
    if not torch.compiler.is_compiling() and (eps := float(eps)) == 0:
        return own.forward(module, x)  # type: ignore[no-any-return]
    inplace = getattr(module, "inplace", False)
    slope = _SLOPES[own](module) if own in _SLOPES else -1.0
    if slope >= 0:
        return noisy(x, eps, level, slope, inplace)
    known = _TIMM_GRADIENTS.get(own.__name__) if own.__module__ == "timm.layers.activations" else _GRADIENTS.get(own)
    if inplace or known is None or not kernels.serves(x) or signs.rank() is not None:
        return noisy(own.forward(module, x), eps, level, inplace=inplace and own in _COPY_FIRST)
    value, gradient = functools.partial(own.forward, module), functools.partial(known, module)
    out: Tensor = _Activated.apply(x, signs.draw_seed(x), eps, level, value, gradient)
    return out


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        seed: Tensor,
        eps: float,
        level: int,
        value: Callable[[Tensor], Tensor],
        gradient: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        ctx.save_for_backward(x, seed)
        ctx.eps, ctx.level, ctx.value, ctx.gradient, ctx.stride = eps, level, value, gradient, x.stride()
        y = value(x)
        return run(y, y, seed, eps, level, inplace=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, seed = ctx.saved_tensors
        scaled = run(grad, x, seed, ctx.eps, ctx.level, order=changed_order(x, ctx.stride))
        if torch.is_grad_enabled():  # not every gradient below has one of its own
            (out,) = torch.autograd.grad(ctx.value(x), x, scaled, create_graph=True)
        else:
            out = ctx.gradient(scaled, x)
        return out, None, None, None, None, None
