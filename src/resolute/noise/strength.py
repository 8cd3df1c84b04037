"""What the noise does to a network on one batch, before it is trained, and the eps at which it does as much as wanted.

The same eps is a whisper in one network and drowns another: it is relative to the values of an activation, and what the
next layer sees is the deviation of these values between images.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError, check_strength
from resolute.noise import signs
from resolute.noise.perturb import noisy
from resolute.noise.robustify import attach, unrobustify
from resolute.noise.sites import Where, find_sites

Batch = Tensor | Sequence[Any] | Mapping[str, Any]

DRAWS = 8
"""Draws of the noise that each figure is a mean over."""
WEAKEST, STRONGEST = 1e-4, 0.95
"""Where `calibrate` looks for an eps."""


@dataclass(frozen=True, slots=True)
class Strength:
    """What the noise does to a network on one batch, in training mode.

    A noise-to-signal ratio is the deviation of a layer's values between draws of the noise, over their deviation
    between the images of the batch without it, each a root mean square over all values.

    Attributes:
        eps: The strength that was measured.
        ratio: Noise-to-signal of the network's output.
        places: Noise-to-signal of what leaves each place, its own noise included, by the module's name.
        cosine: Cosine of the loss's gradient by all parameters with the one without noise, mean over the draws, in
            [-1, 1]; NaN where no parameter is trained.
    """

    eps: float
    ratio: float
    places: dict[str, float]
    cosine: float


def strength(
    model: nn.Module, batch: Batch, eps: float = 0.1, p: float = 0.5, where: Where = "hidden", *, draws: int = DRAWS
) -> Strength:
    """Measure what the noise does to a network on one batch: how much it drowns, and what is left of the gradient.

    A copy of the network runs in training mode (parts that are in evaluation mode stay so if the network as a whole is
    in training mode), without noise of its own and without dropout; the model, its buffers and torch's generators stay
    as they are. The result is the same each time.

    Args:
        model: Any module, perturbed or not.
        batch: The images, float [n, ...] with n >= 2; or (images, labels), labels int64 [n]; or the forward's keyword
            arguments by name. Without labels the network's own answers stand for them. 64 images are plenty.
        eps: Strength to measure, as in `perturb`.
        p: Probability of the sign +1, as in `perturb`.
        where: The places, as in `robustify`.
        draws: Draws of the noise, at least 2.

    Returns:
        Noise-to-signal of the logits and at each place, and the gradient's cosine.

    Raises:
        InputError: If eps, p or draws is out of range, ``where`` matches nothing, or the batch has fewer than 2 images.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> found = strength(model, torch.rand(16, 4), eps=0.2)
        >>> found.ratio > strength(model, torch.rand(16, 4), eps=0.1).ratio
        True
    """
    check_strength(eps, p)
    trial = _Trial(model, batch, where, draws)
    ratio = trial.spread(eps, p).ratio
    places = {name: place.ratio for name, place in trial.places.items()}
    return Strength(eps, ratio, places, trial.cosine(eps, p))


def calibrate(
    model: nn.Module,
    batch: Batch,
    ratio: float = 0.3,
    p: float = 0.5,
    where: Where = "hidden",
    *,
    draws: int = DRAWS,
) -> float:
    """Find the eps at which the noise at the network's output is ``ratio`` times the signal.

    Args:
        model: Any module; it is not changed (see `strength`).
        batch: As in `strength`.
        ratio: Wanted noise-to-signal of the output, above 0.
        p: Probability of the sign +1, as in `perturb`.
        where: The places, as in `robustify`.
        draws: Draws of the noise, at least 2.

    Returns:
        eps, between 0.0001 and 0.95 and to 1 %; an end where the ratio is not reached between them.

    Raises:
        InputError: As `strength`, or if ratio is not a positive number.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> eps = calibrate(model, x := torch.rand(16, 4), ratio=0.2)
        >>> abs(strength(model, x, eps=eps).ratio - 0.2) < 0.01
        True
    """
    if not 0 < ratio < math.inf:
        raise InputError(f"ratio is {ratio}: it is noise over signal, a positive number such as 0.3.")
    check_strength(0.0, p)
    trial = _Trial(model, batch, where, draws)
    low, high = math.log(WEAKEST), math.log(STRONGEST)
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if trial.spread(math.exp(middle), p).ratio < ratio else (low, middle)
    return math.exp((low + high) / 2)


@dataclass(slots=True)
class _Spread:
    """How the values of one layer vary between draws, and between the images of a batch."""

    noise: float = 0.0
    total: float = 0.0
    draws: int = 0
    last: Tensor | None = None

    def add(self, values: Tensor) -> None:
        x = values.detach().float().flatten(1)
        if self.last is not None:  # the square of the difference of two draws is twice the variance between draws
            self.noise += float((x - self.last).square().mean()) / 2
        self.total += float(x.var(0).mean())
        self.last, self.draws = x, self.draws + 1

    @property
    def ratio(self) -> float:
        noise, total = self.noise / (self.draws - 1), self.total / self.draws
        return math.sqrt(noise / (total - noise)) if total > noise else math.inf if noise else 0.0


class _Place:
    """The noise of one place, which notes what it returns, apart for each time that a pass comes by."""

    def __init__(self) -> None:
        self.eps, self.p, self.calls = 0.0, 0.5, 0
        self.spreads: list[_Spread] = []

    def __call__(self, x: Tensor) -> Tensor:
        if self.eps == 0:
            return x
        out = noisy(x, self.eps, signs.level(self.p))
        self.spreads += [_Spread()] if self.calls == len(self.spreads) else []
        self.spreads[self.calls].add(out)
        self.calls += 1
        return out

    @property
    def ratio(self) -> float:
        """The largest of all calls; 0 where there was none."""
        return max((spread.ratio for spread in self.spreads), default=0.0)


class _Trial:
    """A copy of a network that runs with any strength at its places."""

    def __init__(self, model: nn.Module, batch: Batch, where: Where, draws: int) -> None:
        self.args, self.kwargs, self.labels = _parts(batch)
        n = next((len(x) for x in (*self.args, *self.kwargs.values()) if isinstance(x, Tensor) and x.ndim), 0)
        if n < 2 or draws < 2:
            raise InputError(f"strength got {n} images and {draws} draws: both must be at least 2.")
        self.draws, self.places = draws, dict[str, _Place]()
        sites = find_sites(model, where)
        self.copy = unrobustify(copy.deepcopy(model))
        if not model.training:
            self.copy.train()
        for module in self.copy.modules():
            if "drop" in type(module).__name__.lower():
                module.eval()
        for name, side in sites:
            text = escape(name) + (":input" if side == "input" else "")
            self.places[text] = _Place()
            attach(self.copy, self.places[text], text)

    def _logits(self, eps: float, p: float) -> Tensor:
        """Run once, with the next draw of the noise."""
        for place in self.places.values():
            place.eps, place.p, place.calls = eps, p, 0
        out = self.copy(*self.args, **self.kwargs)
        logits: Tensor = out[0] if isinstance(out, tuple | list) else getattr(out, "logits", out)
        return logits

    def spread(self, eps: float, p: float) -> _Spread:
        """Note how the output varies, and what leaves each place."""
        for place in self.places.values():
            place.spreads = []
        output = _Spread()
        with self._alone(), torch.no_grad():
            for _ in range(self.draws):
                output.add(self._logits(eps, p))
        return output

    def cosine(self, eps: float, p: float) -> float:
        """Compare the gradient with the one without noise."""
        if not self._weights():
            return math.nan
        with self._alone(), torch.enable_grad():
            plain = self._gradient(0.0, p)
            each = [F.cosine_similarity(plain, self._gradient(eps, p), 0) for _ in range(self.draws)]
        return float(torch.stack(each).mean())

    def _gradient(self, eps: float, p: float) -> Tensor:
        logits = self._logits(eps, p)
        if self.labels is None:
            self.labels = logits.detach().argmax(1)
        loss = F.cross_entropy(logits.float(), self.labels)
        gradients = torch.autograd.grad(loss, self._weights(), allow_unused=True)
        return torch.cat([each.float().flatten() for each in gradients if each is not None])

    def _weights(self) -> list[nn.Parameter]:
        return [weight for weight in self.copy.parameters() if weight.requires_grad]

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Draw the same noise each time, and leave torch's generators as they were."""
        devices = {weight.device for weight in self.copy.parameters() if weight.is_cuda}
        with torch.random.fork_rng(list(devices)):
            torch.manual_seed(0)
            yield


def _parts(batch: Batch) -> tuple[tuple[Any, ...], dict[str, Any], Tensor | None]:
    """Tell the arguments of the forward, and the labels if they came."""
    if isinstance(batch, Mapping):
        return (), dict(batch), None
    if isinstance(batch, Tensor):
        return (batch,), {}, None
    if len(batch) == 2 and all(isinstance(part, Tensor) for part in batch):
        return (batch[0],), {}, batch[1]
    raise InputError(
        f"strength got a batch of type {type(batch).__name__}; wanted are the images, a pair (images, labels), or the "
        "forward's keyword arguments by name."
    )
