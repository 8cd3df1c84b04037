"""The binary formats of the published sets, read without running anything that a file says.

Every reader returns ``(x, y)``: uint8 [n, C, H, W] and int64 [n]. For a file that is not what it should be it raises
``ValueError`` or ``OSError``; who called it knows the file's name.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import math
import pickle
import pickletools
import re
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from resolute.safe_io import read_file, read_stream

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray
    from torch import Tensor

MOST_IDX = 128 * 2**20
"""Bytes in an idx file, unpacked; the largest of the published ones, EMNIST's training images, has 88 million."""
MOST_PICKLED = 256 * 2**20
"""Bytes in a batch of CIFAR; the largest, CIFAR-100's training images, has 155 million."""
MOST_MAT = 2**31
"""Bytes in SVHN's files, unpacked; the largest, the extra images, has 1.6 billion."""
INFLATION = 100
"""How many times its size a MATLAB file may unpack to; SVHN's photographs unpack to 1.3 times theirs."""
_UNSIGNED_BYTES = 0x08


def read_idx(images: bytes, labels: bytes, *, transposed: bool = False) -> tuple[Tensor, Tensor]:
    """Read a pair of MNIST's files."""
    x, y = _idx(images, 3), _idx(labels, 1)
    if len(x) != len(y):
        raise ValueError(f"images {x.shape}, labels {y.shape}")
    upright = x.swapaxes(1, 2) if transposed else x
    return torch.from_numpy(upright[:, None].copy()), torch.from_numpy(y.astype(np.int64))


def _idx(content: bytes, dimensions: int) -> NDArray[np.uint8]:
    begin = 4 + 4 * dimensions
    if len(content) < begin or content[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)):
        raise ValueError(f"it does not begin as an idx file of bytes in {dimensions} dimensions does")
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4).tolist())
    found, wanted = len(content) - begin, math.prod(shape)
    if found != wanted:
        raise ValueError(f"it holds {found:,} bytes where its header announces {wanted:,}")
    return np.frombuffer(content, np.uint8, offset=begin).reshape(shape)


def unpacked(path: Path, member: str | None = None) -> bytes:
    """Read a file, through gzip where its name ends in ``.gz``."""
    try:
        with contextlib.ExitStack() as opened:
            if member is None and not path.name.endswith(".gz"):
                return read_file(path, MOST_IDX)
            stream: IO[bytes] = opened.enter_context(path.open("rb"))
            if member is not None:
                archive = opened.enter_context(zipfile.ZipFile(stream))
                stream = opened.enter_context(archive.open(member))
            if (member or path.name).endswith(".gz"):
                stream = cast("IO[bytes]", opened.enter_context(gzip.GzipFile(fileobj=stream)))
            return read_stream(stream, MOST_IDX, member or path.name)
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, LookupError, RuntimeError) as error:
        raise ValueError(str(error)) from error


def read_mat(path: Path) -> tuple[Tensor, Tensor]:
    """Read one of SVHN's MATLAB files. The label 10, MATLAB's place for the digit 0, becomes 0."""
    from scipy.io import loadmat

    try:
        _check_mat(path)
        content = loadmat(path, variable_names=["X", "y"])
        x, y = content["X"], content["y"].ravel().astype(np.int64)
    except Exception as error:  # scipy raises half a dozen unrelated types for a damaged file
        raise ValueError(f"no MATLAB file with X and y: {error or type(error).__name__}") from error
    good = x.dtype == np.uint8 and x.ndim == 4 and x.shape[2] == 3 and x.shape[3] == len(y) > 0
    if not good or y.min() < 1 or y.max() > 10:
        raise ValueError(f"X is {x.dtype} {x.shape}, and y holds {len(y)} labels: {sorted(set(y.tolist()))[:12]}")
    return torch.from_numpy(np.ascontiguousarray(x.transpose(3, 2, 0, 1))), torch.from_numpy(y % 10)


