"""How the files of hostile.py are made: small ones that announce or unpack to much, and ones that call."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from resolute.models import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GIGABYTE = 2**30


def deflated(size: int, wbits: int, start: bytes = b"") -> bytes:
    """Compress ``start`` and then ``size`` zero bytes, of which one megabyte is compressed in earnest."""
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (size // 2**20) + packer.flush()


def gzip_bomb(path: Path) -> None:
    path.write_bytes(deflated(2 * GIGABYTE, 31))


def zip_bomb(path: Path, member: str, nested: bool = False) -> None:
    inner = deflated(2 * GIGABYTE, 31) if nested else b""
    packed, size = (inner, len(inner)) if nested else (deflated(2 * GIGABYTE, -15), 2 * GIGABYTE)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, packed)
    if not nested:
        raw = bytearray(path.read_bytes())
        central = raw.rindex(b"PK\x01\x02")
        for method, length in ((8, 22), (central + 10, central + 24)):
            raw[method : method + 2], raw[length : length + 4] = struct.pack("<H", 8), struct.pack("<I", size)
        path.write_bytes(raw)


def mat_bomb(path: Path) -> None:
    """A name of 2 GB in a compressed element of 2 MB."""
    matrix = struct.pack("<IIIIII", 14, 2**32 - 8, 6, 8, 9, 0) + struct.pack("<IIiiii", 5, 16, 32, 32, 3, 10**8)
    content = deflated(2 * GIGABYTE, 15, matrix + struct.pack("<II", 1, 2**31 - 8))
    path.write_bytes(bytes(116) + bytes(8) + b"\x00\x01IM" + struct.pack("<II", 15, len(content)) + content)


def pixel_bomb(path: Path, kind: str) -> None:
    """Four gigapixels of one colour."""
    if kind == "GIF":
        path.write_bytes(
            b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"
        )
        return
    png(path, 60000, 60000, 2, deflated(GIGABYTE, 15))


def png(path: Path, width: int, height: int, colour: int, data: bytes, depth: int = 8) -> None:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", data), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(part)) + kind_ + part + struct.pack(">I", zlib.crc32(kind_ + part))
        for kind_, part in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def npy(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(64)


def bits(path: Path, compressed: bool, n: int) -> None:
    write = np.savez_compressed if compressed else np.savez
    size = GIGABYTE // 4 if compressed else 8
    with path.open("wb") as file:
        write(file, n=np.array(n), **{"clean/clean/0.0": np.zeros(size, np.uint8)})  # type: ignore[arg-type]


def shard(folder: Path, rows: int, *, lie: int = 0) -> None:
    """Rows of one image; or of many, and a footer in which every number ``rows`` is another."""
    draw = np.random.default_rng(0)
    image = pa.array([draw.bytes(60) for _ in range(rows)] if lie else [b"\x89PNG" * 20] * rows)
    folder.mkdir()
    path = folder / "train-0.parquet"
    pq.write_table(pa.table({"image": image, "label": pa.array(np.arange(rows) % 2)}), path, compression="zstd")
    if lie:
        raw = path.read_bytes()
        length = int.from_bytes(raw[-8:-4], "little")
        footer = raw[-8 - length : -8].replace(varint(rows), varint(lie))
        path.write_bytes(raw[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1")


def varint(value: int) -> bytes:
    value, out = value << 1, b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def model(folder: Path, **changes: Any) -> None:
    from resolute import models

    spec = {"name": "lenet", "classes": 4, "shape": [1, 8, 8]}
    checkpoint.save_network(models.build("lenet", classes=4, shape=(1, 8, 8)), folder, spec | changes)


def archive_of(path: Path, name: str, size: int) -> None:
    """A gzipped tar archive with one member of zeros."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo(name)
        member.size = size
        archive.addfile(member, ZeroFile(size))


class ZeroFile(io.RawIOBase):
    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, n: int = -1) -> bytes:
        n = min(n, self.left)
        self.left -= n
        return bytes(n)


def run_folder(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "recipe.json").write_text(text)


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def write(content: bytes) -> Callable[[Path], None]:
    return lambda path: void(path.write_bytes(content))


def void(_: object) -> None:
    pass


def image_folder(path: Path, content: bytes) -> None:
    for name in ("a", "b"):
        (path / name).mkdir(parents=True)
        for k in range(5):
            (path / name / f"{k}.png").write_bytes(content)


def stride_bomb(path: Path) -> None:
    torch.save({"network.fc1.weight": torch.zeros(1).expand(10**12)}, path)


def compressed_tensors(path: Path) -> None:
    torch.save({"a": torch.zeros(GIGABYTE // 16)}, path.with_suffix(".plain"))
    with (
        zipfile.ZipFile(path.with_suffix(".plain")) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for member in plain.infolist():
            with plain.open(member) as source, archive.open(member.filename, "w") as target:
                while block := source.read(2**20):
                    target.write(block)
    path.with_suffix(".plain").unlink()


def lying_safetensors(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


IDX = struct.pack(">iIII", 0x803, 2**32 - 1, 2**16, 2**16)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) (w) file\nshowpage\n"
MEMO = b"\x80\x02}r\xff\xff\xff\x7f."
ARRAY = b"\x80\x02}U\x04datacnumpy\nndarray\n(J\x00\x00\x00\x40J\x00\x00\x00\x10\x86tRs."
SIZED = b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\x00\x00\x00\x40\x85U\x01btRs."
DEEP = b"[" * 10**6
