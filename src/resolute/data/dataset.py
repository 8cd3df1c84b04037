"""A data set: its description, its images (in memory or on the disk), its splits, and its batches.

No function here reads or changes torch's global generator: what a training step sees depends on ``(seed, epoch, step)``
alone, so that a resumed run meets the same batches and all methods meet the same data. An image that stays on the disk
is a function of ``(seed, epoch, position)``, whatever the number of workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from resolute.config import Augment
from resolute.data.augment import augment
from resolute.data.decode import decode, decode_crop
from resolute.errors import InputError, located
from resolute.run_folder import digest, read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from resolute.config import Interpolation
    from resolute.data.decode import Blob


_ORDER, _AUGMENT, _CROP, _PART = 0, 1, 2, 3
"""First word of the key: the kinds of draws never share a stream."""


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """Shuffle ``n`` images for one epoch."""
    return torch.randperm(n, generator=_generator((_ORDER, seed, epoch), "cpu"))


def augment_generator(
    seed: int, epoch: int, step: int, device: torch.device | str = "cpu", *, rank: int = 0
) -> torch.Generator:
    """Make the generator for the augmentation of one training step."""
    return _generator((_AUGMENT, seed, epoch, step, rank), device)


def crop_generator(seed: int, epoch: int, position: int) -> torch.Generator:
    """Make the generator for the random crop of one image."""
    return _generator((_CROP, seed, epoch, position), "cpu")


def part_generator(seed: int) -> torch.Generator:
    """Make the generator that draws a part of each class."""
    return _generator((_PART, seed), "cpu")


def _generator(key: tuple[int, ...], device: torch.device | str) -> torch.Generator:
    if min(key) < 0:
        raise InputError(f"seed, epoch, step and rank are 0 or more, and {min(key)} came")
    # SeedSequence mixes the words well and is promised to stay the same across NumPy's versions.
    seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator(device).manual_seed(seed)


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
        interpolation: How they are resized.
    """

    blobs: Blobs
    positions: NDArray[np.int64]
    shape: tuple[int, int, int]
    resize: int
    workers: int
    place: str
    interpolation: Interpolation = "bilinear"

    def pixels(self, i: int, crop: Crop | None) -> NDArray[np.uint8]:
        """Decode one image."""
        position = int(self.positions[i])
        try:
            blob = self.blobs.read(position)
            if crop is None:
                return decode(blob, self.shape, self.resize, self.interpolation)
            generator = crop_generator(crop.seed, crop.epoch, position)
            return decode_crop(blob, self.shape, crop.share, generator, self.interpolation)
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
    """Decode images in a given order."""
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
                "hangs? The last checkpoint is kept; the same command continues from it."
            ) from error
        if isinstance(error, RuntimeError) and not is_loss(error):
            raise
        raise lost(error) from error


def is_loss(error: Exception) -> bool:
    """Tell whether an error says that a process that decodes was killed: torch raises it wherever one happens to be."""
    return str(error).startswith("DataLoader worker")


