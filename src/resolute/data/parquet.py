"""Folders of Hugging Face parquet files: the image and label columns are found by type."""

from __future__ import annotations

import functools
import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from resolute.data.folders import CHUNK, ORDER, Encoded, check_parts, first_names, part_of
from resolute.errors import InputError
from resolute.safe_io import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.data.decode import Blob


LEAST_IMAGE = 8
"""Bytes of a file for each image in it, at least; the smallest PNG file has 67, and rows may share one."""
INFLATION = 100
"""How many times its size a file may unfold to: compressed images hardly do."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Compressed images that are rows of parquet files; see :class:`~resolute.data.folders.Blobs`.

    Attributes:
        paths: The files, in order.
        column: The column that holds the images.
        groups: int64 [g, 3], for each row group the number of its file, its number there, and the position of the
            first row behind it.
    """

    paths: tuple[Path, ...]
    column: str
    groups: NDArray[np.int64]

    @classmethod
    def of(cls, paths: Sequence[Path], column: str) -> Rows:
        """Read from the files' ends where their rows are."""
        sizes = []
        for number, path in enumerate(paths):
            with reading(path):
                metadata = checked(path)
            sizes += [(number, k, metadata.row_group(k).num_rows) for k in range(metadata.num_row_groups)]
        groups = np.array(sizes, dtype=np.int64)
        groups[:, 2] = groups[:, 2].cumsum()
        return cls(tuple(paths), column, groups)

    def read(self, i: int) -> bytes | None:
        """Read one image, by way of its row group, of which the last few stay in memory."""
        k, row = self._find(i)
        number, group, _ = self.groups[k].tolist()
        value: bytes | None = _group(self.paths[number], group, self.column)[row].as_py()
        return value

    def chunks(self) -> Iterator[list[Blob]]:
        """Go through all images in order."""
        import pyarrow.parquet as pq

        for path in self.paths:
            with reading(path), pq.ParquetFile(path) as opened:
                left = opened.metadata.num_rows
                for batch in opened.iter_batches(CHUNK, columns=[self.column]):
                    left -= len(batch)
                    _check_rows(path, left >= 0)
                    yield _content(batch.column(0)).to_pylist()
                _check_rows(path, left == 0)

    def describe(self, i: int) -> str:
        """Name an image, for messages."""
        k, _ = self._find(i)
        of_file = self.groups[self.groups[:, 0] == self.groups[k, 0]]
        first = self.groups[self.groups[:, 0] < self.groups[k, 0]][:, 2].max(initial=0)
        return f"{self.paths[of_file[0, 0]].name} row {i - first}"

    def files(self) -> Iterator[Path]:
        """List the files that the images are in."""
        yield from self.paths

    def _find(self, i: int) -> tuple[int, int]:
        k = int(np.searchsorted(self.groups[:, 2], i, side="right"))
        return k, i - (int(self.groups[k - 1, 2]) if k else 0)


def checked(path: Path) -> Any:
    """Read a file's footer, and refuse one that announces more than the file can hold."""
    import pyarrow.parquet as pq

    metadata, size = pq.read_metadata(path), path.stat().st_size
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    rows = [group.num_rows for group in groups]
    unfolded = sum(
        max(0, group.column(k).total_uncompressed_size) for group in groups for k in range(group.num_columns)
    )
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows or metadata.num_rows * LEAST_IMAGE > size:
        raise InputError(f"{path} announces {metadata.num_rows:,} images in {size:,} bytes: it is damaged, or a trap")
    if unfolded > INFLATION * size:
        raise InputError(f"{path} would unfold from {size:,} to {unfolded:,} bytes, as images do not: delete it")
    return metadata


def _check_rows(path: Path, holds: bool) -> None:
    if not holds:
        raise InputError(f"{path} holds another number of images than it announces: delete it and fetch it again")


@functools.lru_cache(maxsize=2)
def _group(path: Path, group: int, column: str) -> Any:
    import pyarrow.parquet as pq

    with reading(path), pq.ParquetFile(path) as opened:
        return _content(opened.read_row_group(group, columns=[column]).column(0).combine_chunks())


def _content(values: Any) -> Any:
    import pyarrow as pa

    return values.field("bytes") if pa.types.is_struct(values.type) else values


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Turn what pyarrow says of a damaged file into a refusal."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, MemoryError, OverflowError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{file} cannot be read as parquet ({reason}): delete it and fetch it again") from error


@dataclass(frozen=True, slots=True)
class Columns:
    """Where images and labels are in a parquet file.

    Attributes:
        image: Name of the image column.
        label: Name of the label column.
        class_names: The classes that the file's own description lists, if it does.
    """

    image: str
    label: str
    class_names: tuple[str, ...] | None


