"""Example images that were got wrong, as small PNGs for the report."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resolute.evaluation import predict, shown_to, stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from resolute.assessment.subjects import Subject
    from resolute.data import Images
    from resolute.records import Key
    from resolute.suites import Shift

EACH = 4
"""Images shown of each shift."""
SHIFTS = 24
"""Shifts shown at most."""
SIDE = 112
"""Longest side of an example in pixels; smaller images are enlarged by whole factors."""


def examples(
    subjects: Sequence[Subject],
    images: Images,
    shifts: Sequence[Shift],
    seed: int,
    bits: Mapping[str, Mapping[Key, NDArray[np.bool_]]],
) -> list[dict[str, Any]]:
    """Show the first images that the first network got wrong, at the strongest severity of each shift.

    Args:
        subjects: The networks; the pictures are what the first one saw.
        images: The test images.
        shifts: All shifts.
        seed: Seed of the disturbances.
        bits: For each network and key a boolean array [n], True where the answer is right.

    Returns:
        For each shift its key and its images: index, PNG in base 64, the true class, and each network's answer to
        this very image.
    """
    strongest = {(shift.suite, shift.name): shift for shift in shifts}
    first = subjects[0]
    found = []
    for shift in list(strongest.values())[:SHIFTS]:
        wrong = np.flatnonzero(~bits[first.name][shift.key])[:EACH]
        if len(wrong):
            found.append(_of_shift(subjects, images, shift, seed, torch.from_numpy(wrong)))
    return found


def _of_shift(subjects: Sequence[Subject], images: Images, shift: Shift, seed: int, index: Tensor) -> dict[str, Any]:
    x, y = shown_to(subjects[0].model, stored(images, shift), shift, seed, index)
    said = {subject.name: predict(subject.model, x).argmax(1).tolist() for subject in subjects}
    names = images.info.class_names
    shown = [
        {
            "index": int(at),
            "png": png(picture),
            "truth": names[int(label)],
            "said": {name: names[answers[row]] for name, answers in said.items()},
        }
        for row, (at, picture, label) in enumerate(zip(index, x, y, strict=True))
    ]
    return {"suite": shift.suite, "shift": shift.name, "severity": shift.severity, "images": shown}


def png(x: Tensor) -> str:
    """Write an image as PNG in base 64.

    Args:
        x: float [C, H, W] in [0, 1], one channel or three.

    Returns:
        ASCII text.
    """
    from PIL import Image

    pixels = (x.detach().cpu() * 255).round().to(torch.uint8).movedim(0, -1).numpy()
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    longest = max(image.size)
    factor = max(1, SIDE // longest) if longest <= SIDE else SIDE / longest
    method = Image.Resampling.NEAREST if longest <= SIDE else Image.Resampling.BOX
    stream = io.BytesIO()
    image.resize((round(image.width * factor), round(image.height * factor)), method).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
