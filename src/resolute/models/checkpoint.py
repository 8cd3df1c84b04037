"""A trained network on disk: weights, and JSON that says how to build it again; and what other programs write."""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from resolute import models
from resolute.errors import InputError
from resolute.run_folder import read_json, write_atomic, write_sealed
from resolute.safe_io import check_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

WEIGHTS_FILE = "weights.safetensors"
SPEC = "model.json"
WEIGHTS_SHA256 = "weights_sha256"
FORMAT = "format"
"""2 since ``lenet`` has a ReLU after each hidden layer; without it, ``lenet`` is what is ``lenet-caffe`` now."""
MOST_CLASSES = 100_000
"""ImageNet-21k has 21,841."""
_HUGE = r"^[^/]*\d{4}|\d{5}"
"""Depths and widths of our own networks have three digits at most; in timm's names are numbers such as 1280."""
MOST_SIDE = 2048
"""Pixels of a side, and channels, that a stored network may ask for."""


def save_network(model: nn.Module, folder: Path, spec: dict[str, Any]) -> None:
    """Write a network, each file atomically.

    Args:
        model: A network of `models.build`.
        folder: Where to; made if missing.
        spec: The arguments of `models.build` as ``{"name": ..., "classes": ..., "shape": ..., ...}``, and anything
            else worth keeping under other keys.
    """
    from safetensors.torch import save as to_bytes

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(folder / WEIGHTS_FILE, to_bytes(tensors))
    checksum = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    write_sealed(folder / SPEC, spec | {WEIGHTS_SHA256: checksum, FORMAT: 2})


def load_network(folder: Path) -> nn.Module:
    """Build a network that `save` wrote. Nothing of the folder is executed.

    Args:
        folder: Where it is.

    Returns:
        The network with its weights, in evaluation mode.

    Raises:
        InputError: If a file is missing or does not fit the other.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    spec = read_spec(folder)
    arguments = {"classes": spec["classes"], "shape": tuple(spec["shape"])}
    _check_weights(folder, spec)
    try:
        _check_size(folder, str(spec["name"]), arguments)
        model = models.build(spec["name"], **arguments)
        model.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"cannot load the network in {folder}: {error}. Train it again.") from error
    return model.eval()


def _check_weights(folder: Path, spec: dict[str, Any]) -> None:
    """Refuse weights that are not those that were saved; earlier versions did not store their checksum."""
    file = folder / WEIGHTS_FILE
    if WEIGHTS_SHA256 in spec and file.is_file():
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found != spec[WEIGHTS_SHA256]:
            raise InputError(f"{file} is damaged: its content is not what {SPEC} says. Restore it, or train it again.")


def read_spec(folder: Path) -> dict[str, Any]:
    """Read what a checkpoint says of its network, and check it against what `save` writes."""
    spec = read_json(folder / SPEC)
    reason = _wrong(spec) if isinstance(spec, dict) else "it holds no names and values"
    if reason:
        raise InputError(f"{folder / SPEC} does not describe a network: {reason}. Train it again.")
    was_caffe = FORMAT not in spec and spec["name"] == "lenet"
    return {**spec, "name": "lenet-caffe"} if was_caffe else dict(spec)


def _wrong(spec: dict[str, Any]) -> str:
    name, classes, shape = (spec.get(key) for key in ("name", "classes", "shape"))
    names = spec.get("class_names") or []
    good = {
        "name": isinstance(name, str) and not re.search(_HUGE, name) and len(name) < 200,
        "classes": type(classes) is int and 2 <= classes <= MOST_CLASSES,
        "shape": isinstance(shape, list)
        and len(shape) == 3
        and all(type(k) is int and 0 < k <= MOST_SIDE for k in shape),
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "method": isinstance(spec.get("method", ""), str),
        "seed": type(spec.get("seed", 0)) is int,
    }
    if all(good.values()) and names and len(names) != classes:
        return f"it names {len(names)} of {classes} classes"
    return ", ".join(f"{key} is {spec.get(key)!r:.60}" for key, holds in good.items() if not holds)


def _check_size(folder: Path, name: str, arguments: dict[str, Any]) -> None:
    """Refuse a network whose weights are not those of the file, before it takes any memory."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS_FILE, "pt") as file:
        stored = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 it is no dict
    if not any(arguments["classes"] in shape for shape in stored.values()):
        raise ValueError(f"none of its weights is of {arguments['classes']:,} classes")
    try:
        with torch.device("meta"):
            wanted = {key: tuple(part.shape) for key, part in models.build(name, **arguments).state_dict().items()}
    except InputError:  # some networks cannot be built without numbers: what is wrong is told as they are built
        return
    differing = [key for key in sorted(wanted.keys() | stored.keys()) if wanted.get(key) != stored.get(key)]
    if differing:
        raise ValueError(f"{len(differing)} of its weights are not those of {name}, such as {differing[0]}")