def parquet_files(path: Path) -> list[Path]:
    """List the parquet files of a folder, or of its ``data`` folder as Hugging Face's repositories have it."""
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def open_parquet(path: Path, wanted: Sequence[str] = ORDER) -> Encoded:
    """Open a folder of parquet files ``train-*.parquet``, ``test-*.parquet``, ``validation-*.parquet``."""
    # Files with no such beginning, in a folder where none has one, form a set that nobody has split. Rows keep their
    # order, files are sorted by name.
    parts = {part: files for part, files in _parts(path, parquet_files(path)).items() if part in wanted}
    files = [file for part in parts.values() for file in part]
    found = [_columns(file) for file in files]
    for file, columns in zip(files, found, strict=True):
        if columns != found[0]:
            raise InputError(f"{file} has other columns or classes than {files[0]}: {columns} and {found[0]}")
    labels = {file: _labels(file, found[0].label) for file in files}
    values = list(itertools.chain.from_iterable(labels.values()))
    names, number = _numbering(path, found[0], values)
    return Encoded(
        place=str(path),
        counts={part: sum(len(labels[file]) for file in part_files) for part, part_files in parts.items()},
        y=torch.tensor([number[value] for value in values]),
        class_names=names,
        blobs=Rows.of(files, found[0].image),
    )


def _parts(path: Path, files: list[Path]) -> dict[str, list[Path]]:
    parts = {file: part_of(file.stem.split("-")[0]) for file in files}
    if not any(parts.values()):
        return {"train": files}
    stray = [file.name for file, part in parts.items() if part is None]
    if stray:
        raise InputError(
            f"{path} has parquet files that belong to no part: {first_names(stray)}. Wanted are names that begin with "
            "train-, test- or validation-; move the others elsewhere"
        )
    check_parts(path, sorted(part for part in set(parts.values()) if part))
    by_part = {name: [file for file, part in parts.items() if part == name] for name in ORDER}
    return {name: chosen for name, chosen in by_part.items() if chosen}


def _columns(file: Path) -> Columns:
    import pyarrow.parquet as pq

    with reading(file):
        schema = pq.read_schema(file)
    features = _features(file, schema)
    image = _the_one(file, "image", _described(features, "Image") or [f.name for f in schema if _holds_images(f.type)])
    class_labels = _described(features, "ClassLabel")
    label = _the_one(file, "label", class_labels or [f.name for f in schema if _holds_labels(f.type)])
    names = features[label].get("names") if class_labels else None
    return Columns(image, label, tuple(names) if names else None)


def _features(file: Path, schema: Any) -> dict[str, Any]:
    """Read the description that Hugging Face's library writes: a dictionary for each column."""
    try:
        stored = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"))
        described = stored.get("info", {}).get("features", {})
        found = {name: described[name] for name in schema.names if name in described}
        names = [feature.get("names") or [] for feature in found.values() if feature.get("_type") == "ClassLabel"]
        damaged = [name for own in names for name in (own if isinstance(own, list) else [own]) if type(name) is not str]
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{file} has a damaged description of its columns ({error}): fetch it again") from error
    if damaged:
        raise InputError(f"{file} describes a class by {damaged[0]!r:.60}, which is no name: fetch it again")
    return found


def _described(features: dict[str, Any], kind: str) -> list[str]:
    return [name for name, feature in features.items() if isinstance(feature, dict) and feature.get("_type") == kind]


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_images(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _holds_labels(kind: Any) -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))


def _the_one(file: Path, what: str, candidates: Sequence[str]) -> str:
    wanted = {
        "image": "a column of image files' bytes (binary, or a struct with the field 'bytes')",
        "label": "a column of whole numbers or names",
    }[what]
    if not candidates:
        raise InputError(f"{file} has no {what} column: wanted is {wanted}")
    if len(candidates) > 1:
        raise InputError(
            f"{file} has {len(candidates)} columns that could be the {what}: {', '.join(map(repr, candidates))}. "
            "Write the files anew with one of them (pyarrow: table.drop_columns)"
        )
    return candidates[0]


def _labels(file: Path, column: str) -> list[int | str]:
    import pyarrow.parquet as pq

    with reading(file):
        wanted = checked(file).num_rows
        values: list[int | str | None] = pq.read_table(file, columns=[column]).column(column).to_pylist()
    if len(values) != wanted:
        raise InputError(f"{file} announces {wanted:,} rows and holds {len(values):,}: fetch it again")
    missing = sum(value is None for value in values)
    if missing or not values:
        state = f"{missing} of {len(values)} rows without a label" if values else "no rows"
        raise InputError(f"{file} has {state} in its column {column!r}: every image needs one")
    return [value for value in values if value is not None]


def _numbering(path: Path, columns: Columns, values: list[int | str]) -> tuple[tuple[str, ...], dict[int | str, int]]:
    """Name the classes, and number the values of the label column; without a description, by sorting what there is."""
    found = set(values)
    if columns.class_names is not None:
        outside = sorted(str(value) for value in found if value not in range(len(columns.class_names)))
        if outside:
            raise InputError(
                f"{path} has labels out of range in its column {columns.label!r}: {first_names(outside)}; its "
                f"{len(columns.class_names)} classes are 0 to {len(columns.class_names) - 1}. Remove those rows "
                "(-1 stands for an image without a label)"
            )
        return columns.class_names, {k: k for k in range(len(columns.class_names))}
    ordered = sorted(found, key=lambda value: (isinstance(value, str), value))
    if isinstance(ordered[0], int) and ordered[0] < 0:
        raise InputError(f"{path} has the label {ordered[0]} in its column {columns.label!r}: labels are 0 or more")
    if len(found) == len(values) > 2:
        raise InputError(
            f"{path} has no label column: {columns.label!r} differs in each of its {len(values)} rows. Wanted is a "
            "column that says which of a few classes an image is of"
        )
    return tuple(map(str, ordered)), {value: k for k, value in enumerate(ordered)}
