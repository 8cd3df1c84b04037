"""The equation of the method, g(x) = x + eps * x * l(x), the module around it, and activations fused with it."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from resolute.errors import check_strength
from resolute.noise import kernels, signs
from resolute.noise.kernels import reference

if TYPE_CHECKING:
    from collections.abc import Callable

    from resolute.noise.kernels.reference import Kernel
    from resolute.noise.signs import Grain, Groups, Spread


_RESOLUTION = {
    dtype: torch.finfo(dtype).eps / 2 for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}
"""Half of the distance from 1 to the next number: what is smaller is rounded away."""


def perturb(
    x: Tensor,
    eps: float = 0.1,
    p: float = 0.5,
    *,
    grain: Grain = "element",
    spread: Spread = "fixed",
    share: float = 1.0,
    channel_dim: int = 1,
) -> Tensor:
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
        grain: What one sign is for: ``"element"``, as in the paper, ``"channel"`` of a sample, or ``"sample"``. Samples
            lie along dimension 0. Convolution and pooling average the signs of elements away, those of channels not.
        spread: ``"fixed"``: eps for each sample. ``"random"``: each sample has its own strength, uniform from 0 to eps,
            so that the mean power is that of eps / sqrt(3).
        share: Probability, in [0, 1], that a sample gets noise at all, to the nearest multiple of 2**-16; each is drawn
            on its own at each call.
        channel_dim: Dimension of the channels: 1 in [N, C, H, W], -1 in [N, ..., C]. Two-dimensional x has them in
            dimension 1. Only ``grain="channel"`` uses it.

    Returns:
        g(x), with the shape, dtype, device and memory format of ``x``.

    Raises:
        InputError: If a number is out of its range, or x lacks the dimension of the samples or channels.
        TypeError: If x is not a tensor of a floating-point type.

    Warns:
        RuntimeWarning: Once for a dtype, if eps is so small that rounding to it takes the noise away again.

    Example:
        >>> x = torch.tensor([0.0, 1.0, -2.0])
        >>> (perturb(x, eps=0.25) - x).abs()
        tensor([0.0000, 0.2500, 0.5000])
        >>> moved = perturb(torch.ones(2, 3, 8, 8), eps=0.25, grain="channel")
        >>> (moved == moved[:, :, :1, :1]).all()
        tensor(True)
    """
    check_strength(eps, p)
    return noisy(x, eps, signs.level(p), groups=signs.groups(grain, spread, share, channel_dim))


def noisy(
    x: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float = 1.0,
    inplace: bool = False,
    keeps_output: bool = False,
    groups: Groups | None = None,
) -> Tensor:
    """Perturb the output of a (leaky) rectifier, given its input; `perturb` without its checks is that of slope 1."""
    # What PyTorch's rectifier keeps for backward, its input or its output, is kept here too: so the same in-place
    # operations are allowed after it.
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
    groups = None if groups is None else groups.of(x)
    kernel = kernels.choose(x)
    if (rank := signs.group_rank()) is not None:
        return _of_rank(kernel, rank, x, eps, level, slope, inplace, groups)
    if kernel is not None and not x.requires_grad:
        return kernels.compute(kernel, x, x, signs.draw_seed(x), eps, level, slope, inplace, groups=groups)
    overwrites = inplace and not (kernel is None and kernels.rewritten())
    out = _apply(kernel, x, eps, level, slope, keeps_output or inplace or slope == 0, overwrites, groups)
    return x.copy_(out) if inplace and not overwrites else out


def _of_rank(
    kernel: Kernel | None,
    rank: int,
    x: Tensor,
    eps: float | Tensor,
    level: int,
    slope: float,
    inplace: bool,
    groups: Groups | None,
) -> Tensor:
    """Do what `noisy` does under `signs.sharded`: each sample in blocks of its own, after those of lower ranks."""
    how = eps, level, slope, slope == 0, False, groups
    if groups is not None and groups.grain != "element":  # no element has a sign of its own
        out = _apply(kernel, x, *how, start=rank * x.numel())
        return x.copy_(out) if inplace else out
    samples = x.flatten(1) if x.ndim > 1 else x.reshape(-1, 1)
    n = samples.shape[1]
    blocks = nn.functional.pad(samples, (0, -n % signs.BLOCK))
    out = _apply(kernel, blocks, *how, start=rank * blocks.numel())
    out = out[:, :n].reshape(x.shape)
    return x.copy_(out) if inplace else out


def _apply(kernel: Kernel | None, x: Tensor, *how: Any, start: int = 0) -> Tensor:
    """Compute with a derivative, by the kernel that was chosen; None where something transforms the operations."""
    inputs = (x, signs.draw_seed(x), *how, start)
    if kernel is not None:
        return _Eager.apply(kernel, *inputs)  # type: ignore[no-any-return]
    return (_Transformable if forward_ad._current_level < 0 else _Dual).apply(*inputs)  # type: ignore[no-any-return]


