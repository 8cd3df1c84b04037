"""Small sets in the true formats of their hosts, and a host."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import re
import struct
import tarfile
import threading
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
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


Written = dict[str, "NDArray[np.uint8]"]


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def digits(n: int, classes: int = 10, seed: int = 7) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    draw = np.random.default_rng((seed, n))
    return draw.integers(0, 256, (n, 28, 28), dtype=np.uint8), draw.integers(0, classes, n, dtype=np.uint8)


@pytest.fixture
def idx_files() -> Callable[..., Written]:
    """Writes MNIST's four files with few images: ``idx_files(folder, packed=False)`` gives what it wrote."""

    def write(folder: Path, packed: bool = False, n: int = 30) -> Written:
        folder.mkdir(parents=True, exist_ok=True)
        written: Written = {}
        for part, count in (("train", n), ("t10k", 12)):
            for kind, array in zip(("images-idx3-ubyte", "labels-idx1-ubyte"), digits(count), strict=True):
                name = f"{part}-{kind}"
                written[name] = array
                if packed:
                    (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array), mtime=0))
                else:
                    (folder / name).write_bytes(idx(array))
        return written

    return write


@pytest.fixture
def emnist_archive() -> Callable[[Path], Written]:
    """Writes EMNIST's ZIP archive with few images of its balanced split."""

    def write(path: Path) -> Written:
        path.parent.mkdir(parents=True, exist_ok=True)
        written: Written = {}
        with zipfile.ZipFile(path, "w") as archive:
            for part, count in (("train", 30), ("test", 12)):
                for kind, array in zip(("images-idx3", "labels-idx1"), digits(count, 47), strict=True):
                    written[f"{part}-{kind}"] = array
                    archive.writestr(f"gzip/emnist-balanced-{part}-{kind}-ubyte.gz", gzip.compress(idx(array)))
        return written

    return write


def python_2(pixels: NDArray[np.uint8], labels: Sequence[int], label: str) -> bytes:
    """The bytes that Python 2's cPickle and NumPy 1 wrote: text and pixels are byte strings, numbers plain."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = b"".join([
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n", number(0), b"\x85", text("b"), b"\x87R(",
        number(1), number(pixels.shape[0]), number(pixels.shape[1]), b"\x86",
        b"cnumpy\ndtype\n", text("u1"), number(0), number(1), b"\x87R(",
        number(3), text("|"), b"NNN", number(-1), number(-1), number(0), b"tb",
        b"\x89T", struct.pack("<i", pixels.size), pixels.tobytes(), b"tb",
    ])  # fmt: skip
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    return b"\x80\x02}(" + text("data") + array + text(label) + listed + b"u."


@dataclass
class Cifar:
    """Which numbers torchvision has for a small CIFAR: patch its class with ``numbers``."""

    archive: bytes
    numbers: dict[str, Any]
    x: dict[str, NDArray[np.uint8]]
    y: dict[str, list[int]]


@pytest.fixture
def cifar_archive() -> Callable[..., Cifar]:
    """Makes CIFAR-10's or -100's archive with few images: ``cifar_archive(kind, label, per_batch)``."""

    def make(kind: Any, label: str, per_batch: int = 10, classes: int = 10) -> Cifar:
        stream, x, y = io.BytesIO(), {}, {}
        lists: dict[str, list[list[str]]] = {}
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for part, batches in (("train", kind.train_list), ("test", kind.test_list)):
                draw = np.random.default_rng(len(batches) + classes)
                x[part] = draw.integers(0, 256, (len(batches) * per_batch, 3072), dtype=np.uint8)
                y[part] = draw.integers(0, classes, len(x[part])).tolist()
                for k, (name, _) in enumerate(batches):
                    of_batch = slice(k * per_batch, (k + 1) * per_batch)
                    content = python_2(x[part][of_batch], y[part][of_batch], label)
                    lists.setdefault(part, []).append([name, hashlib.md5(content).hexdigest()])
                    member = tarfile.TarInfo(f"{kind.base_folder}/{name}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        packed = stream.getvalue()
        numbers = {"train_list": lists["train"], "test_list": lists["test"]}
        return Cifar(packed, numbers | {"tgz_md5": hashlib.md5(packed).hexdigest()}, x, y)

    return make


@pytest.fixture
def house_numbers() -> Callable[..., Written]:
    """Writes one of SVHN's MATLAB files: ``house_numbers(path, labels)``, labels from 1 to 10."""
    from scipy.io import savemat

    def write(path: Path, labels: Sequence[int], seed: int = 0) -> Written:
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        y = np.array(labels, dtype=np.uint8)[:, None]
        path.parent.mkdir(parents=True, exist_ok=True)
        savemat(path, {"X": pixels, "y": y}, do_compression=True)
        return {"X": pixels, "y": y}

    return write


@dataclass
class Server:
    """A host on this machine.

    Attributes:
        url: Its address, without a slash at the end.
        files: What it has, by path; may be changed at any time.
        asked: The Range header of each request for a path, or "".
        breaks: Bytes after which the next transfers of a path break off, one after the other.
        ranges: Whether it can begin in the middle.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: dict[str, list[str]] = field(default_factory=dict)
    breaks: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True

    @property
    def requests(self) -> Counter[str]:
        return Counter({path: len(headers) for path, headers in self.asked.items()})


@pytest.fixture
def server() -> Iterator[Server]:
    """A host that answers from ``server.files``."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            asked = self.headers.get("Range", "")
            state.asked.setdefault(path, []).append(asked)
            if path not in state.files:
                self.send_error(404)
                return
            content = state.files[path]
            begin = int(re.findall(r"\d+", asked)[0]) if asked and state.ranges else 0
            if begin >= len(content) > 0 and asked and state.ranges:
                self.send_error(416)
                return
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            breaks = state.breaks.get(path)
            self.wfile.write(content[begin : breaks.pop(0) if breaks else None])

        def log_message(self, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_port}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()
