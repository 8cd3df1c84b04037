"""Folders of Hugging Face parquet files: the image and label columns are found by type."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from resolute.data.encoded import Encoded, listed
from resolute.data.folder import ORDER, PARTS, check_parts
from resolute.data.rows import Rows, checked, reading
from resolute.errors import InputError
from resolute.untrusted import parse_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
    """List the parquet files of a folder, or of its ``data`` folder as Hugging Face's repositories have it.

    Args:
        path: The folder.

    Returns:
        The files, sorted by name; none if the folder is not of this kind.
    """
    return sorted(path.glob("*.parquet")) or sorted(path.glob("data/*.parquet"))


def open_parquet(path: Path, wanted: Sequence[str] = ORDER) -> Encoded:
    """Open a folder of parquet files ``train-*.parquet``, ``test-*.parquet``, ``validation-*.parquet``.

    Files with no such beginning, in a folder where none has one, form a set that nobody has split. Rows keep their
    order, files are sorted by name.

    Args:
        path: The folder.
        wanted: The parts to open.

    Returns:
        The images, still compressed and still on the disk.

    Raises:
        InputError: If a file cannot be read, columns are missing, ambiguous or differ between files, or labels are
            missing or out of range.
    """
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
    parts = {file: PARTS.get(file.stem.split("-")[0].lower()) for file in files}
    if not any(parts.values()):
        return {"train": files}
    stray = [file.name for file, part in parts.items() if part is None]
    if stray:
        raise InputError(
            f"{path} has parquet files that belong to no part: {listed(stray)}. Wanted are names that begin with "
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
                f"{path} has labels out of range in its column {columns.label!r}: {listed(outside)}; its "
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
