"""The evaluation engine: tell, shift by shift and image by image, whether a network is right.

Cells of a comparison and finished networks go through `measure`, one loop over shifts and batches. Answers are kept as
they come. After a kill, the work continues at the batch that it had reached, and ends with the same answers bit for
bit: a disturbance depends on its image alone, and the batches are the same.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from zipfile import BadZipFile, ZipFile

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from resolute.attacks import answer, check_labels, check_logits, check_range, evaluating, first_answer
from resolute.data.dataset import Images, batches, photographs, take
from resolute.errors import InputError
from resolute.noise import signs
from resolute.run_folder import Record, file_name, identity_of, read_part, write_part
from resolute.safe_io import check_stored
from resolute.shifts import find_shifts
from resolute.shifts.shift import check_batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.data.dataset import DataInfo
    from resolute.run_folder import Key
    from resolute.shifts.shift import Shift


CLOSE = 1e-3
"""Rows of outputs that are all this close to a sum of 1, without a negative number, are probabilities."""


@dataclass(frozen=True, slots=True, eq=False)
class Floats:
    """Labelled images that were never bytes.

    Attributes:
        info: Description of the data set that they belong to.
        x: float32 [n, C, H, W] in [0, 1].
        y: int64 [n] in 0..classes-1.
        split: What they are called: ``"loader"``.
        stream: Nothing stays on the disk.
    """

    info: DataInfo
    x: Tensor
    y: Tensor
    split: str = "loader"
    stream: None = None

    def __len__(self) -> int:
        """Count the images."""
        return len(self.x)


def collect(loader: Iterable[Any], model: nn.Module, info: DataInfo | None = None) -> Floats:
    """Hold a loader's images in memory, so that image i is the same under every shift."""
    xs, ys = [], []
    for batch in loader:
        x, y = _pair(batch)
        check_batch(x, torch.zeros(len(x), dtype=torch.int64))
        xs.append(x.detach().to("cpu", torch.float32))
        ys.append(y.detach().to("cpu", torch.int64))
    if not xs or not sum(map(len, xs)):
        raise InputError("the loader gave no batch. A generator is empty after one use: give a DataLoader or a list.")
    shapes = {tuple(x.shape[1:]) for x in xs}
    if len(shapes) > 1:
        raise InputError(f"the images have several shapes, {sorted(shapes)}; bring them to one size in the loader.")
    x, y = torch.cat(xs), torch.cat(ys)
    if info is None:
        classes = first_answer(model, x[:2].to(device_of(model))).shape[1]
        shape = (x.shape[1], x.shape[2], x.shape[3])
        grey = (0.5,) * shape[0]
        info = photographs("loader", shape, grey, grey, tuple(map(str, range(classes))))
    check_range(y, info.classes)
    return Floats(info, x, y)


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        what = f"{len(batch)} things" if isinstance(batch, (tuple, list)) else type(batch).__name__
        raise InputError(f"the loader gives {what}; wanted are batches (x, y): images and their labels.")
    x, y = (torch.as_tensor(part) for part in batch)
    check_labels(x, y)
    return x, y


def device_of(model: nn.Module) -> torch.device:
    """Say where a network is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def weights_sha256(model: nn.Module) -> str:
    """Hash all weights and the printed architecture."""
    digest = hashlib.sha256(re.sub(r" at 0x[0-9a-f]+", "", str(model)).encode())
    for key, tensor in model.state_dict().items():
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Ask a network in evaluation mode, without gradients."""
    with evaluating(model), torch.no_grad():
        return check_logits(answer(model, x), len(x))


def check_network(model: nn.Module, x: Tensor, info: DataInfo, *, attacked: bool = False) -> None:
    """Refuse a network that cannot be evaluated, or attacked by its gradient, on some images."""
    found = first_answer(model, x, classes=info.classes, data=info.name, gradient="images" if attacked else "")
    outputs = found[found.isfinite().all(1)]
    if outputs.min() >= 0 and bool(((outputs.sum(1) - 1).abs() < CLOSE).all()):
        raise InputError(
            "the model returns probabilities; wanted are logits. Take the last softmax away: its gradient vanishes "
            "where the network is sure, so that attacks would look weak."
        )


