"""Files that mean harm, each read in a process of its own whose memory is watched.

Run as ``python hostile.py FOLDER``; it prints, for each file, what the reader said, its seconds and the megabytes that
it took beyond what was there before, as JSON. No file is larger than 20 MB.
"""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import resource
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from resolute.assessment import from_name
from resolute.data import hosts, load
from resolute.data.decoded import recall
from resolute.data.formats import read_batches, read_idx, read_mat, unpacked
from resolute.data.info import photographs
from resolute.data.pixels import decode
from resolute.models import checkpoint
from resolute.records import read_bits, read_json, read_records
from resolute.report import load_run
from resolute.training import log
from resolute.untrusted import read_array

if TYPE_CHECKING:
    from collections.abc import Callable

GIGABYTE = 2**30
SHAPE = (3, 32, 32)
INFO = photographs("x", SHAPE, (0.5,) * 3, (0.5,) * 3, tuple("abcd"))


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
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = deflated(GIGABYTE, 15)
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
    checkpoint.save(models.build("lenet", classes=4, shape=(1, 8, 8)), folder, spec | changes)


def archive_of(folder: Path, name: str, size: int) -> None:
    """A gzipped tar archive with one member of zeros."""
    with tarfile.open(folder / "x.tar.gz", "w:gz", compresslevel=1) as archive:
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


def _stride_bomb(path: Path) -> None:
    torch.save({"network.fc1.weight": torch.zeros(1).expand(10**12)}, path)


def _compressed_tensors(path: Path) -> None:
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


def _lying_safetensors(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


IDX = struct.pack(">iIII", 0x803, 2**32 - 1, 2**16, 2**16)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) (w) file\nshowpage\n"
MEMO = b"\x80\x02}r\xff\xff\xff\x7f."
ARRAY = b"\x80\x02}U\x04datacnumpy\nndarray\n(J\x00\x00\x00\x40J\x00\x00\x00\x10\x86tRs."
SIZED = b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nJ\x00\x00\x00\x40\x85U\x01btRs."
DEEP = b"[" * 10**6


def _unpack(path: Path) -> None:
    hosts._unpack(path / "x.tar.gz", path / "set", ["data_batch_1"])
    assert not [found for found in path.parent.rglob("evil*") if found.is_file()], "it came out of its folder"
    if not (path / "set/data_batch_1").is_file():
        raise ValueError("nothing of it was unpacked")


