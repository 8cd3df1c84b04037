"""Files that somebody else made: read within bounds, and refused before they can fill the memory."""

from __future__ import annotations

import json
import zipfile
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray


MOST_JSON = 64 * 2**20
"""Bytes in a file of JSON. The recipe of ImageNet with its 1,000 class names has 60 thousand."""
_BLOCK = 2**20


def read_file(path: Path, limit: int) -> bytes:
    """Read a file of bounded size.

    Args:
        path: The file; a device, a pipe or a folder is refused.
        limit: Bytes that it may have.

    Returns:
        Its content.

    Raises:
        ValueError: If it is no regular file, or larger.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    with path.open("rb") as file:
        return read_stream(file, limit, path.name)


def read_stream(stream: IO[bytes], limit: int, name: str) -> bytes:
    """Read all of a stream that may be unpacked as it is read.

    Args:
        stream: The stream.
        limit: Bytes that it may give.
        name: What to call it in a message.

    Returns:
        Its content.

    Raises:
        ValueError: If there is more.
    """
    parts, left = [], limit
    while block := stream.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise ValueError(f"{name} holds over {limit:,} bytes, which is more than any such file has")
        parts.append(block)
    return b"".join(parts)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Args:
        text: The content of a file.

    Returns:
        Its value.

    Raises:
        ValueError: If it is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_array(path: Path) -> NDArray[Any]:
    """Map a ``.npy`` file into memory; whatever its header announces, no more is there than the file has.

    Args:
        path: The file.

    Returns:
        The array, which cannot be written.

    Raises:
        ValueError: If it is no array of numbers, or shorter than its header announces.
        OSError: If it cannot be opened.
    """
    import numpy as np

    try:
        with np.errstate(over="raise"):
            array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python is, and a damaged one raises what that raises
        raise ValueError(f"{path.name} is no array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path.name} is no array")  # noqa: TRY004 a file is no argument
    return array


def check_tensors(path: Path) -> None:
    """Refuse a file of torch's that would unfold; one of the older format is no ZIP archive and cannot.

    Args:
        path: A file that ``torch.save`` may have written.

    Raises:
        ValueError: If it is no regular file, or an archive of a kind that torch does not write.
    """
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            check_stored(archive.infolist(), path.stat().st_size)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"{path.name} is a damaged archive: {error}") from error


def check_stored(members: Iterable[zipfile.ZipInfo], size: int) -> None:
    """Refuse a ZIP archive whose members would unfold, or share their bytes, to more than the archive has.

    Args:
        members: Its table of contents. NumPy and torch store members as they are, without compression.
        size: Bytes of the archive.

    Raises:
        ValueError: If a member is compressed, or all together are larger than the archive.
    """
    total = 0
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its member {member.filename[:80]!r} is compressed, which numpy and torch do not do")
        total += member.file_size
    if total > size:
        raise ValueError(f"its members announce {total:,} bytes in an archive of {size:,}")