BY_GRADIENT = ("fgsm", "pgd", "autoattack")
"""Shifts that need a gradient of the images."""
PROBE = 16
"""Images that a network is shown before anything is counted."""
WRONG, RIGHT, NOT_FINITE = 0, 1, 2
"""A network's answer about one image. One with NaN or infinity in it is wrong, whatever its argmax would be."""
SECONDS_BETWEEN_SAVES = 2.0
"""How often the answers so far are kept; of slow batches, each."""
SAVES_SHARE = 20
"""How much longer than a save the work between two saves is, at least."""


class Store(Protocol):
    """Where the answers of one network are kept while it is evaluated."""

    def load(self) -> Mapping[Key, NDArray[np.uint8]]:
        """Give back the answers so far: for each shift those about its first images."""

    def save(self, found: Mapping[Key, NDArray[np.uint8]]) -> None:
        """Keep the answers so far."""


def measure(
    model: nn.Module,
    images: Images | Floats,
    suites: Sequence[str],
    seed: int = 0,
    *,
    name: str = "the network",
    batch_size: int = 500,
    root: str | Path | None = None,
    store: Store | None = None,
    on_batch: Callable[[int], None] | None = None,
    sharded: bool = False,
) -> dict[Key, NDArray[np.bool_]]:
    """Tell image by image whether a network is right under each shift; warn of answers that are no numbers."""
    shifts, order = find_shifts(suites, images.info, root), torch.arange(len(images))
    probe(model, images, order, shifts)
    answers = measure_shifts(
        model, images, shifts, seed, order=order, batch_size=batch_size, store=store, sharded=sharded,
        on_batch=on_batch and (lambda _, n: on_batch(n)),
    )  # fmt: skip
    for sentence in not_finite(name, answers):
        warnings.warn(sentence, stacklevel=2)
    return {key: own == RIGHT for key, own in answers.items()}


def probe(model: nn.Module, images: Images | Floats, order: Tensor, shifts: Sequence[Shift]) -> None:
    """Refuse a network that cannot be evaluated under some shifts, by its answers about the first of some images."""
    [clean] = find_shifts(["clean"], images.info)
    x, _ = shown_to(model, images, clean, 0, order[:PROBE])
    check_network(model, x, images.info, attacked=any(shift.name in BY_GRADIENT for shift in shifts))


