"""The equation of the method, g(x) = x + eps * x * l(x), and the module around it."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute.errors import InputError
from resolute.noise import kernels, signs
from resolute.noise.kernels import reference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_RESOLUTION = {
    dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
"""Half of the distance from 1 to the next number: what is smaller is rounded away."""


def perturb(x: Tensor, eps: float = 0.1, p: float = 0.5) -> Tensor:
    """Apply g(x) = x + eps * x * l(x) with fresh random signs, elementwise.

    l(x) = s * sgn(x), where s is +1 with probability ``p`` and -1 otherwise, drawn for each element at each call. So
    g(x) = x + eps * s * |x|: it is x at 0, keeps the sign of x, and moves it by eps * |x| exactly. In expectation
    g(x) = x + eps * (2p - 1) * |x|; its variance is 4p(1 - p) * eps^2 * x^2. The derivative is 1 + eps * l(x), with
    l held constant, and 1 at 0.

    The signs are a hash of a seed, drawn from torch's generator of x's device, and of the element's position in
    memory. Backward derives them again: what is kept for it is x and the seed, never a mask.

    Args:
        x: Floating point, any shape. Half precision is computed in float32 and rounded once.
        eps: Strength, 0 <= eps < 1. The paper prints none; 0.1 is this project's choice. 0 returns ``x`` itself.
        p: Probability of s = +1, in [0, 1], to the nearest multiple of 2**-16. The paper evaluates 0.5, the only value
            that leaves the mean alone.

    Returns:
        g(x), with the shape, dtype, device and memory format of ``x``.

    Raises:
        InputError: If eps or p is out of its range.
        TypeError: If x is not a tensor of a floating-point type.

    Warns:
        RuntimeWarning: Once for a dtype, if eps is so small that rounding to it takes the noise away again.

    Example:
        >>> x = torch.tensor([0.0, 1.0, -2.0])
        >>> (perturb(x, eps=0.25) - x).abs()
        tensor([0.0000, 0.2500, 0.5000])
    """
    check(eps, p)
    return noisy(x, eps, signs.level(p))


def noisy(x: Tensor, eps: float | Tensor, level: int, slope: float = 1.0, inplace: bool = False) -> Tensor:
    """Perturb the output of a (leaky) rectifier, given its input; `perturb` without its checks is that of slope 1.

    Args:
        x: Floating point, any shape; the input of the rectifier.
        eps: Strength, 0 < eps < 1. torch.compile takes a tensor of one element as an input of the graph and a Python
            float as a constant.
        level: Probability of s = +1, in steps of 2**-16: an integer, since torch.compile starts anew at a float that it
            cannot make an input.
        slope: The rectifier is x above 0 and slope * x elsewhere, slope >= 0: 1 for none, 0 for ReLU.
        inplace: Write the result into ``x``.

    Returns:
        g(rectified x): ``x`` itself if in place.

    Raises:
        TypeError: If x is not a tensor of a floating-point type.
    """
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(
            f"perturb got {getattr(x, 'dtype', type(x).__name__)}; it wants a floating-point tensor. Embed or cast "
            "integers before it, and put it only where a module returns one tensor."
        )
    if not torch.compiler.is_compiling():
        eps = float(eps)
        if eps == 0 and slope == 1:
            return x
        if 0 < eps < _RESOLUTION.get(x.dtype, 0):
            _warn_lost(x.dtype)
    if (rank := signs.rank()) is not None:
        return _of_rank(rank, x, eps, level, slope, inplace)
    if not x.requires_grad and kernels.serves(x):
        return kernels.multiply(x, x, signs.draw_seed(x), float(eps), level, slope, inplace)
    overwrites = inplace and kernels.serves(x)
    out = _apply(x, eps, level, slope, inplace or slope == 0, overwrites)
    return x.copy_(out) if inplace and not overwrites else out


def _of_rank(rank: int, x: Tensor, eps: float | Tensor, level: int, slope: float, inplace: bool) -> Tensor:
    """Do what `noisy` does under `signs.sharded`: each sample in blocks of its own, after those of lower ranks."""
    samples = x.flatten(1) if x.ndim > 1 else x.reshape(-1, 1)
    n = samples.shape[1]
    blocks = nn.functional.pad(samples, (0, -n % signs.BLOCK))
    out = _apply(blocks, eps, level, slope, slope == 0, False, rank * blocks.numel())[:, :n].reshape(x.shape)
    return x.copy_(out) if inplace else out


def _apply(
    x: Tensor, eps: float | Tensor, level: int, slope: float, keeps_output: bool, overwrites: bool, start: int = 0
) -> Tensor:
    function = _Eager if kernels.unobserved(x) else _Noisy
    out: Tensor = function.apply(x, signs.draw_seed(x), eps, level, slope, keeps_output, overwrites, start)
    return out


class Perturb(nn.Module):
    """`perturb` as a layer: g(x) in training mode, the identity in evaluation mode.

    Args:
        eps: Strength, 0 <= eps < 1.
        p: Probability of the sign +1, in [0, 1].

    Raises:
        InputError: If eps or p is out of its range.

    Example:
        >>> layer = Perturb(eps=0.1).eval()
        >>> x = torch.randn(3)
        >>> layer(x) is x
        True
    """

    def __init__(self, eps: float = 0.1, p: float = 0.5) -> None:
        super().__init__()
        check(eps, p)
        self.eps, self.p = eps, p

    def forward(self, x: Tensor) -> Tensor:
        """Perturb ``x`` while training; return ``x`` itself otherwise.

        Args:
            x: Floating point, any shape.

        Returns:
            A tensor like ``x``.
        """
        return perturb(x, self.eps, self.p) if self.training else x

    def extra_repr(self) -> str:
        """Show eps and p in the printed module.

        Returns:
            ``eps=..., p=...``.
        """
        return f"eps={self.eps}, p={self.p}"


def check(eps: float, p: float = 0.5) -> None:
    """Refuse an eps or a p that the method has no meaning for.

    Args:
        eps: Strength of the noise.
        p: Probability of the sign +1.

    Raises:
        InputError: Unless 0 <= eps < 1 and 0 <= p <= 1. At eps >= 1 the Jacobian factor 1 + eps * l(x) reaches 0
            (Section 3.1 of the paper).
    """
    if not 0 <= eps < 1:
        raise InputError(f"eps is {eps}; it must be at least 0 and below 1. 0.1 is the default, 0 is no noise.")
    if not 0 <= p <= 1:
        raise InputError(f"p is {p}; it is a probability, from 0 to 1. The paper uses 0.5.")


def run(
    src: Tensor,
    ref: Tensor,
    seed: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    inplace: bool = False,
    start: int | Tensor = 0,
    order: Sequence[int] | None = None,
) -> Tensor:
    """Do what `kernels.reference.product` does, by a kernel where there is one and nobody looks into it.

    Args:
        src: As there, like all that follow.
        ref: What the signs belong to.
        seed: int64, 0-d.
        eps: Strength.
        level: Probability of the sign +1, in steps of 2**-16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        inplace: Write into ``src``.
        start: Position of the first element; a number for a kernel.
        order: Of the dimensions in memory, where it may not be that of ``ref``.

    Returns:
        As there; ``src`` itself if in place.
    """
    if kernels.serves(ref) and kernels.serves(src) and not torch.is_grad_enabled():
        ref = ref if order is None else reference.reordered(ref, order)
        return kernels.multiply(src, ref, seed, float(eps), level, slope, inplace, int(start))
    out = reference.product(src, ref, seed, eps, level, slope, start, order)
    return src.copy_(out) if inplace else out


def changed_order(kept: Tensor, stride: tuple[int, ...]) -> tuple[int, ...] | None:
    """Tell the order of the signs in forward, where that of what was kept for backward may be another.

    What packs tensors that are kept, such as ``save_on_cpu``, may give them back contiguous.

    Args:
        kept: What came back.
        stride: Strides of what was perturbed in forward.

    Returns:
        The `reference.memory_order` of then; None if the strides are the same.
    """
    if kept.stride() == stride:
        return None
    return reference.memory_order(torch.empty_strided(kept.shape, stride, device="meta"))


@functools.cache
def _warn_lost(dtype: torch.dtype) -> None:
    lost = _RESOLUTION[dtype]
    warnings.warn(
        f"eps is below {lost:.2g}, the resolution of {dtype}: rounding takes most of the noise away and this trains "
        f"the plain network. Use an eps of at least {2 * lost:.2g} or a wider dtype.",
        RuntimeWarning,
        stacklevel=3,
    )


class _Noisy(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        x: Tensor,
        seed: Tensor,
        eps: float,
        level: int,
        slope: float,
        keeps_output: bool,  # noqa: ARG004
        overwrites: bool,
        start: int,
    ) -> Tensor:
        return run(x, x, seed, eps, level, slope, overwrites, start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, seed, ctx.eps, ctx.level, ctx.slope, keeps_output, overwrites, ctx.start = inputs
        if overwrites:
            ctx.mark_dirty(x)
        ctx.save_for_backward(output if keeps_output else x, seed)
        ctx.stride = x.stride()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ref, seed = ctx.saved_tensors
        # A compiler derives the signs in backward again only if they seem to hang on the gradient: else it finds that
        # forward can compute them, and keeps words or a mask.
        nothing = grad[:0].sum(dtype=torch.int64) if torch.compiler.is_compiling() and grad.ndim else 0
        start, order = ctx.start + nothing, changed_order(ref, ctx.stride)
        out = run(grad, ref, seed, ctx.eps, ctx.level, ctx.slope, start=start, order=order)
        return out, None, None, None, None, None, None, None


class _Eager(torch.autograd.Function):
    """`_Noisy` where nothing transforms it: for a Function with a setup_context, `apply` alone takes 0.1 ms."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        out = _Noisy.forward(*inputs)
        _Noisy.setup_context(ctx, inputs, out)
        return out

    backward = staticmethod(_Noisy.backward)


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
