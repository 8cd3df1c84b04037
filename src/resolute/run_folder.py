"""A run folder: it belongs to one piece of work, its parts are locked, checksummed, and read back only if they agree.

A run folder of `resolute compare` holds::

    recipe.json  environment.json  records.jsonl  report.html  report.md
    cells/METHOD-seedN/{model.json, weights.safetensors, train.csv, bits.npz, cost.json, records.jsonl, checksums.json}

- `RunFolder.claim` writes what the work depends on (its identity) into one JSON file, and refuses a folder that holds
  another identity, naming what differs.
- `RunFolder.lock` keeps other processes out of a part; a lock ends with its process.
- `write_part` and `read_part` store bytes under an identity and a SHA-256; `seal` and `is_sealed` do the same for a
  folder of files. What is damaged, or belongs to other work, is refused.
- Every file is written to a neighbour, synced and renamed, so that a reader sees all of it or nothing.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import platform
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np
from filelock import FileLock, Timeout

from resolute.errors import InputError, differences
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
CHECKSUMS = "checksums.json"
"""Written last into a folder of files: a cell is finished if and only if it is there."""
ENVIRONMENT = "environment.json"
TIMES = "timing.json"
"""How long training steps take, each method's beside the baseline's."""
LOCKS = ".locks"
SEAL = "file_sha256"
"""Last key of a JSON file that carries a checksum of its own content."""
GROWS = ("methods", "seeds")
"""What may be added to a comparison: no finished cell depends on the others."""
_RESTORE = "Delete it, or restore it, and give the same command again."
_LONGEST = 160
"""Letters of a file's name; file systems take 255 bytes, of which suffixes and temporary names need some."""


