"""How a network is asked while its curvature is measured: each draw of the noise is frozen, and nothing else moves.

BatchNorm, Dropout and stochastic depth are in evaluation mode. The noise that `robustify` or a control method put into
the network is silent with 0 draws. With D >= 1 it sounds, and what is measured is the mean over D draws of signs: each
draw is a function of (seed, draw, batch), so that the same batch meets the same signs in every product with a vector,
and the Hessian is one symmetric matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from resolute import counter
from resolute.attacks import evaluating
from resolute.errors import InputError
from resolute.surgery import carriers

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""``(model, x, y) -> mean loss over the images``, a scalar."""
Batches = Iterable[tuple[Tensor, Tensor]]
"""Pairs (x, y), gone through again for each product: a list, or anything else whose ``iter`` begins anew."""


@contextmanager
def listening(model: nn.Module, noise: bool) -> Iterator[None]:
    """Hold a network in evaluation mode, but for its noise where that is asked for.

    Args:
        model: The network.
        noise: Whether the modules that carry noise shall add it. Only these are in training mode, not what they hold.

    Yields:
        Nothing.

    Raises:
        InputError: If noise is asked for and the network carries none.
    """
    loud = carriers(model) if noise else []
    if noise and not loud:
        raise InputError("draws of the noise are asked for and the network carries none: robustify it, or use draws=0.")
    with evaluating(model):
        for module in loud:
            module.training = True
        yield


@contextmanager
def frozen_draw(draws: int, seed: int, draw: int, batch: int) -> Iterator[None]:
    """Make what is drawn inside a function of (seed, draw, batch), and give torch's generators back as they were.

    Args:
        draws: How many draws there are; nothing is done at 0.
        seed: Seed of the measurement.
        draw: Which draw.
        batch: Which batch.

    Yields:
        Nothing.
    """
    if not draws:
        yield
        return
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(counter.key(seed, "curvature", draw, batch))
        yield


def walk(model: nn.Module, data: Batches) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Go through the batches on the network's device, in its precision.

    Args:
        model: The network.
        data: Batches of images and labels.

    Yields:
        ``(number of the batch, x, y)``.

    Raises:
        InputError: If the data can be gone through only once, or there is none.
    """
    if iter(data) is data:
        raise InputError("the batches can be gone through only once and are needed for each product: give a list.")
    like = next(model.parameters())
    empty = True
    for batch, (x, y) in enumerate(data):
        empty = False
        yield batch, x.to(device=like.device, dtype=like.dtype), y.to(like.device)
    if empty:
        raise InputError("there are no batches to measure on.")
