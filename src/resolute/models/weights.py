"""Weights that other programs wrote, read safely, for a finished network or to start from; and which of them learn."""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute.errors import InputError
from resolute.models import loss as losses
from resolute.safe_io import check_tensors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.config import TrainConfig

NESTED = ("state_dict_ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model")
"""Where training programs keep the weights in their files; a moving average goes first, as with timm."""
WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")
"""What DDP and torch.compile put into the names of weights."""
COUNTER = "n_averaged"
"""What torch's AveragedModel has beside the network."""
INERT: list[Any] = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath]
"""Classes that run no code of a file; programs keep their arguments in them, timm and torchvision's among others."""

_Tensors = dict[str, Tensor]
_Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What a file of weights holds.

    Attributes:
        place: The file, for messages.
        sha256: SHA-256 of the file, which a figure made with it belongs to.
        tensors: Its tensors by name, without the prefixes of DDP and torch.compile.
    """

    place: str
    sha256: str
    tensors: _Tensors


def read_weights(path: Path) -> Weights:
    """Read a file of weights. Nothing in it is executed.

    Args:
        path: A file of safetensors, or what torch.save wrote: weights by name, also below one of `NESTED`.

    Returns:
        What it holds.

    Raises:
        InputError: If the file cannot be read safely, or holds no weights by name.
    """  # noqa: DOC501 `_unreadable` makes one
    from safetensors.torch import load_file

    try:
        check_tensors(path)
        with path.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
        with torch.serialization.safe_globals(INERT):
            stored: Any = (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except Exception as error:  # a broken file raises whatever its bytes happen to lead to
        raise _unreadable(path, error) from error
    for key in NESTED:
        if isinstance(stored, dict) and isinstance(stored.get(key), dict):
            stored = stored[key]
            break
    if not isinstance(stored, dict) or not stored or not all(isinstance(value, Tensor) for value in stored.values()):
        raise InputError(f"{path} holds no weights by name; wanted is what torch.save(model.state_dict()) writes.")
    tensors = {WRAPPERS.sub("", key): tensor for key, tensor in stored.items() if key != COUNTER}
    return Weights(str(path), sha256, tensors)


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load the weights of a finished network from a file that another program wrote.

    Args:
        model: A network of `models.build`; it gets the weights.
        path: A file as `read_weights` takes it; a prefix of a module around the network, such as Lightning's
            ``model.``, is passed over.
        name: The network's name, for messages.

    Raises:
        InputError: If the file cannot be read safely, or its weights are not those of the network.
    """  # noqa: DOC501 `_foreign` makes one
    found = read_weights(path)
    for target in (model, model.get_submodule("network")):
        wanted = _shapes(target.state_dict())
        if own := _matching(found, wanted):
            _check_shapes(found.place, name, _shapes(own), wanted)
            target.load_state_dict(own)
            return
    raise _foreign(found, name, wanted)


def start_from(
    model: nn.Module, found: Weights, name: str, classes: int, convert: Callable[[_Tensors], _Tensors] | None = None
) -> None:
    """Give a network pretrained weights; its last layer stays as it is where the weights are of other classes.

    Args:
        model: A network of `models.build` with new weights; it gets these, and the normalisation if it is there. A new
            last layer starts as torch draws it, by its generator, as when it is put in by hand.
        found: Weights of the same network, for any number of classes or without its last layer.
        name: The network's name, for messages.
        classes: Number of classes of the network.
        convert: The network's library's own reading of other forms: older names, other sizes of images. It gets and
            gives tensors by name, and raises if they are of another network.

    Raises:
        InputError: If they are not the network's weights.
    """  # noqa: DOC501 `_foreign` makes one
    network = model.get_submodule("network")
    layers = named_head(network, classes)
    for _, layer in layers:
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            layer.reset_parameters()  # what a library draws for training from scratch may be far too large
    heads = tuple(f"{name}." for name, _ in layers)
    state = network.state_dict()
    wanted, last = _shapes(state), frozenset(key for key in state if key.startswith(heads))
    around = _matching(found, _shapes(model.state_dict()), frozenset(f"network.{key}" for key in last)) or {}
    own = {key.removeprefix("network."): tensor for key, tensor in around.items()}
    normalisation = {key: own.pop(key) for key in around if key.startswith("normalize.")}
    own = own or _matching(found, wanted, last) or {}
    if convert and (not own or any(own[key].shape != state[key].shape for key in own.keys() - last)):
        try:
            own = _matching(replace(found, tensors=convert(own or found.tensors)), wanted, last) or own
        except Exception as error:  # whatever the library's reading of foreign names leads to
            if not own:
                raise _foreign(found, name, wanted) from error
    if not own:
        raise _foreign(found, name, wanted)
    if any(key not in own or own[key].shape != state[key].shape for key in last):
        own = {key: tensor for key, tensor in own.items() if key not in last}
    _check_shapes(found.place, name, _shapes(own), {key: wanted[key] for key in own})
    network.load_state_dict(state | own)
    model.load_state_dict(model.state_dict() | normalisation)


