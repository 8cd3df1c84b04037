"""Small image folders, parquet files and MNIST files in their true formats."""

from __future__ import annotations

import gzip
import io
import json
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


def noise(seed: int, height: int = 8, width: int = 8, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode in {"L", "P"} else (height, width, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return Image.frombytes(mode, (width, height), pixels.tobytes())


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def picture() -> Callable[..., Image.Image]:
    """An image of noise: ``picture(seed, height, width, mode)``."""
    return noise


@pytest.fixture
def compressed() -> Callable[..., bytes]:
    """An image's file: ``compressed(image, "JPEG")``."""
    return encoded


@pytest.fixture
def image_folder() -> Callable[..., Path]:
    """Writes class folders of PNG files: ``image_folder(path, {"cat": 3, "dog": 4}, height=8, width=8)``."""

    def write(path: Path, classes: Mapping[str, int], **how: Any) -> Path:
        for number, (name, count) in enumerate(classes.items()):
            (path / name).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                noise(100 * number + i, **how).save(path / name / f"{i:03}.png")
        return path

    return write


@pytest.fixture
def hugging_face_file() -> Callable[..., Path]:
    """Writes one parquet file: ``hugging_face_file(path, {"image": blobs, "label": labels}, names=("a", "b"))``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(path: Path, columns: Mapping[str, Sequence[Any]], features: Mapping[str, Any] | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table(
            {
                name: pa.array([{"bytes": v, "path": None} for v in values], HUGGING_FACE_IMAGE)
                if name in {"image", "img"}
                else pa.array(values)
                for name, values in columns.items()
            }
        )
        if features is not None:
            described = json.dumps({"info": {"features": dict(features)}})
            table = table.replace_schema_metadata({"huggingface": described})
        pq.write_table(table, path)
        return path

    HUGGING_FACE_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return write


@pytest.fixture
def idx_files() -> Callable[..., dict[str, NDArray[np.uint8]]]:
    """Writes MNIST's four files with few images: ``idx_files(folder, packed=False)`` gives what it wrote."""

    def write(folder: Path, packed: bool = False, n: int = 30) -> dict[str, NDArray[np.uint8]]:
        folder.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(7)
        written: dict[str, NDArray[np.uint8]] = {}
        for part, count in (("train", n), ("t10k", 12)):
            images = draw.integers(0, 256, (count, 28, 28), dtype=np.uint8)
            labels = draw.integers(0, 10, count, dtype=np.uint8)
            for kind, array in (("images-idx3-ubyte", images), ("labels-idx1-ubyte", labels)):
                header = struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape)
                content = header + array.tobytes()
                name = f"{part}-{kind}"
                written[name] = array
                if packed:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
                else:
                    (folder / name).write_bytes(content)
        return written

    return write
