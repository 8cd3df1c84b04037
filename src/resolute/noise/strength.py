"""What the noise does to a network on one batch, before it is trained, and the eps at which it does as much as wanted.

The same eps is a whisper in one network and drowns another: it is relative to the values of an activation, and what the
next layer sees is the deviation of these values between images.
"""

from __future__ import annotations

import copy
import functools
import math
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError, check_strength
from resolute.noise import kernels, signs
from resolute.noise.perturb import Perturb, noisy
from resolute.noise.signs import Grain, Groups, Spread, as_groups
from resolute.noise.sites import Where, check_model, find_sites, groups_at, perturb_input, places, sites

Batch = Tensor | Sequence[Any] | Mapping[str, Any]

DRAWS = 8
"""Draws of the noise that each figure is a mean over."""
WEAKEST, STRONGEST = 1e-4, 0.95
"""Where `calibrate` looks for an eps."""
QUANTITY = statistics.median_high
"""What of the noise-to-signal at the places `calibrate` sets, as `Strength.ratio`: the median over the places.

Measured before training, beside the errors after it (experiments/predict.py and earlier runs). Of the quantities that
were looked at it is the one whose good range is nearest to the same in all networks: the noise helped a LeNet most at a
median of 2.5 (8x8 digits) and a WRN-16-1 at 1.7 (digits; on CIFAR-10 it stood 0.7 and lost 3 to 5 points at 1.4), and a
pretrained EfficientNet-Lite0, given new BatchNorm statistics, stood 0.5 and was harmed at 1.8. The ratio at the logits
does not tell: it is 6.5 and 2.7 where the first two gained most, and 1.9 where the last was harmed; in a ConvNeXt it
stays 0, as its branches begin at 1e-6. Nor does the gradient's cosine: 0.6 and 0.35 there, 0.07 where the Lite0 stood.
"""
RATIO = 0.5
"""The ratio that ``eps="auto"`` sets: the largest at which no network that was measured was significantly worse.

It errs on the safe side: networks that fit their images gain more at 1 to 2.5, and `resolute tune` looks there. Ten
seeds of a fine-tuned EfficientNet-Lite0; on CIFAR-10 a fast-cifar-32 lost 0.6 points at 0.3 and 5 at 1, one seed.
"""

DROWNS, DROWNS_WITH_BATCHNORM = 3.0, 1.2
"""The ratios above which a first training step warns.

Without BatchNorm nothing was harmed up to 2.5, and nothing above it was measured. With BatchNorm a WRN-16-1 had lost 3
to 5 points on CIFAR-10 at 1.4, and the error of a pretrained EfficientNet-Lite0 had more than doubled at 1.8; on the
digits the WRN gained at 1.7 even so.
"""
_FEWEST = 8
"""Images of a step that tell anything of the signal."""


@dataclass(frozen=True, slots=True)
class Strength:
    """What the noise does to a network on one batch, in training mode.

    A noise-to-signal ratio is the deviation of a layer's values between draws of the noise, over their deviation
    between the images of the batch without it, each a root mean square over all values.

    Attributes:
        eps: The strength that was measured.
        ratio: Noise-to-signal of the network: the median over its places. `calibrate` finds the eps for it.
        logits: Noise-to-signal of the network's output.
        places: Noise-to-signal of what leaves each place, its own noise and that of earlier places included, by the
            module's name. Places that the batch does not pass, or that are in evaluation mode, are missing.
        cosine: Cosine of the loss's gradient by all parameters with the one without noise, mean over the draws, in
            [-1, 1]; NaN where no parameter is trained.
    """

    eps: float
    ratio: float
    logits: float
    places: dict[str, float]
    cosine: float


