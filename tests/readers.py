"""Every reader of a foreign format with a small good file; to a bad one it says `ValueError` or `OSError`."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from resolute import models
from resolute.data import published
from resolute.data.dataset import photographs
from resolute.data.decode import decode, peek
from resolute.data.parquet import open_parquet
from resolute.evaluation.networks import from_name
from resolute.models import checkpoint
from resolute.report.run import load_run
from resolute.run_folder import Record, read_bits, read_records, write_bits, write_records
from resolute.safe_io import read_array
from resolute.training import checkpoint as log

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (1, 8, 8)
INFO = photographs("x", SHAPE, (0.5,), (0.5,), tuple("abcd"))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Reader:
    """A reader: what it reads, and a good file of its format."""

    read: Callable[[Path], Any]
    good: Callable[[], bytes]
    name: str = "file"


def _made(write: Callable[[Path], Any], name: str = "file") -> Callable[[], bytes]:
    def good() -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, name))
            return Path(folder, name).read_bytes()

    return good


def _image(kind: str) -> Callable[[], bytes]:
    def good() -> bytes:
        stream = io.BytesIO()
        Image.fromarray(PIXELS[0]).save(stream, kind)
        return stream.getvalue()

    return good


def _decode(path: Path) -> None:
    content = path.read_bytes()
    try:
        peek(content)
        decode(content, SHAPE)
    except (MemoryError, RecursionError):
        raise
    except Exception as error:  # the loaders collect whatever Pillow raises
        raise ValueError(error) from error


def _read_idx(path: Path) -> None:
    labels = path.with_name("labels")
    labels.write_bytes(IDX[1])
    published._read_idx([path, labels], classes=10)


def _parquet(path: Path) -> None:
    blobs, labels = [_image("PNG")(), _image("JPEG")()] * 4, [0, 1] * 4
    pq.write_table(pa.table({"image": blobs, "label": labels}), path)


def _read_parquet(path: Path) -> None:
    encoded = open_parquet(path.parent)
    list(encoded.blobs.chunks())
    encoded.blobs.read(0)


def _spec(path: Path) -> None:
    (path.parent / "weights.safetensors").write_bytes(WEIGHTS)
    checkpoint.load_network(path.parent)


def _weights_of(path: Path) -> None:
    (path.parent / "model.json").write_text(json.dumps({"name": "lenet", "classes": 4, "shape": SHAPE}))
    checkpoint.load_network(path.parent)


def _recipe(path: Path) -> None:
    cell = path.parent / "cells/base-seed0"
    cell.mkdir(parents=True, exist_ok=True)
    write_bits(cell / "bits.npz", {("clean", "clean", 0.0): np.ones(9, bool)})
    write_records(cell / "records.jsonl", [RECORD])
    (path.parent / "environment.json").write_text("{}")
    load_run(path.parent)


RECORD = Record("digits", "lenet", "base", 0, "clean", "clean", 0.0, 9, 9)
IDX = struct.pack(">iiii", 0x803, 2, 28, 28) + bytes(2 * 784), struct.pack(">ii", 0x801, 2) + bytes(2)
LENET = models.build("lenet", classes=4, shape=SHAPE)
WEIGHTS = _made(lambda p: checkpoint.save_network(LENET, p.parent, {}), "weights.safetensors")()
RECIPE = {"methods": ["base"], "seeds": [0], "baseline": "base", "data": "digits", "train": {"epochs": 1}}

READERS: dict[str, Reader] = {
    "idx": Reader(_read_idx, lambda: IDX[0]),
    "gzip": Reader(_read_idx, lambda: gzip.compress(IDX[0]), "x.gz"),
    "npy": Reader(read_array, _made(lambda p: np.save(p, PIXELS), "x.npy"), "x.npy"),
    "npz": Reader(read_bits, _made(lambda p: write_bits(p, {("a", "b", 0.1): np.ones(99, bool)})), "bits.npz"),
    "records": Reader(read_records, _made(lambda p: write_records(p, [RECORD] * 3))),
    "recipe": Reader(_recipe, lambda: json.dumps(RECIPE).encode(), "recipe.json"),
    "model": Reader(_spec, lambda: json.dumps({"name": "lenet", "classes": 4, "shape": SHAPE}).encode(), "model.json"),
    "safetensors": Reader(_weights_of, lambda: WEIGHTS, "weights.safetensors"),
    "torch": Reader(lambda p: from_name("lenet", p, INFO), _made(lambda p: torch.save(LENET.state_dict(), p)), "w.pth"),
    "checkpoint": Reader(
        lambda p: log.load_state(p.parent, {"seed": 0}, torch.device("cpu")),
        _made(lambda p: log.save_state(p.parent, {"seed": 0}, {"model": {"w": torch.ones(3)}}, []), "checkpoint.pt"),
        "checkpoint.pt",
    ),
    "parquet": Reader(_read_parquet, _made(_parquet), "train-0.parquet"),
    **{kind.lower(): Reader(_decode, _image(kind)) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")},
}  # fmt: skip


def attempt(reader: Reader, content: bytes, folder: Path) -> None:
    """Read some bytes; anything but a value, `ValueError` or `OSError` comes through."""
    path = folder / reader.name
    path.write_bytes(content)
    with contextlib.suppress(ValueError, OSError):
        reader.read(path)
