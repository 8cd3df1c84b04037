"""Ways to train: what is put into the network before training, and what is done to each batch.

Every method is a value of the one `Method` type and runs in the one training loop. ``"r+fgsm"`` combines two, and
``"r@eps=0.3@where=both"`` is a variant: ``r`` with settings of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute import attacks
from resolute.config import Settings
from resolute.errors import InputError, check_strength, parse_radius, unknown
from resolute.noise.baselines import additive, dropout, gaussian
from resolute.noise.robustify import attach, robustify
from resolute.noise.strength import RATIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["METHODS", "PGD_STEPS", "Method", "Settings", "find_method", "settings_of"]

PGD_STEPS = 7
"""As in Madry et al. (2018) on CIFAR-10: radius 8/255, steps of 2/255."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train.

    Attributes:
        name: Its name in `METHODS`, in records and on the command line.
        prepare: ``(model, settings) -> model``, called once before training; may put noise into the network.
        perturb_batch: ``(model, x, y, settings) -> (x', y')``, called at each step; the loss is the mean over the
            batch that it returns. x is float [n, C, H, W] in [0, 1], y int64 [n].
        passes: Forward-backward passes over a batch of the given size that a step costs.
        about: What it is, in a line.
    """

    name: str
    prepare: Callable[[nn.Module, Settings], nn.Module]
    perturb_batch: Callable[[nn.Module, Tensor, Tensor, Settings], tuple[Tensor, Tensor]]
    passes: int
    about: str


def _plain_model(model: nn.Module, settings: Settings) -> nn.Module:  # noqa: ARG001
    return model


def _plain_batch(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:  # noqa: ARG001
    return x, y


def _robust_model(model: nn.Module, settings: Settings) -> nn.Module:
    return robustify(model, settings.eps, settings.p, settings.where, **settings.form)


def _noisy_model(model: nn.Module, settings: Settings, *, noise: Callable[..., Tensor]) -> nn.Module:
    check_strength(settings.eps)  # type: ignore[arg-type]  # it refuses auto, too
    return attach(model, functools.partial(noise, eps=settings.eps), settings.where)


def _with(noise: Callable[..., Tensor]) -> Callable[[nn.Module, Settings], nn.Module]:
    return functools.partial(_noisy_model, noise=noise)


def _half_adversarial(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    # Goodfellow's loss, J(x)/2 + J(x')/2, is the mean over the clean batch and its attacked copy. The copy is crafted
    # in evaluation mode (see attacks.fgsm) and learned in training mode: one gradient pass crafts, two learn.
    return torch.cat([x, attacks.fgsm(model, x, y, _radius(settings), check=False)]), torch.cat([y, y])


def _adversarial(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    # Madry's saddle point: the network learns attacked images alone, crafted in evaluation mode.
    radius = _radius(settings)
    return attacks.pgd(model, x, y, radius, radius / 4, PGD_STEPS, check=False), y


def _radius(settings: Settings) -> float:
    if settings.radius is None:
        raise InputError("adversarial training needs a radius in pixel units: Settings(radius=8 / 255).")
    return parse_radius(settings.radius)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("base", _plain_model, _plain_batch, 1, "plain training"),
        Method("fgsm", _plain_model, _half_adversarial, 3, "half clean, half FGSM examples (Goodfellow et al. 2014)"),
        Method("pgd", _plain_model, _adversarial, 1 + PGD_STEPS, "PGD examples only, 7 steps (Madry et al. 2018)"),
        Method("r", _robust_model, _plain_batch, 1, "sign noise x + eps * x * l(x) (the paper)"),
        Method(
            "gaussian", _with(gaussian), _plain_batch, 1, "control: Gaussian factor of the same power at each place"
        ),
        Method("additive", _with(additive), _plain_batch, 1, "control: Gaussian noise of the same mean power"),
        Method("dropout", _with(dropout), _plain_batch, 1, "control: dropout of the same power"),
    )
}


def find_method(name: str) -> Method:
    """Look a method up, or combine several: ``"r+fgsm"`` prepares as ``r`` does and perturbs batches as ``fgsm``."""
    # Settings may follow, each after an ``@``: ``"r@eps=0.3@where=both"`` is ``r`` with these and not the comparison's.
    if "@" in name:
        return _variant(canonical(name))
    return functools.reduce(_combined, _parts(name))


def _parts(name: str) -> list[Method]:
    """The methods that a name joins; noise first, as the order of noise and attack makes no difference."""
    parts = name.split("+")
    for part in parts:
        if part not in METHODS:
            raise InputError(unknown("method", part, METHODS))
    found = sorted((METHODS[part] for part in parts), key=lambda method: method.prepare is _plain_model)
    noisy = [method for method in found if method.prepare is not _plain_model]
    if len(noisy) > 1 or len(set(parts)) < len(parts):
        raise InputError(f"method {name!r}: each may stand there once, and one of them may put noise into the network.")
    return [method for method in found if method.name != "base"] or found


def canonical(name: str) -> str:
    """Write a method or a variant in its one way: ``r@eps=.10@where=both`` and the like as ``r@eps=0.1@where=both``."""
    changes = _changes(name)
    plain = "+".join(method.name for method in _parts(name.partition("@")[0]))
    if "ratio" in changes:
        del changes["eps"]  # auto, which a ratio says too
    return "".join([plain, *(f"@{key}={_shortest(changes[key])}" for key in SETTINGS if key in changes)])


def _shortest(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}" if float(f"{value:g}") == value else repr(value)


SETTINGS = ("eps", "ratio", "where", "p", "grain", "spread", "share", "radius", "eps_schedule")
"""What may follow a method's name, in this order."""
_OF_SIGNS = ("p", "grain", "spread", "share")
_OF_WORDS = ("where", "grain", "spread", "eps_schedule")