_FORM = {"grain": "element", "spread": "fixed", "share": 1.0, "channel_dim": 1}
"""Keywords of `perturb`, and what the paper has."""


class Perturb(nn.Module):
    """`perturb` as a layer: g(x) in training mode, the identity in evaluation mode.

    It has no parameter and no buffer. Its arguments are attributes that may be changed at any time.

    Args:
        eps: Strength, 0 <= eps < 1. The default is that of `perturb`.
        p: Probability of the sign +1, in [0, 1]. The default is the paper's.
        grain: What one sign is for, as in `perturb`.
        spread: How samples differ in strength, as in `perturb`.
        share: Share of the samples that get noise, as in `perturb`.
        channel_dim: Dimension of the channels, as in `perturb`.

    Raises:
        InputError: If an argument is out of its range.

    Example:
        >>> layer = Perturb(eps=0.1).eval()
        >>> x = torch.randn(3)
        >>> layer(x) is x
        True
    """

    def __init__(
        self,
        eps: float = 0.1,
        p: float = 0.5,
        *,
        grain: Grain = "element",
        spread: Spread = "fixed",
        share: float = 1.0,
        channel_dim: int = 1,
    ) -> None:
        super().__init__()
        check_strength(eps, p)
        signs.groups(grain, spread, share, channel_dim)
        self.eps, self.p = eps, p
        self.grain, self.spread, self.share, self.channel_dim = grain, spread, share, channel_dim

    def forward(self, x: Tensor) -> Tensor:
        """Perturb ``x`` while training; return ``x`` itself otherwise.

        Args:
            x: Floating point, any shape.

        Returns:
            g(x), with the shape, dtype, device and memory format of ``x``.

        Raises:
            InputError: If an attribute has been set out of its range.
            TypeError: If x is not a tensor of a floating-point type.
        """
        if not self.training:
            return x
        how: dict[str, Any] = {name: getattr(self, name) for name in _FORM}
        return perturb(x, self.eps, self.p, **how)

    def extra_repr(self) -> str:
        """Show eps and p in the printed module, and what else is not the paper's.

        Returns:
            ``eps=..., p=...``.
        """
        more = [f", {name}={getattr(self, name)}" for name, usual in _FORM.items() if getattr(self, name) != usual]
        return f"eps={self.eps}, p={self.p}" + "".join(more)


@functools.cache
def _warn_lost(dtype: torch.dtype) -> None:
    lost = _RESOLUTION[dtype]
    warnings.warn(
        f"eps is below {lost:.2g}, the resolution of {dtype}: rounding takes most of the noise away and this trains "
        f"the plain network. Use an eps of at least {2 * lost:.2g} or a wider dtype.",
        RuntimeWarning,
        stacklevel=3,
    )


def _gradient(ctx: Any, grad: Tensor, kept: Tensor, seed: Tensor, slope: float, start: int | Tensor) -> Tensor:
    """Multiply a gradient by the derivative at what was kept for backward."""
    # What packs tensors that are kept, such as ``save_on_cpu``, may give them back contiguous: the signs go by the
    # order in memory that forward saw.
    order = None
    if kept.stride() != ctx.stride:
        order = reference.memory_order(torch.empty_strided(kept.shape, ctx.stride, device="meta"))
    kernel = None if torch.is_grad_enabled() else kernels.choose(kept, grad)
    return kernels.compute(
        kernel, grad, kept, seed, ctx.eps, ctx.level, slope, start=start, order=order, groups=ctx.groups
    )


