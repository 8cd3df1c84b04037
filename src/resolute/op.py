"""The equation of the method, g(x) = x + eps * x * l(x), and the module around it."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from resolute import counter
from resolute.errors import InputError

_LANES = 32
"""Words that lie side by side; each serves one bit to 32 rows of as many elements."""


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
        p: Probability of s = +1, in [0, 1]. The paper evaluates 0.5, the only value that leaves the mean alone.

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
    if not (isinstance(x, Tensor) and x.is_floating_point()):
        raise TypeError(
            f"perturb got {getattr(x, 'dtype', type(x).__name__)}; it wants a floating-point tensor. Embed or cast "
            "integers before it, and put it only where a module returns one tensor."
        )
    if eps == 0:
        return x
    if eps < torch.finfo(x.dtype).eps / 2:
        _warn_lost(x.dtype)
    seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64, device=x.device)
    out: Tensor = _Perturb.apply(x, seed, eps, p)
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


def signs(seed: Tensor, n: int, p: float) -> Tensor:
    """Draw the signs of n elements in memory order.

    At p = 0.5 one hashed word serves 32 elements: in each block of 1024 elements, element 32 * b + k takes bit b of
    word k. At any other p an element has a word of its own, compared with p * 2**32.

    Args:
        seed: int64, 0-d.
        n: Number of elements.
        p: Probability of True.

    Returns:
        bool of shape [n] on the device of ``seed``: True for +1.
    """
    if p != 0.5:
        return counter.words(seed, torch.arange(n, device=seed.device)) < round(p * 2**32)
    blocks = -(-n // _LANES**2)
    words = counter.words(seed, torch.arange(blocks * _LANES, device=seed.device)).view(blocks, 1, _LANES)
    bits = words >> torch.arange(_LANES, device=seed.device).view(_LANES, 1)
    return (bits & 1).view(-1)[:n] == 1


def derivative(x: Tensor, seed: Tensor, eps: float, p: float) -> Tensor:
    """Give dg/dx = 1 + eps * l(x), which is also g(x) / x wherever x is not 0.

    Args:
        x: Floating point, any shape.
        seed: int64, 0-d.
        eps: Strength.
        p: Probability of the sign +1.

    Returns:
        float32 (float64 for a float64 x), of the shape and memory format of x.
    """
    dense = torch.empty_like(x, device="meta")
    plus = signs(seed, x.numel(), p).as_strided(x.shape, dense.stride())
    sgn = x.to(torch.promote_types(x.dtype, torch.float32)).sign()
    return 1 + eps * torch.where(plus, sgn, -sgn)


@functools.cache
def _warn_lost(dtype: torch.dtype) -> None:
    lost = torch.finfo(dtype).eps / 2
    warnings.warn(
        f"eps is below {lost:.2g}, the resolution of {dtype}: rounding takes most of the noise away and this trains "
        f"the plain network. Use an eps of at least {2 * lost:.2g} or a wider dtype.",
        RuntimeWarning,
        stacklevel=3,
    )


class _Perturb(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, seed: Tensor, eps: float, p: float) -> Tensor:
        return (x * derivative(x, seed, eps, p)).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        x, seed, ctx.eps, ctx.p = inputs
        ctx.save_for_backward(x, seed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, seed = ctx.saved_tensors
        return (grad * derivative(x, seed, ctx.eps, ctx.p)).to(grad.dtype), None, None, None