def _check_mat(path: Path) -> None:
    """Unpack a MATLAB file once without keeping anything: scipy would believe whatever sizes it announces."""
    raw = read_file(path, MOST_MAT)
    if raw[126:128] != b"IM":
        raise ValueError("it is no MATLAB 5 file of a little-endian machine")
    left, position = min(MOST_MAT, INFLATION * len(raw)), 128
    while position + 8 <= len(raw):
        kind, length = (int.from_bytes(raw[position + k : position + k + 4], "little") for k in (0, 4))
        position += 8
        if kind == _COMPRESSED:
            left = _unfold(memoryview(raw)[position : position + length], left)
        position += length


_COMPRESSED = 15
"""What MATLAB 5 calls a compressed element."""


def _unfold(packed: memoryview, left: int) -> int:
    unpacker = zlib.decompressobj()
    rest: bytes | memoryview = packed
    while len(rest) and not unpacker.eof:
        left -= len(unpacker.decompress(rest, 2**20))
        rest = unpacker.unconsumed_tail
        if left < 0:
            raise ValueError("it unpacks to more than photographs do")
    return left


def read_batches(paths: list[Path], label: str) -> tuple[Tensor, Tensor]:
    """Read CIFAR's batches in Python's pickle format."""
    x, y = [], []
    for path in paths:
        content = read_pickle(path)
        pixels, labels = content.get("data"), content.get(label)
        if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (3072,):
            raise ValueError(f"{path.name} holds no images: 'data' is {type(pixels).__name__}")
        if not isinstance(labels, list) or len(labels) != len(pixels):
            raise ValueError(f"{path.name} holds {len(pixels)} images, and {label!r} does not go with them")
        x.append(torch.from_numpy(pixels.reshape(-1, 3, 32, 32)))
        y.append(torch.tensor(labels, dtype=torch.int64))
    return torch.cat(x), torch.cat(y)


def read_pickle(path: Path) -> dict[str, Any]:
    """Unpickle a dictionary of lists, numbers, strings and arrays. Anything else in it is refused, never called."""
    try:
        raw = read_file(path, MOST_PICKLED)
        _check_pickle(raw)
        content = _Plain(io.BytesIO(raw), encoding="latin1").load()
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to lead to
        raise ValueError(f"{path.name} is no pickle of plain data: {error or type(error).__name__}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no dictionary")  # noqa: TRY004
    return content


def _check_pickle(raw: bytes) -> None:
    """Refuse numbers for which the unpickler would take memory before it looks at what is there."""
    for number, (opcode, argument, _) in enumerate(pickletools.genops(raw)):
        if opcode.name in {"PUT", "BINPUT", "LONG_BINPUT"} and (argument or 0) > number:
            raise pickle.UnpicklingError(f"it calls its {number}th part number {argument}")


class _Word:
    """A name of NumPy's that stands in a pickle; it can be neither called nor changed."""

    __slots__ = ()


_ARRAY = _Word()


class _Empty(_Word):
    """Make an empty array to be filled; in place of NumPy's function, which makes one of any size."""

    __slots__ = ()

    def __call__(self, kind: object, shape: object, _code: object) -> NDArray[np.uint8]:
        if kind is not _ARRAY or shape != (0,):
            raise pickle.UnpicklingError(f"it asks for an array of shape {shape!r:.40} at once")
        return np.empty(0, np.uint8)


class _Numbers(_Word):
    """Make a type of numbers; in place of NumPy's function, which makes any type."""

    __slots__ = ()

    def __call__(self, name: str, _align: object = 0, _copy: object = 1) -> np.dtype[Any]:
        if not re.fullmatch(r"[<>|=]?[biuf][1248]", str(name)):
            raise pickle.UnpicklingError(f"it asks for an array of {name!r:.40}")
        return np.dtype(str(name), copy=True)


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Empty(),
    ("numpy._core.multiarray", "_reconstruct"): _Empty(),
    ("numpy", "ndarray"): _ARRAY,
    ("numpy", "dtype"): _Numbers(),
}


class _Plain(pickle.Unpickler):  # noqa: S301 it calls nothing but what is allowed above
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        try:
            return _ALLOWED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}") from None
