"""Files that somebody else made: read within bounds, refused before they can fill the memory, checked by a schema."""

from __future__ import annotations

import json
import math
import re
import zipfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from resolute.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray


MOST_JSON = 64 * 2**20
"""Bytes in a file of JSON. The recipe of ImageNet with its 1,000 class names has 60 thousand."""
_BLOCK = 2**20


def read_file(path: Path, limit: int) -> bytes:
    """Read a file of bounded size."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path.name} is no regular file")
    with path.open("rb") as file:
        return read_stream(file, limit, path.name)


def read_stream(stream: IO[bytes], limit: int, name: str) -> bytes:
    """Read all of a stream that may be unpacked as it is read."""
    parts, left = [], limit
    while block := stream.read(_BLOCK):
        left -= len(block)
        if left < 0:
            raise ValueError(f"{name} holds over {limit:,} bytes, which is more than any such file has")
        parts.append(block)
    return b"".join(parts)


def _finite(text: str) -> float:
    if math.isfinite(value := float(text)):
        return value
    raise ValueError(f"{text[:40]} is no finite number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON whose numbers are finite and whose text can be written again."""
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    try:
        value = _DECODER.decode(text)
        if re.search(r"\\u[dD][89a-fA-F]", text):  # half of a surrogate pair is text that no file can hold
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


@dataclass(frozen=True, slots=True)
class Within:
    """A schema with bounds: of a number, or of how long a text or a list is."""

    schema: Any
    low: float
    high: float = math.inf


@dataclass(frozen=True, slots=True)
class Maybe:
    """A schema beside which null may stand."""

    schema: Any


COUNT = Within(int, 0, 1e15)
POSITIVE = Within(float, 0)
SHARE = Within(float, 0, 1)
NAME = Within(str, 1, 255)
"""Of a method, a network or a file."""
_MOST_SHOWN = 60
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "an object"}


def check_schema(value: Any, schema: Any, path: Path) -> Any:
    """Refuse what was read from a file unless it is as a schema says.

    A schema is ``int``, ``float`` (finite), ``str``, ``bool``, ``dict`` or ``Any``; ``[each]``, a list; ``(a, b)``, a
    list of so many; ``{"field": schema, "field that may be missing?": schema}``, an object, which may have more fields;
    ``{str: schema}``, an object of any fields; a set of values; or one of these in `Within` or `Maybe`.

    Args:
        value: What `parse_json` returned.
        schema: What it must be.
        path: The file, for the message.

    Returns:
        The value as it came.

    Raises:
        InputError: Names the file, the field, what came and what was wanted.
    """
    if told := _mismatch(value, schema, ""):
        raise InputError(f"{path}: {told}. Restore this file, or run again into an empty folder.")
    return value


def _mismatch(value: Any, schema: Any, field: str) -> str:
    """Say what differs first, or nothing."""
    match schema:
        case Maybe():
            return "" if value is None else _mismatch(value, schema.schema, field)
        case Within():
            return _mismatch(value, schema.schema, field) or _outside(value, schema, field)
        case list():
            inner = [(schema[0], each) for each in value] if isinstance(value, list) else None
            return _first(inner, field) if inner is not None else _told(field, value, "a list")
        case tuple():
            fits = isinstance(value, list) and len(value) == len(schema)
            inner = list(zip(schema, value, strict=True)) if fits else []
            return _first(inner, field) if fits else _told(field, value, f"a list of {len(schema)}")
        case dict():
            return _in_object(value, schema, field) if isinstance(value, dict) else _told(field, value, "an object")
        case set():
            fits = isinstance(value, str) and value in schema
            return "" if fits else _told(field, value, " or ".join(sorted(map(repr, schema))))
    return "" if _is(value, schema) else _told(field, value, _WORDS[schema])


def _outside(value: Any, schema: Within, field: str) -> str:
    size = value if isinstance(value, (int, float)) else len(value)
    if schema.low <= size <= schema.high:
        return ""
    most = f" and at most {schema.high:g}" if math.isfinite(schema.high) else ""
    return _told(field, value, f"{'' if size is value else 'a length of '}at least {schema.low:g}{most}")


def _first(pairs: Iterable[tuple[Any, Any]], field: str) -> str:
    return next(filter(None, (_mismatch(each, own, f"{field}[{at}]") for at, (own, each) in enumerate(pairs))), "")


def _in_object(value: dict[str, Any], schema: dict[Any, Any], field: str) -> str:
    names = dict.fromkeys(value, schema[str]) if str in schema else schema
    for name, own in names.items():
        plain = name.removesuffix("?") if names is schema else name
        named = f"{field}.{plain}"[:_MOST_SHOWN].lstrip(".")
        if plain in value:
            if told := _mismatch(value[plain], own, named):
                return told
        elif plain == name:
            return f"{named} is missing"
    return ""


def _is(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool) and abs(value) <= 1e300
    return kind is Any or isinstance(value, kind)


def _told(field: str, value: Any, wanted: str) -> str:
    shown = repr(value)
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
    return f"{field or 'its content'} is {shown}; wanted is {wanted}"


def inside(folder: Path, name: str) -> Path:
    """Join a folder and a name that a file gave; refuse a name that is a path or cannot be a file's."""
    if name in ("", ".", "..") or {"/", "\\", "\0"} & set(name) or len(name.encode(errors="replace")) > 255:
        raise InputError(f"{folder} has a part called {name[:_MOST_SHOWN]!r}, which is no name of a file in it.")
    return folder / name


def read_array(path: Path) -> NDArray[Any]:
    """Map a ``.npy`` file into memory; whatever its header announces, no more is there than the file has."""
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
    """Refuse a file of torch's that would unfold; one of the older format is no ZIP archive and cannot."""
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
    """Refuse a ZIP archive whose members would unfold, or share their bytes, to more than the archive has."""
    total = 0
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its member {member.filename[:80]!r} is compressed, which numpy and torch do not do")
        total += member.file_size
    if total > size:
        raise ValueError(f"its members announce {total:,} bytes in an archive of {size:,}")
