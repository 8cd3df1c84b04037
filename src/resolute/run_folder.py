"""A stamp of the machine that a measurement was made on."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import math
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np
from filelock import FileLock, Timeout

from resolute.errors import InputError
from resolute.safe_io import MOST_JSON, check_schema, check_stored, parse_json, read_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Bits = Mapping["Key", NDArray[np.bool_]]


def environment() -> dict[str, Any]:
    """Describe the machine and the versions that a measurement was made with."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "resolute": _version("resolute"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: _version(name) for name in ("numpy", "torchvision", "timm", "lightning-fabric")},
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


MOST_RECORDS = 2**30
"""Bytes in a file of records, of which each has about 150: those of a thousand cells with 7,000 columns each."""

MOST_BITS = 2**31
"""Bytes in a file of bits: 50,000 images under 340,000 shifts."""

Key = tuple[str, str, float]
"""``(suite, shift, severity)``: one column of the evaluation, the same for every method and seed."""


@dataclass(frozen=True, slots=True)
class Record:
    """How many of ``n`` test images one trained network got right under one shift.

    Attributes:
        data: Name or path of the data set.
        model: Name of the network.
        method: Name of the training method.
        seed: Seed of the training run; methods with the same seed are a pair.
        suite: The suite that the shift belongs to: ``"clean"``, ``"noise"``, ``"attacks"``.
        shift: What was done to the images: ``"clean"``, ``"gaussian-noise"``, ``"fgsm"``.
        severity: How strong, in the shift's own unit (a standard deviation or a radius in pixel units); 0 for clean.
        correct: Images classified correctly.
        n: Images shown.
    """

    data: str
    model: str
    method: str
    seed: int
    suite: str
    shift: str
    severity: float
    correct: int
    n: int

    @property
    def key(self) -> Key:
        """The column that this record belongs to."""
        return (self.suite, self.shift, self.severity)

    @property
    def error(self) -> float:
        """Share of wrong answers, in [0, 1]."""
        return 1 - self.correct / self.n


DIVERGED = "diverged.json"
"""What a cell holds in place of records where training has diverged."""


def cell_name(method: str, seed: int) -> str:
    """Name the folder of one training run below ``cells/``."""
    return f"{method}-seed{seed}"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new, never a part."""
    raw = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
                temporary.chmod(0o644)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        _sync_folder(path.parent)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}. "
            + (
                "Make room; the same command goes on from here."
                if error.errno in (errno.ENOSPC, errno.EDQUOT)
                else "Choose a folder that can be written (--out)."
            )
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, schema: Any = Any) -> Any:
    """Read a JSON file of a run directory, and refuse one that is not as its schema says."""
    try:
        value = parse_json(read_file(path, MOST_JSON))
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}. Is this a run directory of `resolute compare`?"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Restore it, or run again into an empty folder.") from error
    return check_schema(value, schema, path)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines, atomically."""
    write_atomic(path, "".join(json.dumps(dataclasses.asdict(r)) + "\n" for r in records))


def read_records(path: Path) -> list[Record]:
    """Read records written by `write_records`."""
    try:
        lines = read_file(path, MOST_RECORDS).splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}. Is this a run directory of `resolute compare`?") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_record(parse_json(line)))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{path}, line {number} is not a record ({error}). Delete the cell and run again."
            ) from error
    return records


def _record(stored: Any) -> Record:
    record = Record(**stored)
    for field in dataclasses.fields(Record):
        value = getattr(record, field.name)
        if type(value).__name__ not in ("int" if field.type == "float" else "", field.type):
            raise TypeError(f"{field.name} is {value!r:.80}; wanted is {field.type}")
    if not (0 <= record.correct <= record.n and record.n >= 1 and math.isfinite(record.severity)):
        raise ValueError(f"{record.correct} correct of {record.n} at severity {record.severity}")
    return record


def write_bits(path: Path, bits: Bits) -> None:
    """Store which image was classified correctly under which shift, one bit an image."""
    arrays: dict[str, Any] = {"/".join((s, h, repr(float(v)))): np.packbits(right) for (s, h, v), right in bits.items()}
    sizes = {len(right) for right in bits.values()}
    if len(sizes) != 1:
        raise ValueError(f"every shift needs the same images; got {sorted(sizes)} of them")
    buffer = io.BytesIO()
    np.savez(buffer, n=np.array(sizes.pop()), **arrays)
    write_atomic(path, buffer.getvalue())


def read_bits(path: Path) -> dict[Key, NDArray[np.bool_]]:
    """Read what `write_bits` wrote."""
    try:
        raw = read_file(path, MOST_BITS)
        with ZipFile(io.BytesIO(raw)) as archive:
            check_stored(archive.infolist(), len(raw))
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            n = int(stored["n"])
            return {_key(name): _unpack(stored[name], n) for name in stored.files if name != "n"}
    except (OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, MemoryError, BadZipFile) as error:
        raise InputError(f"cannot read {path} ({error}). Delete the cell and run again.") from error


def _unpack(packed: NDArray[np.uint8], n: int) -> NDArray[np.bool_]:
    if packed.dtype != np.uint8 or packed.shape != ((n + 7) // 8,):
        raise ValueError(f"{n:,} bits are announced, and there is {packed.dtype} {packed.shape}")
    return np.unpackbits(packed, count=n).astype(bool)


def _key(name: str) -> Key:
    suite, shift, severity = name.split("/")
    return (suite, shift, float(severity))


_Part = TypeVar("_Part")

SECONDS_BETWEEN_LOOKS = 0.5
"""How often a process looks whether a part that another is at is finished, or free."""


def locked(folder: Path, name: str) -> AbstractContextManager[object]:
    """Keep other processes out of a part of a run until the block, or this process, ends."""
    lock = FileLock(folder / name, blocking=False, fallback_to_soft=False)  # a soft one outlives a killed process
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"cannot lock {folder / name}: {error}. Runs in one directory are kept apart by locks: choose, with --out, "
            "a folder that can be written, on a disk that has them."
        ) from error


def go_through(parts: Iterable[_Part], do: Callable[[_Part], bool]) -> None:
    """Do each part, or come back to it until another process has done it."""
    waiting = list(parts)
    while waiting:
        left = [part for part in waiting if not do(part)]
        if left == waiting:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        waiting = left
