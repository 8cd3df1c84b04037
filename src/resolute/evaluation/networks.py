"""The networks to evaluate: a checkpoint of ours, a named network with weights, or what a function returns."""

from __future__ import annotations

import base64
import importlib
import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from resolute import models
from resolute.errors import InputError
from resolute.evaluation.measure import predict, shown_to, stored_images, weights_sha256
from resolute.models import checkpoint
from resolute.models.weights import load_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.data.dataset import DataInfo, Images
    from resolute.evaluation.measure import Floats
    from resolute.run_folder import Key
    from resolute.shifts.shift import Shift


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A finished network and its name.

    Attributes:
        name: What tables call it.
        model: Images in [0, 1] in, logits out; in evaluation mode.
        architecture: Name of the network, for records.
        sha256: Hash of all weights and of the printed architecture.
    """

    name: str
    model: nn.Module
    architecture: str
    sha256: str


def from_checkpoint(folder: Path, info: DataInfo) -> Network:
    """Load a checkpoint that `resolute compare` wrote. Nothing in it is executed."""
    if not folder.exists():
        raise InputError(f"there is no folder {folder}. A network is a folder cells/METHOD-seedN of a run.")
    if not (folder / checkpoint.SPEC).exists():
        cells = sorted(path.parent for path in folder.glob(f"cells/*/{checkpoint.SPEC}"))
        hint = f" This is a run: give one of its cells, such as {cells[0]}." if cells else ""
        raise InputError(f"{folder} holds no {checkpoint.SPEC}: a checkpoint is a folder cells/METHOD-seedN.{hint}")
    spec = checkpoint.read_spec(folder)
    _check_spec(folder, spec, info)
    name = f"{spec['method']}-seed{spec['seed']}" if {"method", "seed"} <= spec.keys() else folder.resolve().name
    return named(name, checkpoint.load_network(folder).eval(), str(spec["name"]))


def _check_spec(folder: Path, spec: dict[str, Any], info: DataInfo) -> None:
    if spec["classes"] != info.classes or tuple(spec["shape"]) != info.shape:
        raise InputError(
            f"{folder} was trained on {spec['classes']} classes of {_times(spec['shape'])} pixels, and {info.name} has "
            f"{info.classes} of {_times(info.shape)}: give the data that it was trained for (--data, --size)."
        )
    if (resized := spec.get("interpolation", "bilinear")) != info.interpolation:
        raise InputError(
            f"{folder} was trained on images that were resized by {resized} interpolation, and these were by "
            f"{info.interpolation}: --interpolation {resized}."
        )
    names = spec.get("class_names")
    if names and tuple(names) != info.class_names:
        at = next(i for i, (ours, theirs) in enumerate(zip(names, info.class_names, strict=True)) if ours != theirs)
        raise InputError(
            f"{folder} calls class {at} {names[at]!r}, and {info.name} calls it {info.class_names[at]!r}: give the "
            "data that it was trained for (--data)."
        )


def _times(shape: Any) -> str:
    return "x".join(map(str, shape))


def from_name(name: str, weights: Path, info: DataInfo) -> Network:
    """Build a named network and load a file of weights into it."""
    model = models.build(name, classes=info.classes, shape=info.shape)
    load_weights(model, weights, name)
    return named(weights.stem, model.eval(), name)


def from_factory(target: str) -> Network:
    """Call a function of the user's own, which runs their code."""
    module, _, function = target.partition(":")
    if not module or not function:
        raise InputError(f"--factory got {target!r}; it is package.module:function.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise InputError(f"--factory {target}: {error}. It must be importable from here.") from error
    model = make()
    if not isinstance(model, nn.Module):
        raise InputError(f"--factory {target} returned a {type(model).__name__}; wanted is a torch.nn.Module.")
    return named(function, model.eval(), target)


def named(name: str, model: nn.Module, architecture: str) -> Network:
    """Give a network a name and the hash that it is known by."""
    return Network(name, model, architecture, weights_sha256(model))


EACH = 4
"""Images shown of each shift."""
SHIFTS = 24
"""Shifts shown at most."""
PICTURE_SIDE = 112
"""Longest side of an example in pixels; smaller images are enlarged by whole factors."""


def examples(
    networks: Sequence[Network],
    images: Images | Floats,
    shifts: Sequence[Shift],
    seed: int,
    order: Tensor,
    right: Mapping[Key, NDArray[np.bool_]],
) -> list[dict[str, Any]]:
    """Show the first images that the first network got wrong, at the strongest severity of each shift."""
    found = []
    for shift in list({(shift.suite, shift.name): shift for shift in shifts}.values())[:SHIFTS]:
        wrong = order[np.flatnonzero(~right[shift.key])[:EACH]]
        if len(wrong) and (shown := _of_shift(networks, images, shift, seed, wrong)):
            found.append({"suite": shift.suite, "shift": shift.name, "severity": shift.severity, "images": shown})
    return found


def _of_shift(
    networks: Sequence[Network], images: Images | Floats, shift: Shift, seed: int, index: Tensor
) -> list[dict[str, Any]]:
    x, y = shown_to(networks[0].model, stored_images(images, shift), shift, seed, index)
    names = images.info.class_names
    said = {network.name: _said(predict(network.model, x), names) for network in networks}
    shown: list[dict[str, Any]] = [
        {
            "index": int(at),
            "png": png(picture),
            "truth": names[int(label)],
            "said": {name: answers[row] for name, answers in said.items()},
        }
        for row, (at, picture, label) in enumerate(zip(index, x, y, strict=True))
    ]
    # What draws for a batch draws otherwise for these few: an image that it fails to fool is no example.
    return [one for one in shown if one["said"][networks[0].name] != one["truth"] or not shift.block]


def _said(logits: Tensor, names: Sequence[str]) -> list[str]:
    finite = logits.isfinite().all(1).tolist()
    return [names[at] if good else "not a number" for at, good in zip(logits.argmax(1).tolist(), finite, strict=True)]


def png(x: Tensor) -> str:
    """Write an image as PNG in base 64."""
    from PIL import Image

    pixels = (x.detach().cpu() * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    longest = max(image.size)
    factor = max(1, PICTURE_SIDE // longest) if longest <= PICTURE_SIDE else PICTURE_SIDE / longest
    method = Image.Resampling.NEAREST if longest <= PICTURE_SIDE else Image.Resampling.BOX
    stream = io.BytesIO()
    image.resize((round(image.width * factor), round(image.height * factor)), method).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
