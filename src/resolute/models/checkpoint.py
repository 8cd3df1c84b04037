"""A trained network on disk: weights as safetensors, and JSON that says how to build it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resolute import models
from resolute.errors import InputError
from resolute.records import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

WEIGHTS = "weights.safetensors"
SPEC = "model.json"


def save(model: nn.Module, folder: Path, spec: dict[str, Any]) -> None:
    """Write a network, each file atomically.

    Args:
        model: A network of `models.build`.
        folder: Where to; made if missing.
        spec: The arguments of `models.build` as ``{"name": ..., "classes": ..., "shape": ..., ...}``, and anything
            else worth keeping under other keys.
    """
    from safetensors.torch import save as to_bytes

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomic(folder / WEIGHTS, to_bytes(tensors))
    write_json(folder / SPEC, spec)


def load(folder: Path) -> nn.Module:
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

    spec = read_json(folder / SPEC)
    try:
        model = models.build(spec["name"], classes=spec["classes"], shape=tuple(spec["shape"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (KeyError, TypeError, ValueError, OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"cannot load the network in {folder}: {error}. Train it again.") from error
    return model.eval()
