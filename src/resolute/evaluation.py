"""How often a network is right, on clean images and on shifted ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from resolute import counter, suites
from resolute.attacks import evaluating
from resolute.data import Images, batches, load
from resolute.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from resolute.records import Key


def evaluate(
    model: nn.Module,
    data: Images | str,
    suites: Sequence[str] = ("clean",),
    seed: int = 0,
    *,
    name: str = "model",
    method: str = "-",
    run_seed: int = 0,
    batch_size: int = 500,
) -> list[Record]:
    """Count right answers under each shift of some suites.

    The network is in evaluation mode meanwhile and has its modes back afterwards.

    Args:
        model: Images in [0, 1] in, logits out; on the device where it shall run.
        data: The test images, or the name or path of a data set whose test split is taken.
        suites: Names in ``suites.SUITES``.
        seed: Seed of the disturbances. Each image's are a function of (seed, shift, severity, index) alone.
        name: The network's name in the records.
        method: The training method's name in the records.
        run_seed: Seed of the training run in the records.
        batch_size: Images in a batch.

    Returns:
        One record for each shift and severity.

    Example:
        >>> import resolute
        >>> model = resolute.models.build("lenet", classes=10, shape=(1, 8, 8))
        >>> [record] = evaluate(model, "digits")
        >>> record.suite, record.n
        ('clean', 898)
    """
    images = load(data, split="test") if isinstance(data, str) else data
    bits = measure(model, images, suites, seed, batch_size=batch_size)
    return records(bits, data=images.info.name, model=name, method=method, seed=run_seed)


def measure(
    model: nn.Module,
    images: Images,
    suite_names: Sequence[str],
    seed: int = 0,
    *,
    batch_size: int = 500,
    on_shift: Callable[[], None] | None = None,
) -> dict[Key, NDArray[np.bool_]]:
    """Tell image by image whether a network is right under each shift.

    Args:
        model: As in `evaluate`.
        images: The test images.
        suite_names: Names in ``suites.SUITES``.
        seed: Seed of the disturbances.
        batch_size: Images in a batch.
        on_shift: Called after each shift.

    Returns:
        For each (suite, shift, severity) a boolean array [n], True where the answer is right.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    bits = {}
    with evaluating(model):
        for shift in suites.find(suite_names, images.info):
            seeds = counter.fold(counter.key(seed, *shift.key), torch.arange(len(images), device=device))
            shown = shift.stored(images) if shift.stored else images
            right = []
            for (x, y), part in zip(batches(shown, batch_size, device=device), seeds.split(batch_size), strict=True):
                shifted = shift.apply(model, x, y, part)
                with torch.no_grad():
                    right.append(model(shifted).argmax(1) == y)
            bits[shift.key] = torch.cat(right).cpu().numpy()
            if on_shift:
                on_shift()
    return bits


def records(bits: dict[Key, NDArray[np.bool_]], *, data: str, model: str, method: str, seed: int) -> list[Record]:
    """Count the bits of `measure`.

    Args:
        bits: For each (suite, shift, severity) a boolean array [n].
        data: Name of the data set.
        model: Name of the network.
        method: Name of the training method.
        seed: Seed of the training run.

    Returns:
        One record for each key, in the order of the keys.
    """
    return [
        Record(data, model, method, seed, suite, shift, severity, int(right.sum()), len(right))
        for (suite, shift, severity), right in bits.items()
    ]
