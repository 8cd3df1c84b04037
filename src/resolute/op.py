"""The equation of the method, g(x) = x + eps * x * l(x), and the module around it."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from resolute import kernels, signs
from resolute.errors import InputError

_PIECE = 2**17
"""Elements that plain operations work on at a time: 0.5 MiB of float32."""
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
    if not x.requires_grad and kernels.serves(x):
        return kernels.multiply(x, x, signs.draw_seed(x), float(eps), level, slope, inplace, _in_pieces)
    overwrites = inplace and kernels.serves(x)
    keeps_output = inplace or slope == 0
    function = _Eager if kernels.unobserved(x) else _Noisy
    out: Tensor = function.apply(x, signs.draw_seed(x), eps, level, slope, keeps_output, overwrites)
    return x.copy_(out) if inplace and not overwrites else out


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


def multiply(
    src: Tensor,
    ref: Tensor,
    seed: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    start: int | Tensor = 0,
) -> Tensor:
    """Multiply by dg/dx = 1 + eps * l(x) at x = ``ref``, through a (leaky) rectifier.

    With ``src`` = ``ref`` = x it is g(rectified x), since g(x) / x = dg/dx; with the gradient of g as ``src`` it is the
    gradient of x. ``ref`` may also be g: it has the signs of x.

    Args:
        src: Floating point, any shape.
        ref: Of the shape and dtype of ``src``; the signs follow its memory.
        seed: int64, 0-d.
        eps: Strength.
        level: Probability of the sign +1, in steps of 2**-16.
        slope: Factor of ``src`` where ``ref`` is not above 0.
        start: Position of the first element in memory, a multiple of 1024.

    Returns:
        Like ``src``; half precision is computed in float32 and rounded once.
    """
    wide = torch.promote_types(ref.dtype, torch.float32)
    strides = torch.empty_like(ref, device="meta").stride()
    order = sorted(range(ref.ndim), key=lambda d: strides[d], reverse=True)
    plus = signs.draw(seed, ref.numel(), level, start).view([ref.shape[d] for d in order])
    plus = plus.permute([order.index(d) for d in range(ref.ndim)])
    value, one = src.to(wide), torch.ones((), dtype=wide, device=ref.device)
    strength = (one * eps).to(wide).reshape(())
    if slope == 0:
        return (value.masked_fill(ref <= 0, 0) * torch.where(plus, one + strength, one - strength)).to(src.dtype)
    factor = torch.where(plus == ref.signbit(), one - strength, one + strength).masked_fill(ref == 0, 1)
    if slope != 1:
        value = torch.where(ref <= 0, value * slope, value)
    return (value * factor).to(src.dtype)


def run(
    src: Tensor,
    ref: Tensor,
    seed: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    inplace: bool = False,
    start: int | Tensor = 0,
) -> Tensor:
    """Do what `multiply` does, by a kernel where there is one and nobody looks into it.

    Args:
        src: As in `multiply`.
        ref: As in `multiply`.
        seed: As in `multiply`.
        eps: As in `multiply`.
        level: As in `multiply`.
        slope: As in `multiply`.
        inplace: Write into ``src``.
        start: As in `multiply`; 0 for a kernel.

    Returns:
        As in `multiply`; ``src`` itself if in place.
    """
    if kernels.serves(ref) and kernels.serves(src) and not torch.is_grad_enabled():
        return kernels.multiply(src, ref, seed, float(eps), level, slope, inplace, _in_pieces)
    out = multiply(src, ref, seed, eps, level, slope, start)
    return src.copy_(out) if inplace else out


def _in_pieces(src: Tensor, ref: Tensor, out: Tensor, seed: Tensor, eps: float, level: int, slope: float) -> None:
    """Do what a kernel does by `multiply`, on the CPU in pieces whose intermediate results stay in the caches."""
    n = ref.numel()
    flat_src, flat_ref, flat_out = (x.as_strided((n,), (1,)) for x in (src, ref, out))
    size = _PIECE if ref.device.type == "cpu" else n
    for start in range(0, n, size):
        part = slice(start, start + size)
        flat_out[part] = multiply(flat_src[part], flat_ref[part], seed, eps, level, slope, start)


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
    ) -> Tensor:
        return run(x, x, seed, eps, level, slope, overwrites)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, seed, ctx.eps, ctx.level, ctx.slope, keeps_output, overwrites = inputs
        if overwrites:
            ctx.mark_dirty(x)
        ctx.save_for_backward(output if keeps_output else x, seed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ref, seed = ctx.saved_tensors
        # A compiler derives the signs in backward again only if they seem to hang on the gradient: else it finds that
        # forward can compute them, and keeps words or a mask.
        start = grad[:0].sum(dtype=torch.int64) if torch.compiler.is_compiling() and grad.ndim else 0
        out = run(grad, ref, seed, ctx.eps, ctx.level, ctx.slope, start=start)
        return out, None, None, None, None, None, None


class _Eager(torch.autograd.Function):
    """`_Noisy` where nothing transforms it: for a Function with a setup_context, `apply` alone takes 0.1 ms."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        out = _Noisy.forward(*inputs)
        _Noisy.setup_context(ctx, inputs, out)
        return out

    backward = staticmethod(_Noisy.backward)
