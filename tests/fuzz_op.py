"""Compare perturbed activations with plain operations: ``python tests/fuzz_op.py CASES [FIRST]``.

Values, gradients, second gradients, tangents and what is written over are those of the equation in plain operations, on
copies; errors are those of the same network without noise. Case i depends on i alone.
"""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.layers.activations
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

import reference
from resolute.noise import signs
from resolute.noise.perturb import Perturb
from resolute.noise.robustify import robustify

Run = Callable[[Tensor], Tensor]

KNOWN: dict[str, Callable[[bool], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky relu": lambda inplace: nn.LeakyReLU(0.2, inplace),
    "leaky relu of slope 0": lambda inplace: nn.LeakyReLU(0.0, inplace),
    "leaky relu that turns": lambda inplace: nn.LeakyReLU(-0.2, inplace),
    "relu6": nn.ReLU6,
    "elu": lambda inplace: nn.ELU(0.7, inplace),
    "elu that turns": lambda inplace: nn.ELU(-0.7, inplace),
    "celu": lambda inplace: nn.CELU(0.75, inplace),
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hardswish": nn.Hardswish,
    "gelu": lambda _: nn.GELU(),
    "gelu by tanh": lambda _: nn.GELU(approximate="tanh"),
    "gelu of timm": timm.layers.activations.GELU,
}
UNKNOWN: dict[str, Callable[[bool], nn.Module]] = {
    "prelu": lambda _: nn.PReLU(),
    "rrelu": lambda inplace: nn.RReLU(inplace=inplace),
    "hardtanh": lambda inplace: nn.Hardtanh(inplace=inplace),
    "threshold": lambda inplace: nn.Threshold(0.1, -0.5, inplace),
    "softplus": lambda _: nn.Softplus(),
    **{
        f"timm's {name}": getattr(timm.layers.activations, name)
        for name in ("Swish", "Mish", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "HardMish", "QuickGELU")
    },
}
"""Activations with a pass of their own, and others: these get the noise behind them, and never over x."""
OWN_PLACE = {"leaky relu of slope 0", "leaky relu that turns", "elu that turns", *UNKNOWN}
"""Where x, overwritten by the activation, has no noise."""

LAYOUTS: dict[str, tuple[tuple[int, ...], Run]] = {
    "contiguous": ((3, 5), lambda x: x),
    "several blocks": ((70, 33), lambda x: x),
    "channels last": ((2, 3, 4, 5), lambda x: x.permute(0, 3, 1, 2)),
    "permuted": ((2, 3, 4), lambda x: x.permute(2, 0, 1)),
    "sliced": ((6, 7), lambda x: x[::2, 1:6]),
    "expanded": ((3, 1, 2), lambda x: x.expand(3, 4, 2)),
    "overlapping": ((9,), lambda x: x.as_strided((4, 3), (2, 1))),
    "0-d": ((), lambda x: x),
    "empty": ((2, 0, 3), lambda x: x),
    "negative": ((4, 3), torch._neg_view),
    "imaginary": ((5, 2), lambda x: torch.view_as_complex(x).conj().imag),
    "zero": ((4,), lambda x: torch._efficientzerotensor(x.shape, dtype=x.dtype)),
}
"""The shape of what lies in memory, and the view of it that the activation gets."""


def _twice(y: Tensor) -> Tensor:
    with torch.no_grad():
        y.mul_(2)
    return y


FOLLOWERS: dict[str, tuple[Run, Run]] = {
    "none": (lambda y: y, lambda y: y),
    "add_": (lambda y: y.add_(1), lambda y: y + 1),
    "relu_": (torch.relu_, torch.relu),
    "sigmoid_": (lambda y: y.sigmoid_(), torch.sigmoid),
    "dropout_": (nn.Dropout(inplace=True), nn.Dropout()),
    "square": (lambda y: y * y, lambda y: y * y),
    "kept, then overwritten": (lambda y: y * y + y.add_(1), lambda y: y * y + y + 1),
    "detached add_": (lambda y: (y.detach().add_(1), y)[1], lambda y: y + 1),
    "mul_ without grad": (_twice, lambda y: _twice(y.clone())),
}
"""What comes after the activation, in place or as it may be, and the same on copies."""
OVERWRITES = {"add_", "relu_", "sigmoid_", "dropout_", "kept, then overwritten", "detached add_", "mul_ without grad"}

USES = ("none", "kept before", "used before", "kept after", "overwritten after")
"""What else happens to x: an adapter with a weight keeps it, or adds to it."""


@dataclass(frozen=True)
class Case:
    """One network and its input."""

    number: int
    act: str
    inplace: bool
    dtype: torch.dtype
    layout: str
    source: str  # frozen, leaf or computed
    use: str
    follower: str
    dual: bool
    twice: bool
    grid: bool  # numbers that lie on kinks
    eps: float
    p: float
    grain: Any = "element"
    spread: Any = "fixed"
    share: float = 1.0

    @property
    def form(self) -> dict[str, Any]:
        return {"grain": self.grain, "spread": self.spread, "share": self.share}


def drawn(number: int) -> Case:
    """Draw a case."""
    pick = random.Random(number).choice
    return Case(
        number,
        pick(["perturb", *KNOWN, *UNKNOWN, "relu", "hardswish"]),
        pick([False, True]),
        pick([torch.float64, torch.float32, torch.float32, torch.bfloat16, torch.float16]),
        pick([*LAYOUTS, "contiguous"]),
        pick(["frozen", "leaf", "computed", "computed"]),
        pick(USES),
        pick(list(FOLLOWERS)),
        pick([False, False, True]),
        pick([False, False, True]),
        pick([False, False, True]),
        pick([0.0, 0.1, 0.3, 0.45]),
        pick([0.5, 0.5, 0.3, 0.0, 1.0]),
        pick(["element", "element", "channel", "sample"]),
        pick(["fixed", "fixed", "random"]),
        pick([1.0, 1.0, 0.4]),
    )


def answered(case: Case) -> bool:
    """Tell whether plain operations have an answer to a case."""
    after = case.follower in OVERWRITES or case.use == "overwritten after"
    if case.layout == "overlapping" and (case.inplace or after):
        return False  # which of several writes to one place is the last?
    if case.layout == "zero" and after:
        return False  # only without noise may the result be one of those that cannot be written to
    if case.layout in ("0-d", "zero", "imaginary") and signs.groups(**case.form) is not None:
        return False  # has no samples and channels
    half = case.dtype in {torch.bfloat16, torch.float16}
    if case.layout == "0-d" and case.dual and half:
        return False  # the tangent of the formula cannot be written to
    if case.layout == "imaginary" and case.dtype == torch.bfloat16:
        return False  # has no complex numbers
    # Others, in place, give back another tensor than x, so that x is not what is read and written afterwards.
    reads = after or case.use == "kept after" or "turns" in case.act
    return not (case.inplace and case.act in OWN_PLACE and reads)


@dataclass
class Outcome:
    """What a network did: each tensor by its name."""

    tensors: dict[str, Tensor]
    overwrote: bool = False
    error: str = ""


def ran(case: Case, act: Run, over: bool | None = None) -> Outcome:
    """Run the network; on copies where ``over`` tells whether the activation writes over its input."""
    outcome = Outcome({})
    shape, view = LAYOUTS[case.layout]
    torch.manual_seed(case.number)
    leaf = (2 * torch.randn(shape, dtype=torch.float64)).to(case.dtype)
    leaf = (leaf * 2).round() / 2 if case.grid else leaf
    leaf.requires_grad_(case.source != "frozen")
    tangent, weight = (torch.randn(view(leaf).shape, dtype=torch.float64).to(case.dtype) for _ in range(2))
    weight.requires_grad_()
    with forward_ad.dual_level() if case.dual else contextlib.nullcontext():
        try:
            x = view(leaf * 1 if case.source == "computed" else leaf)
            x = forward_ad.make_dual(x, tangent) if case.dual else x
            z, kept = _forward(case, act, over, x, weight, outcome)
            _backward(case, z, kept, [leaf, weight], outcome)
        except RuntimeError as error:
            outcome.error = f"{type(error).__name__}: {str(error)[:25]}"
    return outcome


def _forward(
    case: Case, act: Run, over: bool | None, x: Tensor, weight: Tensor, outcome: Outcome
) -> tuple[Tensor, Tensor]:
    kept = {"kept before": lambda: x * weight, "used before": lambda: x + weight}.get(case.use, weight.sum)()
    y = act(x if over is None else x.clone())
    if over is None:
        outcome.overwrote = x.numel() > 0 and x.data_ptr() == y.data_ptr()
    elif over:
        x = y
    if case.use == "overwritten after" and over is None:
        x.add_(1)
    elif case.use == "overwritten after":
        y, x = (y + 1 if over else y), x + 1
    if case.use == "kept after":
        kept = x * weight
    if not (case.inplace and case.act in OWN_PLACE):
        outcome.tensors["x"] = x.detach().clone()
    z = FOLLOWERS[case.follower][over is not None](y)
    outcome.tensors["z"] = z.detach().clone()
    if case.dual:
        outcome.tensors["tangent"] = _tangent(z)
    return z, kept


def _tangent(x: Tensor) -> Tensor:
    primal, tangent = forward_ad.unpack_dual(x)
    return torch.zeros_like(primal) if tangent is None else tangent


def _backward(case: Case, z: Tensor, kept: Tensor, leaves: list[Tensor], outcome: Outcome) -> None:
    loss = (z * torch.linspace(-1, 1.5, z.numel(), dtype=z.dtype).view(z.shape)).sum() + kept.sum()
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    twice = case.twice and not case.dual
    gradients = torch.autograd.grad(loss, wanted, create_graph=twice, allow_unused=True, materialize_grads=True)
    for i, gradient in enumerate(gradients):
        outcome.tensors[f"gradient {i}"] = gradient.detach()
        if case.dual:
            outcome.tensors[f"tangent of gradient {i}"] = _tangent(gradient)
    if twice and wanted:
        size = sum(((g * g).sum() for g in gradients), 0 * loss)
        second = torch.autograd.grad(size, wanted, allow_unused=True, materialize_grads=True)
        outcome.tensors.update({f"second gradient {i}": g for i, g in enumerate(second)})


def formula(case: Case) -> Run:
    """Write the equation down in plain operations."""

    def noise(x: Tensor) -> Tensor:
        if case.eps == 0:
            return x
        seed = torch.randint(-(2**63), 2**63 - 1, (), dtype=torch.int64)
        like = torch.empty_like(x.detach(), dtype=torch.float64)
        like.as_strided((x.numel(),), (1,)).copy_(signs.draw(seed, x.numel(), signs.level(case.p)))
        moved = case.eps * (2 * like - 1)
        if signs.groups(**case.form) is not None:
            own = reference.group_strengths(x.detach(), int(seed), case.eps, case.p, **case.form)
            moved = own * (2 * like - 1 if case.grain == "element" else 1)
        wide = torch.promote_types(x.dtype, torch.float32)
        return (x.to(wide) + moved.to(wide) * x.abs().to(wide)).to(x.dtype)

    return noise


def fault(case: Case) -> str | None:
    """Tell what differs from plain operations, if anything does."""
    noise = formula(case)
    ours: nn.Module
    if case.act == "perturb":
        ours, plain, wanted_of = Perturb(case.eps, case.p, **case.form), noise, noise
    else:
        make = {**KNOWN, **UNKNOWN}[case.act]
        plain = make(case.inplace).to(case.dtype)
        form = case.form | ({"grain": ("channel", 1)} if case.grain == "channel" else {})
        ours = robustify(make(case.inplace).to(case.dtype), case.eps, case.p, where=lambda *_: True, **form)
        wanted_of = lambda x: noise(plain(x))  # noqa: E731
    actual, base = ran(case, ours), ran(case, plain)
    if actual.error or base.error:
        return None if actual.error == base.error else f"error {actual.error!r}, plainly {base.error!r}"
    if actual.overwrote != base.overwrote and not (case.act in OWN_PLACE and case.eps > 0):
        return f"wrote over x: {actual.overwrote}, plainly {base.overwrote}"
    wanted = ran(case, wanted_of, over=base.overwrote)
    if wanted.error or actual.tensors.keys() != wanted.tensors.keys():
        return f"{[*actual.tensors]}, by the formula {[*wanted.tensors]} {wanted.error}"
    for name, right in wanted.tensors.items():
        atol = 16 * torch.finfo(case.dtype).eps * (1 + float(right.abs().max()) if right.numel() else 1)
        if not torch.allclose(actual.tensors[name], right, rtol=0, atol=atol, equal_nan=True):
            return f"{name} is off by {(actual.tensors[name] - right).abs().max():.3g}"
    return None


def main(cases: int, first: int = 0) -> int:
    """Try cases and print each that differs; give their number."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tried = found = 0
    number = first
    while tried < cases:
        case = drawn(number)
        number += 1
        if not answered(case):
            continue
        tried += 1
        if said := fault(case):
            found += 1
            print(f"{said}: {case}", flush=True)
        if tried % 10_000 == 0:
            print(f"{tried} cases, {found} differ", flush=True)
    print(f"{tried} cases, {found} differ")
    return found > 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
