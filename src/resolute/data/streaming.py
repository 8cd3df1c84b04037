"""Photographs that stay on the disk: each is read and decoded when a batch needs it, by worker processes.

What an image looks like is a function of ``(seed, epoch, position)`` and of nothing else, so that neither the number of
workers nor a stop in the middle of an epoch changes it. At most ``workers * PREFETCH + 1`` batches are in memory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from resolute.data.pixels import decode, decode_crop
from resolute.data.seeding import crop_generator
from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from resolute.data.pixels import Blob

PREFETCH = 2
"""Batches that each worker prepares ahead."""
MOST_WORKERS = 16
PATIENCE = 300.0
"""Seconds without a batch after which the workers count as hanging."""


class Blobs(Protocol):
    """Compressed images that can be had in order or one by one."""

    def read(self, i: int) -> Blob:
        """Give the image at a position."""

    def chunks(self) -> Iterator[list[Blob]]:
        """Go through all images in order, a few at a time."""

    def describe(self, i: int) -> str:
        """Name the image at a position, for messages."""

    def files(self) -> Iterator[Path]:
        """List the files that the images are in, each once."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """The pixels of a split that stays on the disk.

    Attributes:
        blobs: All images of the set, compressed.
        positions: int64 [n], where the split's images are among them.
        shape: ``(C, H, W)`` of every decoded image.
        resize: What the shorter side is resized to before the centre is cut out, where no crop is drawn.
        workers: Processes that decode; 0 to decode in this one.
        place: The folder, for messages.
    """

    blobs: Blobs
    positions: NDArray[np.int64]
    shape: tuple[int, int, int]
    resize: int
    workers: int
    place: str

    def pixels(self, i: int, crop: Crop | None) -> NDArray[np.uint8]:
        """Decode one image.

        Args:
            i: Its place in the split.
            crop: The random crop; None for the centre.

        Returns:
            uint8 [C, H, W].

        Raises:
            InputError: If it cannot be read.
        """
        position = int(self.positions[i])
        try:
            blob = self.blobs.read(position)
            if crop is None:
                return decode(blob, self.shape, self.resize)
            return decode_crop(blob, self.shape, crop.share, crop_generator(crop.seed, crop.epoch, position))
        except Exception as error:  # Pillow's decoders raise a dozen unrelated types for a broken file
            reason = str(error) or type(error).__name__
            raise InputError(
                f"{self.blobs.describe(position)} in {self.place} cannot be read ({reason}). Delete or replace it"
            ) from error


@dataclass(frozen=True, slots=True)
class Crop:
    """Random crops for one epoch.

    Attributes:
        share: Smallest share of the image's area; see ``Augment.crop``.
        seed: Seed of the run, 0 or more.
        epoch: Epoch, from 0.
    """

    share: float
    seed: int
    epoch: int


def decode_batches(stream: Stream, order: Tensor, batch_size: int, crop: Crop | None, pin: bool) -> Iterator[Tensor]:
    """Decode images in a given order.

    Args:
        stream: The set.
        order: int64 [m], the places in the split to visit.
        batch_size: Images a batch; the last batch holds the rest.
        crop: The random crops; None for the centre of each image.
        pin: Whether to put batches into page-locked memory, from which they go to a GPU at once.

    Yields:
        uint8 [b, C, H, W].

    Raises:
        InputError: If an image cannot be read.
    """
    from torch.utils.data import DataLoader

    todo = [part.tolist() for part in order.split(batch_size)] if len(order) else []
    workers = min(stream.workers, len(todo))
    loader: DataLoader[Any] = DataLoader(
        _Decoder(stream, crop),  # type: ignore[arg-type]
        sampler=todo,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # Without one of its own, it draws from torch's global generator.
        timeout=PATIENCE if workers else 0,
        worker_init_fn=_share_by_name,
    )
    answers = iter(loader)
    while (batch := _next(answers, stream.place)) is not None:
        if isinstance(batch, str):
            raise InputError(batch)
        yield batch


def _share_by_name(_worker: int) -> None:
    """Hand batches over by the name of a file in memory: for a descriptor one would wait for a worker that hangs."""
    torch.multiprocessing.set_sharing_strategy("file_system")


def _next(answers: Iterator[Any], place: str) -> Any:
    """Wait for the next batch; say in words why none comes."""
    try:
        return next(answers, None)
    except (RuntimeError, ConnectionError, EOFError) as error:
        if "timed out" in str(error):
            raise InputError(
                f"a process that decodes photographs gave nothing for {PATIENCE:.0f} s: is {place} on a disk that "
                "hangs? The last checkpoint is kept; the same command goes on from it."
            ) from error
        if isinstance(error, RuntimeError) and not is_loss(error):
            raise
        raise lost(error) from error


def is_loss(error: Exception) -> bool:
    """Tell whether an error says that a process that decodes was killed: torch raises it wherever one happens to be.

    Args:
        error: Any.

    Returns:
        True if it does.
    """
    return str(error).startswith("DataLoader worker")


def lost(error: Exception) -> InputError:
    """Say that a process that decodes was killed, and what to do.

    Args:
        error: How it was noticed.

    Returns:
        What is to be raised.
    """
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(
        f"a process that decodes photographs was killed ({said}): is the memory full? RESOLUTE_WORKERS=N starts fewer. "
        "The last checkpoint is kept; the same command goes on from it."
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Decoder:
    stream: Stream
    crop: Crop | None

    def __getitem__(self, places: list[int]) -> Tensor | str:
        """Decode a batch. A refusal comes back as its text: a worker's exception would bring its traceback along."""
        out = np.empty((len(places), *self.stream.shape), dtype=np.uint8)
        try:
            for slot, i in enumerate(places):
                out[slot] = self.stream.pixels(i, self.crop)
        except InputError as error:
            return str(error)
        return torch.from_numpy(out)


def worker_count() -> int:
    """Say how many processes decode photographs.

    Returns:
        The variable RESOLUTE_WORKERS, else the number of processors that this process may use, at most 16.

    Raises:
        InputError: If the variable is not a whole number, 0 or more.
    """
    asked = os.environ.get("RESOLUTE_WORKERS")
    if asked is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(usable, MOST_WORKERS)
    if not asked.isdecimal():
        raise InputError(f"RESOLUTE_WORKERS is {asked!r}: it is a number of processes, 0 or more")
    return int(asked)