def lost(error: Exception) -> InputError:
    """Say that a process that decodes was killed, and what to do."""
    said = next(iter(str(error).splitlines()), type(error).__name__)
    return InputError(
        f"a process that decodes photographs was killed ({said}): is the memory full? RESOLUTE_WORKERS=N starts fewer. "
        "The last checkpoint is kept; the same command continues from it."
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
    """Say how many processes decode photographs."""
    asked = os.environ.get("RESOLUTE_WORKERS")
    if asked is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(usable, MOST_WORKERS)
    if not asked.isdecimal():
        raise InputError(f"RESOLUTE_WORKERS is {asked!r}: it is a number of processes, 0 or more")
    return int(asked)


SMALL = 64
"""Photographs of at most this many pixels a side get the customs of CIFAR, larger ones those of ImageNet."""


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a model, an augmentation and an attack need to know of a data set.

    Attributes:
        name: Name in ``DATASETS``, or the path as it was given.
        classes: Number of classes.
        shape: ``(C, H, W)`` of every image.
        mean: What is subtracted from each channel, in pixel units [0, 1]: its mean over the training images, or 0
            where the set's sources do not normalise (SVHN).
        std: What each channel is then divided by, in pixel units: its standard deviation over the training images, or
            1 where the set's sources do not normalise.
        class_names: One name a class.
        augment: The customary augmentation for training.
        radius: The customary FGSM radius for training, in pixel units.
        radii: The attack radii to report, in pixel units.
        interpolation: How images of a folder were resized.
    """

    name: str
    classes: int
    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]
    augment: Augment
    radius: float
    radii: tuple[float, ...]
    interpolation: Interpolation = "bilinear"


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A set of labelled images. Go through it with :func:`~resolute.data.dataset.batches`, wherever the pixels are.

    Attributes:
        info: Description of the data set that they belong to.
        x: uint8 [n, C, H, W]; [0, C, H, W] if the pixels stay on the disk.
        y: int64 [n] in 0..classes-1.
        split: ``"train"``, ``"validation"``, ``"test"`` or ``"train+validation"``.
        stream: What reads the pixels from the disk; None if they are in memory.
        passed_over: What else lies in the folder, counted, in words.

    Raises:
        InputError: If the tensors do not fit each other or the description.
    """

    info: DataInfo
    x: Tensor
    y: Tensor
    split: str
    stream: Stream | None = None
    passed_over: str = ""

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 or tuple(self.x.shape[1:]) != self.info.shape:
            raise InputError(
                f"x is {self.x.dtype} {tuple(self.x.shape)}: wanted torch.uint8 of shape (n, *{self.info.shape})"
            )
        n = len(self.x) if self.stream is None else len(self.stream.positions)
        if self.y.dtype != torch.int64 or self.y.shape != (n,):
            raise InputError(f"y is {self.y.dtype} {tuple(self.y.shape)}: wanted torch.int64 of shape ({n},)")

    def __len__(self) -> int:
        """Count the images."""
        return len(self.y)

    def part(self, index: Tensor) -> Images:
        """Take some of the images; their description, mean and deviation included, stays that of the whole set.

        Args:
            index: int64 [m], positions.

        Returns:
            Those images, in the order of the index.
        """
        if self.stream is None:
            return dataclasses.replace(self, x=self.x[index], y=self.y[index])
        stream = dataclasses.replace(self.stream, positions=self.stream.positions[index.numpy()])
        return dataclasses.replace(self, y=self.y[index], stream=stream)


def understood(*splits: Images | None) -> str:
    """Say in a line what was found of a set, for those who gave it: classes, images, their shape, what is not read."""
    parts = {own.split: own for own in splits if own}
    info, left = next((own.info, own.passed_over) for own in parts.values())
    counts = ", ".join(f"{len(own):,} {split}" for split, own in parts.items())
    names = ", ".join(map(repr, info.class_names[:5])) + (", ..." if info.classes > 5 else "")
    shape = "x".join(map(str, info.shape)) + (f"; passed over: {left}" if left else "")
    return f"{info.name!r}: {info.classes:,} classes ({names}); {counts} images of {shape}"


def data_root(root: str | Path | None = None) -> Path:
    """Say where downloaded data sets lie, and what is remembered of others.

    Args:
        root: The folder, if it is known.

    Returns:
        ``root``, or else the variable ``RESOLUTE_DATA``, or else the folder ``resolute`` of the user's cache.

    Example:
        >>> data_root("there").name
        'there'
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return located(root or os.environ.get("RESOLUTE_DATA") or Path(cache) / "resolute")


def fingerprint(images: Images) -> dict[str, Any]:
    """Identify labelled images by their content.

    Args:
        images: The set, in memory or on the disk.

    Returns:
        ``n``, and the SHA-256 of the ``pixels`` and of the ``labels`` in their order. Of images that stay on the disk,
        ``pixels`` covers the bytes of their files and what is made of them (order, shape, resizing); a file is read
        again only when its size or its time of change is another.

    Example:
        >>> import resolute
        >>> found = fingerprint(resolute.data.load("digits", split="test"))
        >>> found["n"], found["labels"][:8]
        (898, '2f0e5d28')
    """
    labels = hashlib.sha256(images.y.contiguous().numpy().tobytes()).hexdigest()
    stream = images.stream
    if stream is None:
        pixels = hashlib.sha256(images.x.contiguous().numpy().data)
        pixels.update(repr(tuple(images.x.shape)).encode())
        return {"n": len(images), "pixels": pixels.hexdigest(), "labels": labels}
    files = [(file.name, hash_file(file)) for file in stream.blobs.files()]
    positions = hashlib.sha256(stream.positions.astype("<i8").tobytes()).hexdigest()
    made = digest([files, positions, list(stream.shape), stream.resize, stream.interpolation])
    return {"n": len(images), "pixels": made, "labels": labels}


def hash_file(file: Path) -> str:
    """Hash a file; it is read again only when its size or its time of change is another."""
    stat = file.stat()
    return _file_sha256(file, (stat.st_size, stat.st_ctime_ns))  # st_mtime_ns stays the same when two files swap names


@functools.cache
def _file_sha256(file: Path, state: tuple[int, int]) -> str:
    """Hash a file, or look up what its hash was in this state."""
    place = str(file.resolve())
    note = data_root() / "hashes" / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:40]}.json"
    wanted = {"size": state[0], "changed": state[1]}
    try:
        known = read_json(note)
        if {key: known[key] for key in wanted} == wanted:
            return str(known["content"])
    except (InputError, KeyError, TypeError):
        pass
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    with contextlib.suppress(InputError):  # a cache that cannot be written is no reason to stop
        write_json(note, {"content": found, **wanted})
    return found


def photographs(
    name: str,
    shape: tuple[int, int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    class_names: tuple[str, ...],
    interpolation: Interpolation = "bilinear",
) -> DataInfo:
    """Describe a set of photographs with the customs of CIFAR (up to 64 pixels a side) or of ImageNet (larger)."""
    # Augmentation: a shift of 4 pixels with reflection for small images (Zagoruyko and Komodakis, 2016, "Wide Residual
    # Networks"), of an eighth of the shorter side for larger ones (the 28 of 224 pixels by which a 256-pixel image
    # exceeds its crop, nearly). Flips for colour images only: grey ones are often characters, which a flip turns into
    # something else.
    #
    # Radius: 8/255 for small images (Madry et al., 2018, on CIFAR-10) and 4/255 for larger ones (Wong et al., 2020, on
    # ImageNet). Reported are 2/255, 4/255 and 8/255: those two papers' values.
    channels, height, width = shape
    small = max(height, width) <= SMALL
    shift = min(4 if small else min(height, width) // 8, min(height, width) - 1)
    return DataInfo(
        name=name,
        classes=len(class_names),
        shape=shape,
        mean=mean,
        std=std,
        class_names=class_names,
        augment=Augment(shift=shift, padding="reflect", flip=channels == 3),
        radius=8 / 255 if small else 4 / 255,
        radii=(2 / 255, 4 / 255, 8 / 255),
        interpolation=interpolation,
    )


SPLITS = ("train", "validation", "test", "train+validation")


def of_training(labels: Tensor, split: str) -> Tensor:
    """Find a split's images among the official training images: of each class a tenth is for validation, never all."""
    if split == "train+validation":
        return torch.arange(len(labels))
    held_out = every(10, labels) & (labels.bincount()[labels] > 1)
    return torch.nonzero(held_out == (split == "validation"))[:, 0]


def every(k: int, labels: Tensor) -> Tensor:
    """Mark every k-th image in the order of the files, or of the classes where one would not get its share."""
    # Where labels come in turn (0, 1, ..., 9, 0, 1, ...), each tenth image is of the same class. A share is lost below
    # a half of what is due or above twice as much: a set that was shuffled, or sorted by class, does not get there.
    in_all = labels.bincount()
    for order in (torch.arange(len(labels)), labels.argsort(stable=True)):
        marked = torch.zeros(len(labels), dtype=torch.bool)
        marked[order[k - 1 :: k]] = True
        found = labels[marked].bincount(minlength=len(in_all))
        if ((found >= in_all // (2 * k)) & (found <= 2 * in_all / k + 1)).all():
            break
    return marked


def members(counts: Mapping[str, int], labels: Tensor, split: str) -> Tensor:
    """Find a split's images in a folder or in parquet files, whose parts lie one after the other."""
    # A set with a training part and a test part keeps them; a validation part plays the test set if there is none, as
    # ImageNet's does, and is the validation set if there are all three. Anything else is a set that nobody has split:
    # every fifth image is for the test, and the rest are the official training images.
    ends = torch.tensor(list(counts.values())).cumsum(0).tolist()
    parts = {name: torch.arange(end - counts[name], end) for name, end in zip(counts, ends, strict=True)}
    if len(parts) == 1:
        in_test = every(5, labels)
        parts = {name: torch.nonzero(in_test == (name == "test"))[:, 0] for name in ("train", "test")}
    if split == "test":
        return parts["test"] if "test" in parts else parts["validation"]
    if len(parts) == 3:
        return torch.cat([parts[name] for name in split.split("+")])
    return parts["train"][of_training(labels[parts["train"]], split)]


def balanced_part(labels: Tensor, fraction: float, seed: int) -> Tensor:
    """Draw a share of each class, for training on less."""
    # With one seed a smaller fraction draws a part of what a larger one draws.
    if not 0 < fraction <= 1:
        raise InputError(f"train fraction is {fraction}: it is a share of the training images, above 0 and up to 1")
    kept = []
    for members_of_class in (torch.nonzero(labels == label)[:, 0] for label in labels.unique()):
        n = len(members_of_class)
        order = torch.randperm(n, generator=part_generator(seed))
        kept.append(members_of_class[order[: max(1, round(fraction * n))]])
    return torch.cat(kept).sort().values


def last_of_each_class(labels: Tensor, n: int) -> Tensor:
    """Mark the last ``n`` images of each class."""
    by_class = labels.argsort(stable=True)
    ends = labels.bincount().cumsum(0)
    from_end = ends[labels[by_class]] - torch.arange(len(labels))
    return torch.zeros(len(labels), dtype=torch.bool).scatter_(0, by_class, from_end <= n)


def batches(
    images: Images,
    batch_size: int,
    *,
    order: Tensor | None = None,
    device: torch.device | str = "cpu",
    crop: Crop | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a set once.

    Args:
        images: The set.
        batch_size: Images a batch; the last batch holds the rest.
        order: int64 [m], the indices to visit; file order if None. See :func:`epoch_order`.
        device: Where the batches are wanted. The bytes travel as uint8 and become float there.
        crop: Random crops of photographs that are streamed, made as they are decoded; None for their centres.

    Yields:
        ``(x, y)``: float32 [b, C, H, W] in [0, 1], exactly byte/255, and int64 [b].

    Raises:
        InputError: If the batch size is below 1, or an image that is streamed cannot be read.

    Example:
        >>> from resolute.data import load
        >>> x, y = next(batches(load("digits"), 64))
        >>> x.shape, x.dtype, y.dtype
        (torch.Size([64, 1, 8, 8]), torch.float32, torch.int64)
    """
    for x, y in _bytes(images, batch_size, order, device, crop):
        yield _as_float(x), y


def take(images: Images, index: Tensor) -> Tensor:
    """Fetch some images, uint8 [b, C, H, W], decoded here and now if they are on the disk."""
    if images.stream is None:
        return images.x[index]
    pixels = [images.stream.pixels(i, None) for i in index.tolist()]
    return torch.from_numpy(np.stack(pixels)) if pixels else images.x


def training_batches(
    images: Images,
    batch_size: int,
    policy: Augment,
    *,
    seed: int,
    epoch: int,
    order: Tensor,
    device: torch.device | str = "cpu",
    rank: int = 0,
    first_step: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Go through a set once and augment each batch."""
    crop = Crop(policy.crop, seed, epoch) if images.stream is not None and policy.crop < 1 else None
    after = dataclasses.replace(policy, crop=1.0) if crop else policy
    rest = order[first_step * batch_size :]
    for step, (x, y) in enumerate(_bytes(images, batch_size, rest, device, crop), first_step):
        # As bytes, a quarter of the memory is moved; only an enlarged crop is rounded by it.
        yield _as_float(augment(x, after, augment_generator(seed, epoch, step, x.device, rank=rank))), y


def _bytes(
    images: Images, batch_size: int, order: Tensor | None, device: torch.device | str, crop: Crop | None
) -> Iterator[tuple[Tensor, Tensor]]:
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}: it must be 1 or more")
    visited = torch.arange(len(images)) if order is None else order
    parts = visited.split(batch_size) if len(visited) else ()
    pin = torch.device(device).type == "cuda"
    decoded: Iterator[Tensor]
    if images.stream is None:
        decoded = (images.x.index_select(0, index) for index in parts)
    else:
        decoded = decode_batches(images.stream, visited, batch_size, crop, pin)
    for index, pixels in zip(parts, decoded, strict=True):
        y = images.y.index_select(0, index)
        yield pixels.to(device, non_blocking=True), y.to(device, non_blocking=True)


def _as_float(x: Tensor) -> Tensor:
    return x.to(torch.float32).div_(255)
