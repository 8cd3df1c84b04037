"""A trained network on disk: weights, and JSON that says how to build it again."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, get_args

import torch

from resolute import models
from resolute.config import Interpolation
from resolute.errors import InputError
from resolute.run_folder import read_json, write_atomic, write_sealed

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
        "name": isinstance(name, str) and not re.search(_HUGE, name) and len(name) < 200 and ":" not in name,
        "classes": type(classes) is int and 2 <= classes <= MOST_CLASSES,
        "shape": isinstance(shape, list)
        and len(shape) == 3
        and all(type(k) is int and 0 < k <= MOST_SIDE for k in shape),
        "class_names": isinstance(names, list) and all(isinstance(name, str) for name in names),
        "interpolation": spec.get("interpolation", "bilinear") in get_args(Interpolation),
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