NESTED = ("state_dict_ema", "ema_state_dict", "model_ema", "state_dict", "model_state_dict", "model")
"""Where training programs keep the weights in their files; a moving average goes first, as with timm."""
WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod)\.")
"""What DDP and torch.compile put into the names of weights."""
COUNTER = "n_averaged"
"""What torch's AveragedModel has beside the network."""
INERT: list[Any] = [argparse.Namespace, pathlib.PosixPath, pathlib.PurePosixPath]
"""Classes that run no code of a file; programs keep their arguments in them, timm and torchvision's among others."""


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a file of weights that another program wrote. Nothing in it is executed.

    Args:
        model: A network of `models.build`; it gets the weights.
        path: A file of safetensors, or what torch.save wrote: weights by name, also below one of `NESTED`, with the
            prefixes of DDP and torch.compile, and with a prefix of a module around the network, such as Lightning's
            ``model.``.
        name: The network's name, for messages.

    Raises:
        InputError: If the file cannot be read safely, or its weights are not those of the network.
    """
    stored = _read_weights(path)
    tensors = {WRAPPERS.sub("", key): tensor for key, tensor in stored.items() if key != COUNTER}
    network = model.get_submodule("network")
    for target in (model, network):
        wanted = {key: tuple(tensor.shape) for key, tensor in target.state_dict().items()}
        prefixes = _prefixes(tensors, wanted)
        if len(prefixes) > 1:
            raise InputError(
                f"{path} holds {len(prefixes)} networks, {' and '.join(prefixes)}: save the one meant alone."
            )
        if prefixes:
            own = {key: tensors[prefixes[0] + key] for key in wanted}
            _check_shapes(path, name, {key: tuple(tensor.shape) for key, tensor in own.items()}, wanted)
            target.load_state_dict(own)
            return
    missing, foreign = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    told = [f"{len(keys):,} {what}, such as {keys[0]}" for what, keys in
            (("are missing", missing), ("are not of it", foreign)) if keys]  # fmt: skip
    raise InputError(f"the weights in {path} are not those of {name}: {'; '.join(told)}. Give the network's own name.")


def _prefixes(tensors: dict[str, Tensor], wanted: dict[str, Any]) -> list[str]:
    """List what stands before the names of a whole network; without a prefix there must be nothing but the network."""
    first = next(iter(wanted))
    found = [key.removesuffix(first) for key in tensors if key == first or key.endswith(f".{first}")]
    below = {prefix: {key.removeprefix(prefix) for key in tensors if key.startswith(prefix)} for prefix in found}
    return [prefix for prefix, keys in below.items() if keys == wanted.keys()]


def _check_shapes(path: Path, name: str, own: dict[str, Any], wanted: dict[str, Any]) -> None:
    differing = [key for key in wanted if own[key] != wanted[key]]
    if not differing:
        return
    last = differing[-1]
    sizes = [f"{'x'.join(map(str, shape)) or 'a number'}" for shape in (own[last], wanted[last])]
    heads = [key for key in differing if own[key][1:] == wanted[key][1:] and own[key][:1] == own[last][:1]]
    if heads == differing and wanted[last]:
        raise InputError(
            f"the weights in {path} are of {own[last][0]:,} classes, and {wanted[last][0]:,} are wanted ({last} is "
            f"{sizes[0]} instead of {sizes[1]}): give the data that they were trained for (--data), or train {name} on "
            "this data first."
        )
    raise InputError(
        f"the weights in {path} are of another {name}: {len(differing):,} differ in size, such as {last}, {sizes[0]} "
        f"instead of {sizes[1]}. Give the data that they were trained for (--data, --size)."
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        check_tensors(path)
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
    return stored


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