def cell_name(method: str, seed: int) -> str:
    """Name the folder of one training run below ``cells/``: ``METHOD-seedN``."""
    return f"{file_name(method)}-seed{seed}"


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
                "Make room; the same command continues from here."
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
    """Write a JSON file atomically, keys in the order given; NaN is refused."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, schema: Any = Any) -> Any:
    """Read a JSON file of a run folder by its schema; a checksum that it carries is checked and left out."""
    try:
        value = parse_json(read_file(path, MOST_JSON))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Is this a run folder of `resolute`?") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Restore it, or run again into an empty folder.") from error
    if isinstance(value, dict) and value:
        value = _unsealed(path, value)
    return check_schema(value, schema, path)


def _unsealed(path: Path, value: dict[str, Any]) -> dict[str, Any]:
    last = next(reversed(value))
    if last != SEAL and not (isinstance(value[last], str) and re.fullmatch(r"[0-9a-f]{64}", value[last])):
        return value
    content = {key: own for key, own in value.items() if key != last}
    if last != SEAL or digest(content) != value[last]:
        raise InputError(f"{path} is damaged: its content is not what its checksum says. {_RESTORE}")
    return content


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file that carries a checksum of its own content."""
    content = json.loads(json.dumps(value, allow_nan=False))
    write_json(path, content | {SEAL: digest(content)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote; a file without a checksum is refused."""
    value = read_json(path)
    if not isinstance(value, dict) or SEAL not in parse_json(read_file(path, MOST_JSON)):
        raise InputError(
            f"{path} carries no checksum: an earlier version wrote it, or it was changed by hand. Run again into an "
            "empty folder (--out)."
        )
    return value


def digest(value: Any) -> str:
    """Hash what JSON can hold: SHA-256 of its text with sorted keys, 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_name(name: str) -> str:
    """Turn any name into that of a file, another name into another: letters, digits and @=,+._- stay."""
    coded = "".join(c if re.fullmatch(r"[A-Za-z0-9@=,+._-]", c) else _percent(c) for c in name)
    if coded[:1] in (".", ""):
        coded = "%2E" + coded[1:] if coded else "%00"
    if len(coded) <= _LONGEST:
        return coded
    return f"{coded[: _LONGEST - 33]}~{hashlib.sha256(coded.encode()).hexdigest()[:32]}"


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def identity_of(given: Mapping[str, Any], **of: Any) -> dict[str, Any]:
    """Give the identity of a part: that of the work as JSON holds it, and which part it is."""
    made: dict[str, Any] = json.loads(json.dumps({**given, **of}))
    return made


def cell_identity(identity: Mapping[str, Any], method: str, seed: int) -> dict[str, Any]:
    """Give the identity of a cell: that of its comparison without the lists that may grow, its method and its seed."""
    shared = {key: value for key, value in identity.items() if key not in GROWS}
    return identity_of(shared, method=method, seed=seed)


def versions() -> dict[str, str]:
    """Give the versions that decide about figures to the last bit."""
    import torch

    return {"resolute": _version("resolute"), "torch": str(torch.__version__)}


def write_part(path: Path, content: bytes, identity: Mapping[str, Any]) -> None:
    """Store bytes with the identity that they belong to, their number and their SHA-256, in a first line of JSON."""
    header = {"identity": identity, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    write_atomic(path, json.dumps(header, sort_keys=True, ensure_ascii=True).encode() + b"\n" + content)


def read_part(path: Path, identity: Mapping[str, Any], most: int = 2**40) -> bytes | None:
    """Read what `write_part` wrote; None if nothing is there, a refusal if it is damaged or belongs to other work."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no regular file. {_RESTORE}")
    try:
        with path.open("rb") as file:
            line = file.readline(MOST_JSON)
            header = parse_json(line)
            theirs, checksum, size = header["identity"], header["sha256"], header["bytes"]
            # before a file of any size is read
            whole = size == os.fstat(file.fileno()).st_size - len(line) and size <= most
            content = file.read() if whole else b""
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"cannot read {path} ({error}). {_RESTORE}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is damaged: its first line is no header. {_RESTORE}") from error
    if not whole or hashlib.sha256(content).hexdigest() != checksum:
        raise InputError(f"{path} is damaged: its content is not what its checksum says. {_RESTORE}")
    refuse_others(path, theirs, identity)
    return content


def seal(folder: Path, identity: Mapping[str, Any], names: Iterable[str]) -> None:
    """Say that a folder's files are complete: write their SHA-256 and the identity that they belong to."""
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    write_sealed(folder / CHECKSUMS, {"identity": identity, "files": files})


def is_sealed(folder: Path, identity: Mapping[str, Any] | None = None) -> bool:
    """Tell whether a folder was sealed; refuse it if a file is damaged or missing, or belongs to other work."""
    path = folder / CHECKSUMS
    if not path.exists():
        return False
    stored = read_sealed(path)
    theirs, files = stored.get("identity"), stored.get("files")
    if not isinstance(files, dict):
        raise InputError(f"{path} names no files. {_RESTORE}")
    if identity is not None:
        refuse_others(folder, theirs, identity)
    for name, checksum in files.items():
        file = folder / file_name(name)
        if not file.is_file():
            raise InputError(f"{file} is missing. {_again(folder)}")
        with file.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != checksum:
                raise InputError(f"{file} is damaged: its content is not what {CHECKSUMS} says. {_again(folder)}")
    return True


def _again(folder: Path) -> str:
    return f"Delete the folder {folder} and give the same command again: it makes this part anew."


def refuse_others(path: Path, theirs: Any, ours: Mapping[str, Any]) -> None:
    """Refuse a part that belongs to other work, naming what differs."""
    ours = identity_of(ours)
    if theirs != ours:
        raise InputError(
            f"{path} belongs to other work: {_differing(theirs, ours)}. Delete it, or choose another folder with --out."
        )


def _differing(theirs: Any, ours: dict[str, Any]) -> str:
    if not isinstance(theirs, dict):
        return "it does not say what it belongs to"
    more = ", ".join(sorted(theirs.keys() - ours.keys()))
    return differences(theirs, ours) or f"{more} is said there and unknown here"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that belongs to one piece of work and holds its parts.

    Attributes:
        path: The folder; made when it is claimed.
        file: Name of the JSON file that says what the folder holds: ``recipe.json``, ``evaluation.json``.
        work: What it holds, for messages: ``"comparison"``.
        grows: Keys of the identity that are lists and may be extended, since no finished part depends on them.
    """

    path: Path
    file: str
    work: str
    grows: tuple[str, ...] = ()

    def claim(self, identity: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
        """Make the folder that of an identity, or refuse it if it holds anything else.

        Args:
            identity: Everything that the figures depend on, as JSON can hold it.
            beside: What else the file says for readers; written anew only if the identity has grown.

        Raises:
            InputError: If the folder holds other work or cannot be written; the message names what differs.
        """
        ours = identity_of(identity)
        self._refuses(ours)  # before the lock, which would leave a file in a folder of somebody else
        with locked(self.path / LOCKS, "claim", wait=True):
            if self._refuses(ours):
                self.write(ours, beside)
            if not (self.path / ENVIRONMENT).exists():
                write_sealed(self.path / ENVIRONMENT, environment())

    def write(self, identity: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
        """Say what the folder holds, whatever it said before."""
        write_sealed(self.path / self.file, {**beside, "identity": identity_of(identity)})

    def _refuses(self, ours: dict[str, Any]) -> bool:
        """Refuse a folder that holds anything else; tell whether its file is to be written."""
        names = {file.name for file in self.path.iterdir()} if self.path.is_dir() else set()
        if self.file in names:
            return self._grown(ours)
        if any(not name.startswith(".") for name in names):  # of a run killed at its first write they are all hidden
            raise InputError(f"{self.path} is not empty and holds no {self.work}. Choose another folder with --out.")
        return True

    def _grown(self, ours: dict[str, Any]) -> bool:
        stored = read_sealed(self.path / self.file)
        theirs = stored.get("identity")
        if not isinstance(theirs, dict):
            raise InputError(
                f"{self.path / self.file} does not say which images and settings the folder is of. Choose another "
                "folder with --out."
            )
        grown = {
            key: ours[key]
            for key in self.grows
            if ours[key] != theirs.get(key) and all(item in ours[key] for item in theirs.get(key) or [])
        }
        if (same := theirs | grown) != ours:
            more = f" {' and '.join(self.grows).capitalize()} can be added, nothing else changed." if self.grows else ""
            told = _differing(same, ours)
            raise InputError(f"{self.path} holds another {self.work}: {told}.{more} Choose another folder with --out.")
        return bool(grown)

    def lock(self, part: str) -> AbstractContextManager[object]:
        """Keep other processes out of a part until the block, or this process, ends; see `locked`."""
        return locked(self.path / LOCKS, file_name(part))


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


def locked(folder: Path, name: str, *, wait: bool = False) -> AbstractContextManager[object]:
    """Keep other processes out of a part until the block, or this process, ends; Timeout if one has it already."""
    lock = FileLock(folder / name, blocking=wait, fallback_to_soft=False)  # a soft one outlives a killed process
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock.acquire()
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        raise InputError(
            f"cannot lock {folder / name}: {error}. Runs in one folder are kept apart by locks: choose, with --out, "
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