class _Transformable(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, seed: Tensor, *how: Any) -> Tensor:
        eps, level, slope, _, overwrites, groups, start = how
        kernel = None if torch.is_grad_enabled() else kernels.choose(x)  # a transformation may have been peeled off
        return kernels.compute(kernel, x, x, seed, eps, level, slope, overwrites, start, groups=groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, seed, ctx.eps, ctx.level, ctx.slope, keeps_output, ctx.overwrites, ctx.groups, ctx.start = inputs
        if ctx.overwrites:
            ctx.mark_dirty(x)
        kept = (output if keeps_output else x), seed
        ctx.save_for_backward(*kept)
        if forward_ad._current_level >= 0:  # else this keeps x alive where the output is kept
            ctx.save_for_forward(*kept)
        ctx.stride = x.stride()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        ref, seed = ctx.saved_tensors
        # A compiler derives the signs in backward again only if they seem to hang on the gradient: else it finds that
        # forward can compute them, and keeps words or a mask.
        nothing = grad[:0].sum(dtype=torch.int64) if torch.compiler.is_compiling() and grad.ndim else 0
        out = _gradient(ctx, grad, ref, seed, ctx.slope, ctx.start + nothing)
        return out, *[None] * 8


class _Dual(_Transformable):
    """`_Transformable` in forward mode; a class of its own, since Dynamo refuses one that has it."""

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        ref, seed = ctx.saved_tensors
        out = _gradient(ctx, tangent, ref, seed, ctx.slope, ctx.start)
        return tangent.copy_(out) if ctx.overwrites else out


class _Eager(torch.autograd.Function):
    """`_Transformable` by a kernel: for a Function with a setup_context, `apply` alone takes 0.1 ms."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, *inputs: Any) -> Tensor:
        x, seed, eps, level, slope, _, overwrites, groups, start = inputs
        out = kernels.compute(kernel, x, x, seed, eps, level, slope, overwrites, start, groups=groups)
        _Transformable.setup_context(ctx, inputs, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_Transformable.backward(ctx, grad)


_aten = torch.ops.aten

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

_KEEP_RESULT = {nn.ELU, nn.CELU, nn.SELU}
"""In place these keep their result for backward, which nothing may overwrite then; the others keep a copy of x."""


def activate(
    module: nn.Module, own: type[nn.Module], x: Tensor, eps: float | Tensor, level: int, groups: Groups | None = None
) -> Tensor:
    """Perturb the output of an activation module, in place if it works in place and is known here."""
    if not torch.compiler.is_compiling() and (eps := float(eps)) == 0:
        return own.forward(module, x)  # type: ignore[no-any-return]
    inplace = vars(module).get("inplace", False)
    if inplace and _is_of_leaf(x):
        return own.forward(module, x)  # type: ignore[no-any-return]  # raises, before anything is overwritten
    slope = float(module.negative_slope) if own is nn.LeakyReLU else 0.0  # type: ignore[arg-type]
    if own is nn.ReLU or slope > 0:
        return noisy(x, eps, level, slope, inplace, groups=groups)
    timms = own.__module__ == "timm.layers.activations"
    known = _TIMM_GRADIENTS.get(own.__name__) if timms else _GRADIENTS.get(own)
    if known is None or (own in {nn.ELU, nn.CELU} and module.alpha <= 0):  # type: ignore[operator]
        y = own.forward(module, x)
        keeps_output = not torch.compiler.is_compiling() and hasattr(getattr(y, "grad_fn", None), "_raw_saved_result")
        return noisy(y, eps, level, keeps_output=keeps_output, groups=groups)
    kernel = kernels.choose(x) if signs.group_rank() is None else None
    if kernel is None:
        y = own.forward(module, x.clone() if inplace else x)
        if inplace and own in _KEEP_RESULT:
            return noisy(x.copy_(y), eps, level, inplace=True, groups=groups)
        out = noisy(y, eps, level, groups=groups)
        return x.copy_(out) if inplace else out
    if 0 < eps < _RESOLUTION.get(x.dtype, 0):
        _warn_lost(x.dtype)
    groups = None if groups is None else groups.of(x)
    seed = signs.draw_seed(x)
    if not x.requires_grad:
        y = own.forward(module, x)
        return kernels.compute(kernel, y, y, seed, eps, level, inplace=True, groups=groups)
    kept, into = (x.clone() if torch.is_grad_enabled() else x, x) if inplace else (x, None)
    how = functools.partial(own.forward, module), functools.partial(known, module), inplace and own in _KEEP_RESULT
    return _Activated.apply(kernel, kept, into, seed, eps, level, groups, *how)  # type: ignore[no-any-return]


def _is_of_leaf(x: Tensor) -> bool:
    """Tell whether x is, or is a view of, a leaf that gets a gradient, which nothing may overwrite."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return False
    base = x if x._base is None else x._base
    return base.requires_grad and base.is_leaf


class _Activated(torch.autograd.Function):
    """The noise after an activation: of ``kept``, written over ``into`` if that is one."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, kept: Tensor, into: Tensor | None, seed: Tensor, *how: Any) -> Tensor:
        ctx.eps, ctx.level, ctx.groups, ctx.value, ctx.gradient, keeps_result = how
        ctx.stride, ctx.inplace = kept.stride(), into is not None
        y = ctx.value(kept if into is None else into)
        out = kernels.compute(kernel, y, y, seed, ctx.eps, ctx.level, inplace=True, groups=ctx.groups)
        if into is not None:
            ctx.mark_dirty(into)
        ctx.save_for_backward(kept, seed, *[out] * keeps_result)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, seed, *_ = ctx.saved_tensors
        scaled = _gradient(ctx, grad, x, seed, 1.0, 0)
        if torch.is_grad_enabled():  # not every gradient below has one of its own
            y = ctx.value(x.clone() if ctx.inplace else x)
            (out,) = torch.autograd.grad(y, x, scaled, create_graph=True)
        else:
            out = ctx.gradient(scaled, x)
        return None, out, *[None] * 8