def strength(
    model: nn.Module,
    batch: Batch,
    eps: float = 0.1,
    p: float = 0.5,
    where: Where = "hidden",
    *,
    grain: Grain | tuple[Grain, int] = "element",
    spread: Spread = "fixed",
    share: float = 1.0,
    draws: int = DRAWS,
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
        grain: What one sign is for, as in `robustify`.
        spread: Strength of the samples, as in `robustify`.
        share: Share of the samples that get noise, as in `robustify`; the others count as samples without.
        draws: Draws of the noise, at least 2.

    Returns:
        Noise-to-signal at each place, of the network and of the logits, and the gradient's cosine.

    Raises:
        InputError: If a setting is out of range, ``where`` matches nothing, the batch has fewer than 2 images, no
            place of the noise is passed in training mode, or where the channels are is not certain.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> found = strength(model, torch.rand(16, 4), eps=0.2)
        >>> found.ratio > strength(model, torch.rand(16, 4), eps=0.1).ratio
        True
    """
    check_strength(eps, p)
    trial = _Trial(model, *_parts(batch), where, draws, as_groups(grain, spread, share))
    ratio, logits = trial.ratios(eps, p)
    return Strength(eps, ratio, logits, trial.by_place(), trial.cosine(eps, p))


def calibrate(
    model: nn.Module,
    batch: Batch,
    ratio: float = RATIO,
    p: float = 0.5,
    where: Where = "hidden",
    *,
    grain: Grain | tuple[Grain, int] = "element",
    spread: Spread = "fixed",
    share: float = 1.0,
    draws: int = DRAWS,
) -> float:
    """Find the eps at which the noise is ``ratio`` times the signal: the median over the places, as `Strength.ratio`.

    The same eps is strong in one network and weak in another; the same ratio means about the same in each.

    Args:
        model: Any module; it is not changed (see `strength`).
        batch: As in `strength`.
        ratio: Wanted noise-to-signal, above 0. At 0.5, the default, no network was significantly worse; small
            networks and those that are trained from the start may gain more at 1 to 2.5.
        p: Probability of the sign +1, as in `perturb`.
        where: The places, as in `robustify`.
        grain: What one sign is for, as in `robustify`.
        spread: Strength of the samples, as in `robustify`. ``"random"`` has a higher eps for the same ratio.
        share: Share of the samples that get noise, as in `robustify`. A lower one has a higher eps for the same ratio.
        draws: Draws of the noise, at least 2.

    Returns:
        eps, at most 0.95, of three digits, for a ratio that is met to 1 %.

    Warns:
        UserWarning: If even eps 0.95 gives a lower ratio; 0.95 is returned.

    Raises:
        InputError: As `strength`; if ratio is not a positive number; if even eps 0.0001 gives a higher ratio, as where
            the images of the batch are all alike.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> eps = calibrate(model, x := torch.rand(16, 4), ratio=0.2)
        >>> abs(strength(model, x, eps=eps).ratio - 0.2) < 0.01
        True
    """
    check_ratio(ratio)
    check_strength(0.0, p)
    return _fitting(_Trial(model, *_parts(batch), where, draws, as_groups(grain, spread, share)), ratio, p)


def _fitting(trial: _Trial, ratio: float, p: float) -> float:
    """Find the eps that has a ratio."""
    low, high = math.log(WEAKEST), math.log(STRONGEST)
    at = math.log(0.1)
    while high - low > 0.005:
        found = trial.ratios(math.exp(at), p)[0]
        low, high = (at, high) if found < ratio else (low, at)
        if abs(found / ratio - 1) < 0.005:
            break
        at += math.log(ratio / found) if 0 < found < math.inf else math.inf  # as if it were proportional
        at = at if low < at < high else (low + high) / 2
    else:
        at = high
        _check_reached(trial, ratio, p, low, high)
    return float(f"{math.exp(at):.3g}")


def check_ratio(ratio: float) -> None:
    """Refuse what is no noise-to-signal ratio."""
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < math.inf:
        raise InputError(f"ratio is {ratio!r}: it is noise over signal, a positive number such as {RATIO}.")


def _check_reached(trial: _Trial, ratio: float, p: float, low: float, high: float) -> None:
    """Tell of a ratio that no eps has."""
    if low == math.log(WEAKEST):
        raise InputError(
            f"noise-to-signal is above {ratio} even at eps {WEAKEST}: the images of the batch are all alike, or what "
            "the network makes of them is not finite. Give other images."
        )
    if high == math.log(STRONGEST) and (found := trial.ratios(STRONGEST, p)[0]) < ratio:
        if found == 0:
            raise InputError(f"no eps gives noise here: at p = {p}, or of zeros alone, it is the same at each draw.")
        warnings.warn(
            f"noise-to-signal {ratio} is more than eps can give here: at eps {STRONGEST}, which is taken, it is "
            f"{found:.2g}.",
            UserWarning,
            stacklevel=4,
        )


def said_of_own_noise(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Say that a network's noise is far above its signal, given what a training step calls it with; or nothing."""
    if not _may_run_again(model, [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]):
        return ""
    noises = {place: vars(module)["_resolute_noise"][place[1]] for place, module in places(model).items()}
    text = {name: escape(name) for name, _ in noises}
    suffix = {"input": ":input", "output": ""}
    trial = _Trial(model, args, kwargs, None, [text[name] + suffix[side] for name, side in noises], draws=2)
    for (name, side), noise in noises.items():
        place = trial.places[name + suffix[side]]
        place.noise, place.groups = noise, noise.groups
    ratio, _ = trial.spread()
    has_statistics = any(getattr(module, "running_var", None) is not None for module in model.modules())
    if not ratio > (DROWNS_WITH_BATCHNORM if has_statistics else DROWNS):
        return ""
    own = [site for site in sites(model) if site.eps is not None]
    eps, p = max(float(site.eps or 0) for site in own), own[0].p
    return (
        f"the noise of eps {eps:g} drowns the signal of this {type(model).__name__}: it is {_times(ratio)} as large "
        f"(noise-to-signal, median over {len(own)} places). At eps {_fitting(trial, RATIO, 0.5 if p is None else p):g} "
        f"it would be {RATIO}, the default of auto: robustify(model, eps='auto', example=batch). See "
        "docs/any-network.md, How strong."
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times" if ratio < 100 else "over 100 times"


def _may_run_again(model: nn.Module, given: list[Tensor]) -> bool:
    """Tell whether a network may run once more within its own step, unseen, and learns anything of its signal."""
    hooked = torch.nn.modules.module._has_any_global_hook() or any(
        module._forward_hooks or module._forward_pre_hooks or isinstance(module, nn.SyncBatchNorm)
        for module in model.modules()
    )
    captured = torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()
    if hooked or captured or not model.training or any(kernels.choose(x) is None for x in given):
        return False
    return any(len(x) >= _FEWEST and bool((x[1:] != x[:1]).any()) for x in given if x.ndim and x.is_floating_point())


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
        if not total > noise:
            return math.nan if math.isnan(total) else math.inf if noise else 0.0
        return math.sqrt(noise / (total - noise))


class _Place:
    """The noise of one place, which notes what it returns, apart for each time that a pass comes by."""

    def __init__(self, groups: Groups | None) -> None:
        self.groups = groups
        self.noise: Callable[[Tensor], Tensor] | None = None
        self.calls = 0
        self.spreads: list[_Spread] = []

    def __call__(self, x: Tensor) -> Tensor:
        if self.noise is None:
            return x
        out = self.noise(x)
        self.spreads += [_Spread()] if self.calls == len(self.spreads) else []
        self.spreads[self.calls].add(out)
        self.calls += 1
        return out

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Perturb what enters a module, as a hook."""
        return perturb_input(module, self, args, kwargs) if module.training else None

    def after(self, module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor | None:  # noqa: ARG002
        """Perturb what leaves a module, as a hook."""
        return self(out) if module.training else None


class _Trial:
    """A copy of a network, of the same parameters, that runs with any strength at its places."""

    def __init__(
        self,
        model: nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        labels: Tensor | None,
        where: Where,
        draws: int,
        groups: Groups | None = None,
    ) -> None:
        check_model(model)
        n = next((len(x) for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim), 0)
        if n < 2 or draws < 2:
            raise InputError(f"strength got {n} images and {draws} draws: both must be at least 2.")
        _check_forwards(model)
        self.args, self.kwargs, self.labels, self.draws = args, kwargs, labels, draws
        self.copy = copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})
        for module in places(self.copy).values():
            vars(module)["_resolute_noise"] = {}
        if not model.training:
            self.copy.train()
        for module in self.copy.modules():
            if isinstance(module, Perturb):
                module.eps = 0.0
            if "drop" in type(module).__name__.lower():
                module.eval()
        self.places = dict[str, _Place]()
        for (name, side), module in find_sites(self.copy, where).items():
            place = _Place(groups_at(self.copy, name, side, groups))
            self.places[name + (":input" if side == "input" else "")] = place
            if side == "input":
                module.register_forward_pre_hook(place.before, with_kwargs=True)
            else:
                module.register_forward_hook(place.after)

    def _set(self, eps: float, p: float) -> None:
        """Put one strength at all places."""
        for place in self.places.values():
            place.noise = functools.partial(noisy, eps=eps, level=signs.level(p), groups=place.groups) if eps else None

    def _logits(self) -> Tensor:
        """Run once, with the next draw of the noise."""
        for place in self.places.values():
            place.calls = 0
        args = [_own(each) for each in self.args]  # which a network may work on in place
        out = self.copy(*args, **{name: _own(each) for name, each in self.kwargs.items()})
        logits: Tensor = out[0] if isinstance(out, tuple | list) else getattr(out, "logits", out)
        return logits

    def ratios(self, eps: float, p: float) -> tuple[float, float]:
        """Give the network's noise-to-signal and that of its output; note what leaves each place."""
        self._set(eps, p)
        return self.spread()

    def spread(self) -> tuple[float, float]:
        """Do so with the noise that is set."""
        for place in self.places.values():
            place.spreads = []
        output = _Spread()
        with self._alone(), torch.no_grad():
            for _ in range(self.draws):
                output.add(self._logits())
        if not (found := self.by_place()) and any(place.noise for place in self.places.values()):
            raise InputError(
                f"this batch passes none of the {len(self.places)} places of the noise, such as "
                f"{next(iter(self.places))!r}, in training mode: they are in eval(), or the network does not call them."
            )
        return QUANTITY(found.values()) if found else 0.0, output.ratio

    def by_place(self) -> dict[str, float]:
        """Give the noise-to-signal that was noted at each place: of all times that a pass comes by, the largest."""
        passed = {name: place.spreads for name, place in self.places.items() if place.spreads}
        return {name: max(spread.ratio for spread in spreads) for name, spreads in passed.items()}

    def cosine(self, eps: float, p: float) -> float:
        """Compare the gradient with the one without noise."""
        if not self._weights():
            return math.nan
        with self._alone(), torch.enable_grad():
            self._set(0.0, p)
            plain = self._gradient()
            self._set(eps, p)
            each = [F.cosine_similarity(plain, self._gradient(), 0) for _ in range(self.draws)]
        return float(torch.stack(each).mean())

    def _gradient(self) -> Tensor:
        logits = self._logits()
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
        # Autocast would keep what it casts here, without a gradient, for the training step around it.
        cached = torch.is_autocast_cache_enabled()
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            torch.manual_seed(0)
            torch.set_autocast_cache_enabled(False)
            try:
                yield
            finally:
                torch.set_autocast_cache_enabled(cached)


def _check_forwards(model: nn.Module) -> None:
    """Refuse a network that a copy is no copy of, as another tool has put something around a forward."""
    for name, module in model.named_modules():
        if "forward" in vars(module):
            raise InputError(
                f"{name or 'the model'!r} ({type(module).__name__}) has had its forward replaced, so no copy of it "
                "can be measured. Call strength before the tool that did so."
            )


def _own(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


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