def measure_shifts(
    model: nn.Module,
    images: Images | Floats,
    shifts: Sequence[Shift],
    seed: int = 0,
    *,
    order: Tensor,
    batch_size: int = 500,
    store: Store | None = None,
    on_batch: Callable[[Shift, int], None] | None = None,
    sharded: bool = False,
) -> dict[Key, NDArray[np.uint8]]:
    """Give a network's answers about some images, in their order, under each shift."""
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}: it must be 1 or more")
    found = dict(store.load()) if store else {}
    keep = _keeper(store)
    whole, fresh = {}, False
    for shift in shifts:
        shared = sharded and dist.is_initialized() and not shift.block  # images of a block stay together
        rank, world = (dist.get_rank(), dist.get_world_size()) if shared else (0, 1)
        own = order[rank::world]
        so_far = found.pop(shift.key, np.empty(0, np.uint8))
        size = shift.block or batch_size
        if len(so_far) < len(own):
            so_far = so_far[: len(so_far) // size * size]
        for codes in _answers(model, images, shift, seed, own[len(so_far) :], size):
            so_far = np.concatenate([so_far, codes])
            fresh = True
            keep(found | {shift.key: so_far})
            if on_batch:
                on_batch(shift, len(codes))
        found[shift.key] = so_far
        whole[shift.key] = _joined(so_far, len(order), world)
    if store and fresh:
        store.save(found)
    return whole


def _keeper(store: Store | None) -> Callable[[Mapping[Key, NDArray[np.uint8]]], None]:
    """Save now and then: rarely enough that it takes no time, often enough that little is lost."""
    due = time.monotonic() + SECONDS_BETWEEN_SAVES

    def keep(found: Mapping[Key, NDArray[np.uint8]]) -> None:
        nonlocal due
        if store and (begun := time.monotonic()) >= due:
            store.save(found)
            now = time.monotonic()
            due = now + max(SECONDS_BETWEEN_SAVES, SAVES_SHARE * (now - begun))

    return keep


def _answers(
    model: nn.Module, images: Images | Floats, shift: Shift, seed: int, order: Tensor, size: int
) -> Iterator[NDArray[np.uint8]]:
    """Ask a network batch by batch, each made anew."""
    shown = _batches(stored_images(images, shift), order, size, device_of(model)) if len(order) else iter(())
    for index, (x, y) in zip(order.split(size) if len(order) else (), shown, strict=True):
        with evaluating(model):
            logits = predict(model, _shifted(model, x, y, shift, seed, index))
        yield _codes(logits, y, shift.top).cpu().numpy()


def _codes(logits: Tensor, y: Tensor, top: int) -> Tensor:
    chosen = logits.argmax(1, keepdim=True) if top == 1 else logits.topk(top, dim=1).indices
    right = (chosen == y[:, None]).any(1).to(torch.uint8)
    return right.masked_fill(~logits.isfinite().all(1), NOT_FINITE)


def _joined(own: NDArray[np.uint8], n: int, world: int) -> NDArray[np.uint8]:
    """Put the shares of all processes in the order of the images; none is padded, so none is counted twice."""
    if world == 1:
        return own
    shares: list[Any] = [None] * world
    dist.all_gather_object(shares, own)
    whole = np.empty(n, np.uint8)
    for rank, share in enumerate(shares):
        whole[rank::world] = share
    return whole


def sample(labels: Tensor, limit: int | None) -> Tensor:
    """Choose images so that each class has its share; fewer are the first of more. All, in their order, if None."""
    n = len(labels)
    if limit is None or limit >= n:
        return torch.arange(n)
    drawn = signs.fold(signs.key(0, "limit"), torch.arange(n)).argsort()
    of_class = labels[drawn]
    by_class = of_class.argsort(stable=True)
    counts = labels.bincount()
    place = torch.empty(n, dtype=torch.float64)
    place[by_class] = (torch.arange(n) - (counts.cumsum(0) - counts)[of_class[by_class]]).to(torch.float64)
    share = (place + 0.5) / counts[of_class]  # the k-th of m drawn stands at (k + 1/2) / m, and the classes take turns
    return drawn[share.argsort(stable=True)[:limit]]


def not_finite(name: str, answers: Mapping[Key, NDArray[np.uint8]]) -> list[str]:
    """Say of how many answers of each suite a network made no number."""
    told = []
    for suite in dict.fromkeys(key[0] for key in answers):
        codes = np.concatenate([own for key, own in answers.items() if key[0] == suite])
        if bad := int((codes == NOT_FINITE).sum()):
            answers_of = f"{len(codes):,} answers {'on clean images' if suite == 'clean' else f'under {suite}'}"
            told.append(f"{name}: {bad:,} of {answers_of} are not finite (NaN or infinity) and count as wrong.")
    return told


ANSWERS = "answers"
"""How the files begin that a cell keeps answers in."""
MOST_ANSWERS = 2**32
"""Bytes in a file of answers: 50,000 images under 340,000 shifts."""


@dataclass(frozen=True, slots=True)
class PartFile:
    """Answers in a file that carries what they belong to, and a checksum."""

    path: Path
    identity: Mapping[str, Any]

    def load(self) -> dict[Key, NDArray[np.uint8]]:
        """Read the answers so far; none if there is no file."""
        content = read_part(self.path, self.identity, MOST_ANSWERS)
        if content is None:
            return {}
        try:
            return _unpacked(content)
        except (OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, MemoryError, BadZipFile) as error:
            raise InputError(
                f"cannot read {self.path} ({error}). Delete it and give the same command again."
            ) from error

    def save(self, found: Mapping[Key, NDArray[np.uint8]]) -> None:
        """Write the answers so far, two bits an image."""
        buffer = io.BytesIO()
        planes = {
            f"{suite}/{shift}/{severity!r}": np.packbits(np.stack([own == RIGHT, own == NOT_FINITE]), axis=1)
            for (suite, shift, severity), own in found.items()
        }
        np.savez(buffer, n=np.array([len(own) for own in found.values()], np.int64), **planes)  # type: ignore[arg-type]
        write_part(self.path, buffer.getvalue(), self.identity)


def cell_file(cell: Path, model: nn.Module, identity: Mapping[str, Any]) -> PartFile:
    """Say where a cell keeps the answers of its network, or this process its share, until all are there."""
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    return PartFile(cell / f"{ANSWERS}-{weights_sha256(model)[:16]}-{rank}of{world}", identity)


def part_file(folder: Path, network: str, identity: Mapping[str, Any]) -> PartFile:
    """Say where an evaluation keeps the answers of a network."""
    return PartFile(folder / "networks" / f"{file_name(network)}.answers", identity_of(identity, network=network))


def _unpacked(content: bytes) -> dict[Key, NDArray[np.uint8]]:
    with ZipFile(io.BytesIO(content)) as archive:
        check_stored(archive.infolist(), len(content))
    found = {}
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        names = [name for name in stored.files if name != "n"]
        for name, n in zip(names, stored["n"].tolist(), strict=True):
            suite, shift, severity = name.split("/")
            packed = stored[name]
            if packed.dtype != np.uint8 or packed.shape != (2, (n + 7) // 8):
                raise ValueError(f"{n:,} answers are announced, and there is {packed.dtype} {packed.shape}")
            planes = np.unpackbits(packed, axis=1, count=n)
            found[suite, shift, float(severity)] = (planes[0] * RIGHT + planes[1] * NOT_FINITE).astype(np.uint8)
    return found


def shown_to(
    model: nn.Module, images: Images | Floats, shift: Shift, seed: int, index: Tensor
) -> tuple[Tensor, Tensor]:
    """Make what a network sees of some images under a shift."""
    device = device_of(model)
    x = images.x[index] if isinstance(images, Floats) else take(images, index).to(torch.float32).div_(255)
    x, y = x.to(device), images.y[index].to(device)
    with evaluating(model):
        return _shifted(model, x, y, shift, seed, index), y


def _shifted(model: nn.Module, x: Tensor, y: Tensor, shift: Shift, seed: int, index: Tensor) -> Tensor:
    seeds = signs.fold(signs.key(seed, *shift.key), index.to(x.device))
    return shift.apply(model, x, y, seeds)


def _batches(
    images: Images | Floats, order: Tensor, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    if not isinstance(images, Floats):
        return batches(images, batch_size, order=order, device=device)
    return ((images.x[index].to(device), images.y[index].to(device)) for index in order.split(batch_size))


def stored_images(images: Images | Floats, shift: Shift) -> Images | Floats:
    """Read what a shift shows in place of the test images."""
    if shift.stored is None:
        return images
    if isinstance(images, Floats):
        raise InputError("released corruptions belong to a data set by name or path, and a loader came.")
    return shift.stored(images)


def records(bits: Mapping[Key, NDArray[np.bool_]], *, data: str, model: str, method: str, seed: int) -> list[Record]:
    """Count the bits of `measure`."""
    return [
        Record(data, model, method, seed, suite, shift, severity, int(right.sum()), len(right))
        for (suite, shift, severity), right in bits.items()
    ]