def named_head(network: nn.Module, classes: int) -> list[tuple[str, nn.Module]]:
    """Find the layers that give the logits: those that timm names, else the last that has so many outputs."""
    classifier = getattr(network, "get_classifier", None)
    given = classifier() if callable(classifier) else ()
    named = {id(module) for module in (given if isinstance(given, (tuple, list)) else (given,))}
    found = [(name, module) for name, module in network.named_modules() if id(module) in named]
    found = [(name, module) for name, module in found if any(True for _ in module.parameters())]
    for name, module in () if found else reversed([*network.named_modules()]):
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim > 1 and len(weight) == classes:
            return [(name, module)]
    return found


def learning(model: nn.Module, config: TrainConfig, classes: int) -> list[Any]:
    """Choose the parameters that learn, or groups of them with their rates; frozen ones want no gradient any more."""
    if config.freeze != "backbone" and config.backbone_lr_scale == 1:
        return [*model.parameters()]
    network = losses.network(model)
    last = [weight for _, layer in named_head(network, classes) for weight in layer.parameters()]
    if not last:
        raise InputError(
            f"the {type(network).__name__} has no last layer of {classes} outputs, beside which the rest is its "
            "backbone: leave freeze at none or bn, and backbone_lr_scale at 1."
        )
    known = {*map(id, last)}
    rest = [weight for weight in model.parameters() if id(weight) not in known]
    if config.freeze == "backbone":
        for weight in rest:
            weight.requires_grad_(False)
        return last
    return [{"params": last}, {"params": rest, "lr_scale": config.backbone_lr_scale}]


def hold_statistics(model: nn.Module, config: TrainConfig) -> None:
    """Put BatchNorm layers that keep statistics into evaluation mode where they are frozen, and nothing in them."""
    for module in model.modules() if config.freeze != "none" else ():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.training = False  # not by eval(), which would silence an activation in it


def _shapes(tensors: _Tensors) -> _Shapes:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _matching(found: Weights, wanted: _Shapes, last: frozenset[str] = frozenset()) -> _Tensors | None:
    """Take a whole network's tensors, of which the last layer's may be missing, from below a prefix, if it is one."""
    # Without a prefix there must be nothing but the network.
    body = wanted.keys() - last
    first = next(key for key in wanted if key in body)
    ends = [key.removesuffix(first) for key in found.tensors if key == first or key.endswith(f".{first}")]
    below = {end: {key.removeprefix(end) for key in found.tensors if key.startswith(end)} for end in ends}
    prefixes = [prefix for prefix, keys in below.items() if body <= keys <= wanted.keys()]
    if len(prefixes) > 1:
        raise InputError(
            f"{found.place} holds {len(prefixes)} networks, {' and '.join(prefixes)}: save the one meant alone."
        )
    if not prefixes:
        return None
    return {key: found.tensors[prefixes[0] + key] for key in wanted if prefixes[0] + key in found.tensors}


def _foreign(found: Weights, name: str, wanted: _Shapes) -> InputError:
    stored = {key.removeprefix("network.") for key in found.tensors if not key.startswith("normalize.")}
    missing, foreign = sorted(wanted.keys() - stored), sorted(stored - wanted.keys())
    told = [f"{len(keys):,} {what}, such as {keys[0]}" for what, keys in
            (("are missing", missing), ("are not of it", foreign)) if keys]  # fmt: skip
    return InputError(
        f"the weights in {found.place} are not those of {name}: {'; '.join(told)}. Give the network's own name."
    )


def _check_shapes(place: str, name: str, own: _Shapes, wanted: _Shapes) -> None:
    differing = [key for key in wanted if own[key] != wanted[key]]
    if not differing:
        return
    last = differing[-1]
    sizes = [f"{'x'.join(map(str, shape)) or 'a number'}" for shape in (own[last], wanted[last])]
    heads = [key for key in differing if own[key][1:] == wanted[key][1:] and own[key][:1] == own[last][:1]]
    if heads == differing and wanted[last]:
        raise InputError(
            f"the weights in {place} are of {own[last][0]:,} classes, and {wanted[last][0]:,} are wanted ({last} is "
            f"{sizes[0]} instead of {sizes[1]}): give the data that they were trained for (--data), or train {name} on "
            "this data first."
        )
    raise InputError(
        f"the weights in {place} are of another {name}: {len(differing):,} differ in size, such as {last}, {sizes[0]} "
        f"instead of {sizes[1]}. Give the data that they were trained for (--data, --size)."
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(" .")
    if found := re.search(r"GLOBAL (\S+) (?:was not|whose)", str(error)):
        reason = f"it holds {found[1]} beside tensors, and to load that is to run code"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    elif reason.startswith("Weights only load failed"):  # torch says how to load it nevertheless
        reason = "it is damaged, or holds more than tensors"
    return InputError(
        f"cannot read weights from {path}: {reason}. Give a .safetensors file, or what torch.save(model.state_dict()) "
        "writes."
    )