def settings_of(name: str, settings: Settings) -> Settings:
    """Tell what a method, or a variant of one, is trained with in a comparison."""
    changes: dict[str, Any] = _changes(name)
    if changes.get("eps", "auto") != "auto":
        changes["ratio"] = None
    own = dataclasses.replace(settings, **changes)
    return dataclasses.replace(own, ratio=RATIO) if own.eps == "auto" and own.ratio is None else own


def with_eps(method: Method, settings: Settings, choose: Callable[[Settings], float]) -> tuple[Method, Settings]:
    """Put a number in the place of eps "auto", which ``choose`` is asked for where the method has noise."""
    own, plain = settings_of(method.name, settings), method.name.partition("@")[0]
    is_known = METHODS.keys() >= {*plain.split("+")}
    if own.eps != "auto" or (is_known and not _matters("eps", _parts(plain))):
        return method, settings
    if "@" in method.name:
        method = dataclasses.replace(find_method(plain), name=method.name)
    asked = own
    if is_known and not _matters("grain", _parts(plain)):  # the controls are of equal power whatever form r has
        asked = dataclasses.replace(own, grain="element", spread="fixed", share=1.0)
    return method, dataclasses.replace(own, eps=choose(asked), ratio=None)


def meaning(name: str, settings: Settings) -> tuple[object, ...]:
    """Give what tells two methods of a comparison apart: what is trained, and the settings that matter to it."""
    own, parts = settings_of(name, settings), _parts(name.partition("@")[0])
    return *(method.name for method in parts), *(getattr(own, key) for key in SETTINGS if _matters(key, parts))


def _matters(key: str, parts: Sequence[Method]) -> bool:
    if key in _OF_SIGNS:
        return any(method.name == "r" for method in parts)
    return any((method.prepare is _plain_model) == (key == "radius") and method.name != "base" for method in parts)


def _changes(name: str) -> dict[str, float | str]:
    plain, *given = name.split("@")
    changes: dict[str, float | str] = {}
    for part in given:
        key, _, text = part.partition("=")
        if key not in SETTINGS or not re.fullmatch(r"[\w./*?:\[\]-]+", text) or key in changes:
            raise InputError(
                f"method {name!r}: after each @ stands one of {', '.join(SETTINGS)}, each once, with a value: "
                "r@eps=0.3@where=both."
            )
        if not _matters(key, _parts(plain)):
            raise InputError(f"method {name!r}: {plain} has no {key}. Leave @{part} out.")
        as_it_is = key in _OF_WORDS or (key, text) == ("eps", "auto")
        changes[key] = text if as_it_is else parse_radius(text) if key == "radius" else _number(name, text)
    if "ratio" in changes and changes.setdefault("eps", "auto") != "auto":
        raise InputError(f"method {name!r}: a ratio is what eps auto is chosen by. Leave @eps or @ratio out.")
    return changes


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"method {name!r}: {text!r} is no number.") from None


def _variant(name: str) -> Method:
    settings_of(name, Settings())
    plain = find_method(name.partition("@")[0])
    return dataclasses.replace(
        plain,
        name=name,
        prepare=functools.partial(_prepare_variant, plain=plain, name=name),
        perturb_batch=functools.partial(_perturb_variant, plain=plain, name=name),
    )


def _prepare_variant(model: nn.Module, settings: Settings, *, plain: Method, name: str) -> nn.Module:
    return plain.prepare(model, settings_of(name, settings))


def _perturb_variant(
    model: nn.Module, x: Tensor, y: Tensor, settings: Settings, *, plain: Method, name: str
) -> tuple[Tensor, Tensor]:
    return plain.perturb_batch(model, x, y, settings_of(name, settings))


def _combined(first: Method, second: Method) -> Method:
    return Method(
        f"{first.name}+{second.name}",
        functools.partial(_prepare_in_turn, first=first, second=second),
        functools.partial(_perturb_in_turn, first=first, second=second),
        first.passes + second.passes - 1,
        f"{first.about}, and {second.about}",
    )


def _prepare_in_turn(model: nn.Module, settings: Settings, *, first: Method, second: Method) -> nn.Module:
    return second.prepare(first.prepare(model, settings), settings)


def _perturb_in_turn(
    model: nn.Module, x: Tensor, y: Tensor, settings: Settings, *, first: Method, second: Method
) -> tuple[Tensor, Tensor]:
    return second.perturb_batch(model, *first.perturb_batch(model, x, y, settings), settings)