BOMBS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "idx that promises 18 EB": (write(IDX + b"1234"), lambda p: read_idx(p.read_bytes(), b"")),
    "idx in a gzip bomb": (gzip_bomb, unpacked),
    "idx in a zip bomb": (lambda p: zip_bomb(p, "m"), lambda p: unpacked(p, "m")),
    "idx in a gzip bomb in a zip": (lambda p: zip_bomb(p, "m.gz", nested=True), lambda p: unpacked(p, "m.gz")),
    "sparse file of 1 TB": (lambda p: sparse(p, 2**40), unpacked),
    "mat of 2 GB in 2 MB": (mat_bomb, read_mat),
    "pickle that calls": (write(b"cos\nsystem\n(S'touch evil'\ntR."), lambda p: read_batches([p], "labels")),
    "pickle with part 2147483647": (write(MEMO), lambda p: read_batches([p], "labels")),
    "pickle of an array of 288 PB": (write(ARRAY), lambda p: read_batches([p], "labels")),
    "pickle of an empty array of 1 GB": (write(SIZED), lambda p: read_batches([p], "labels")),
    "pickle of a text of 1 TB": (write(b"\x80\x04\x8d" + struct.pack("<Q", 2**40)), lambda p: read_batches([p], "l")),
    "tar of 4 GB of zeros": (lambda p: (p.mkdir(), archive_of(p, "set/data_batch_1", 4 * GIGABYTE)), _unpack),
    "tar with a path upwards": (lambda p: (p.mkdir(), archive_of(p, "set/../../evil", 9)), _unpack),
    "tar with an absolute path": (lambda p: (p.mkdir(), archive_of(p, "/tmp/evil-of-a-tar", 9)), _unpack),
    "PNG of 60,000 x 60,000": (lambda p: pixel_bomb(p, "PNG"), lambda p: decode(p, SHAPE)),
    "GIF of 65,535 x 65,535": (lambda p: pixel_bomb(p, "GIF"), lambda p: decode(p, SHAPE)),
    "PostScript called .png": (lambda p: image_folder(p, EPS), lambda p: load(p)),
    "npy that promises 1 TB": (write(npy("(1099511627776,)")), read_array),
    "npy that promises 2^70": (write(npy("(1180591620717411303424,)")), read_array),
    "npy of objects": (write(npy("(8,)", "|O")), read_array),
    "decoded set that promises 1 TB": (
        lambda p: (p.mkdir(), (p / "about.json").write_text('{"mean": [0], "std": [1]}'),
                   (p / "x.npy").write_bytes(npy("(1048576, 1, 1024, 1024)"))),
        lambda p: recall(p.parent, p.name) or refused("not whole, so decoded anew"),
    ),
    "parquet that announces 10^12 rows": (lambda p: shard(p, 5000, lie=10**12), lambda p: load(p)),
    "parquet that announces 100 rows more": (lambda p: shard(p, 5000, lie=5100), lambda p: load(p)),
    "parquet of a million times one image": (lambda p: shard(p, 10**6), lambda p: load(p)),
    "bits in a zip bomb": (lambda p: bits(p, compressed=True, n=8 * GIGABYTE), read_bits),
    "bits that announce 10^12": (lambda p: bits(p, compressed=False, n=10**12), read_bits),
    "JSON a million deep": (write(DEEP), read_json),
    "JSON in a sparse file of 1 TB": (lambda p: sparse(p, 2**40), read_json),
    "record with text for a count": (
        write(b'{"data":"a","model":"b","method":"c","seed":0,"suite":"s","shift":"h","severity":0,"correct":"<b>","n":1}'),
        read_records,
    ),
    "recipe with a path for a method": (
        lambda p: run_folder(p, '{"methods": ["../../../etc"], "seeds": [0], "baseline": "x"}'), load_run
    ),
    "recipe of 10^10 cells": (
        lambda p: run_folder(p, json.dumps({"methods": ["a"] * 10**5, "seeds": [1] * 10**5, "baseline": "a"})), load_run
    ),
    "model of 10^12 classes": (lambda p: model(p, classes=10**12), checkpoint.load),
    "model of 90,000 classes": (lambda p: model(p, classes=90_000), checkpoint.load),
    "model of images of 2,048 pixels": (lambda p: model(p, shape=[1, 2048, 2048]), checkpoint.load),
    "model of another network": (lambda p: model(p, name="wrn-9994-1"), checkpoint.load),
    "weights that announce 4 TB": (_lying_safetensors, lambda p: from_name("lenet", p, INFO)),
    "weights of one number seen as 4 TB": (_stride_bomb, lambda p: from_name("lenet", p, INFO)),
    "weights in a zip bomb": (_compressed_tensors, lambda p: from_name("lenet", p, INFO)),
    "weights that call": (write(pickle.dumps(print)), lambda p: from_name("lenet", p, INFO)),
    "checkpoint in a zip bomb": (
        lambda p: (p.mkdir(), _compressed_tensors(p / "checkpoint.pt")),
        lambda p: log.load(p, "", torch.device("cpu")),
    ),
}  # fmt: skip


def refused(message: str) -> None:
    raise ValueError(message)


def peak() -> int:
    """Give the most bytes that were resident since the watch was set."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def attempt(read: Callable[[Path], Any], path: Path, pipe: Any) -> None:
    """Read in this process and tell how it went."""
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = peak(), time.perf_counter()
    try:
        read(path)
        said = "ACCEPTED"
    except ValueError as error:
        said = f"{type(error).__name__}: {error}"
    except BaseException as error:
        said = f"CRASHED: {type(error).__name__}: {error}"
    pipe.send((said, round(time.perf_counter() - begin, 2), round((peak() - before) / 2**20)))


def main(folder: Path, chosen: str = "") -> None:
    """Make and read every file, and print what was found."""
    torch.set_num_threads(1)
    context, found = multiprocessing.get_context("fork"), {}
    for number, (name, (make, read)) in enumerate(BOMBS.items()):
        if chosen not in name:
            continue
        path = folder / f"{number}.gz" if "gzip bomb" in name and "zip" not in name[18:] else folder / str(number)
        if "weights in" in name or "weights of" in name or "call" in name:
            path = path.with_suffix(".pth")
        if "weights that announce" in name:
            path = path.with_suffix(".safetensors")
        make(path)
        ours, theirs = context.Pipe()
        child = context.Process(target=attempt, args=(read, path, theirs))
        child.start()
        child.join()
        said, seconds, megabytes = ours.recv() if ours.poll() else (f"DIED with {child.exitcode}", -1, -1)
        found[name] = {"said": said, "seconds": seconds, "MB": megabytes}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
