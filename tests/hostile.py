"""Files that mean harm, each read in a process of its own whose memory is watched.

Run as ``python hostile.py FOLDER``; it prints, for each file, what the reader said, its seconds and the megabytes that
it took beyond what was there before, as JSON. No file is larger than 20 MB.
"""

# mypy: disable-error-code="func-returns-value"

from __future__ import annotations

import json
import multiprocessing
import pickle
import resource
import struct
import sys
import time
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torchvision.datasets  # noqa: F401 its import is no reader's time and memory

from bombs import (
    ARRAY,
    DEEP,
    EPS,
    GIGABYTE,
    IDX,
    MEMO,
    SIZED,
    archive_of,
    bits,
    compressed_tensors,
    gzip_bomb,
    image_folder,
    lying_safetensors,
    mat_bomb,
    model,
    npy,
    pixel_bomb,
    png,
    run_folder,
    shard,
    sparse,
    stride_bomb,
    write,
    zip_bomb,
)
from resolute import run_folder as run_folders
from resolute.data import load, published
from resolute.data.dataset import photographs
from resolute.data.decode import decode, recall
from resolute.evaluation.networks import from_name
from resolute.models import checkpoint
from resolute.report.run import load_run
from resolute.run_folder import read_bits, read_json, read_records
from resolute.safe_io import read_array
from resolute.training import checkpoint as log

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = (3, 32, 32)
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]
INFO = photographs("x", SHAPE, (0.5,) * 3, (0.5,) * 3, tuple("abcd"))


def _load(name: str, *places: str) -> Callable[[Path], Any]:
    """Load a published set in whose places the file lies, under whatever checksums are published."""

    def read(path: Path) -> None:
        root = path.with_name(f"{path.name}-root")
        for place in places:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            (root / place).symlink_to(path)
        try:
            load(name, root)
        finally:
            found = [file for file in (*path.parent.rglob("evil*"), Path("/tmp/evil-of-a-tar")) if file.is_file()]
            assert not found, "it came out of its folder"

    return read


_idx = partial(published._read_idx, classes=10)
_batches = _load("cifar10", *(f"cifar-10-batches-py/{name}" for name in ("test_batch", *BATCHES)))
_tar = _load("cifar10", "cifar-10-python.tar.gz")


def checkpoint_bomb(path: Path) -> None:
    """Put the archive behind a header whose checksum is right."""
    compressed_tensors(path.with_name("bomb"))
    run_folders.write_part(path / "checkpoint.pt", path.with_name("bomb").read_bytes(), {})


BOMBS: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    "idx that promises 18 EB": (write(IDX + b"1234"), lambda p: _idx([p, p])),
    "idx in a gzip bomb": (gzip_bomb, lambda p: _idx([p, p])),
    "idx in a zip bomb": (lambda p: zip_bomb(p, "m"), _load("emnist", "EMNIST/raw/gzip.zip")),
    "idx in a gzip bomb in a zip": (
        lambda p: zip_bomb(p, "gzip/emnist-balanced-train-images-idx3-ubyte.gz", nested=True),
        _load("emnist", "EMNIST/raw/gzip.zip"),
    ),
    "sparse file of 1 TB": (lambda p: sparse(p, 2**40), lambda p: _idx([p, p])),
    "mat in a sparse file of 1 TB": (lambda p: sparse(p, 2**40), _load("svhn", "train_32x32.mat")),
    "mat of 2 GB in 2 MB": (mat_bomb, _load("svhn", "train_32x32.mat")),
    "pickle that calls": (write(b"cos\nsystem\n(S'touch evil'\ntR."), _batches),
    "pickle with part 2147483647": (write(MEMO), _batches),
    "pickle of an array of 288 PB": (write(ARRAY), _batches),
    "pickle of an empty array of 1 GB": (write(SIZED), _batches),
    "pickle of a text of 1 TB": (write(b"\x80\x04\x8d" + struct.pack("<Q", 2**40)), _batches),
    "tar of 4 GB of zeros": (lambda p: archive_of(p, "cifar-10-batches-py/data_batch_1", 4 * GIGABYTE), _tar),
    "tar with a path upwards": (lambda p: archive_of(p, "cifar-10-batches-py/../../evil", 9), _tar),
    "tar with an absolute path": (lambda p: archive_of(p, "/tmp/evil-of-a-tar", 9), _tar),
    "PNG of 60,000 x 60,000": (lambda p: pixel_bomb(p, "PNG"), lambda p: decode(p, SHAPE)),
    "GIF of 65,535 x 65,535": (lambda p: pixel_bomb(p, "GIF"), lambda p: decode(p, SHAPE)),
    **{
        f"PNG of {width:,} x {height:,}, {kind}": (
            partial(png, width=width, height=height, colour=colour, data=zlib.compress(bytes(64)), depth=depth),
            lambda p: decode(p, SHAPE),
        )
        for width, height in ((1, 80_000_000), (80_000_000, 1))
        for kind, (colour, depth) in {"grey": (0, 8), "colour": (2, 8), "16 bits": (0, 16)}.items()
    },
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
    "model of 10^12 classes": (lambda p: model(p, classes=10**12), checkpoint.load_network),
    "model of 90,000 classes": (lambda p: model(p, classes=90_000), checkpoint.load_network),
    "model of images of 2,048 pixels": (lambda p: model(p, shape=[1, 2048, 2048]), checkpoint.load_network),
    "model of another network": (lambda p: model(p, name="wrn-9994-1"), checkpoint.load_network),
    "weights that announce 4 TB": (lying_safetensors, lambda p: from_name("lenet", p, INFO)),
    "weights of one number seen as 4 TB": (stride_bomb, lambda p: from_name("lenet", p, INFO)),
    "weights in a zip bomb": (compressed_tensors, lambda p: from_name("lenet", p, INFO)),
    "weights that call": (write(pickle.dumps(print)), lambda p: from_name("lenet", p, INFO)),
    "checkpoint in a zip bomb": (checkpoint_bomb, lambda p: log.load_state(p, {}, torch.device("cpu"))),
    "checkpoint of another format": (
        lambda p: (p.mkdir(), compressed_tensors(p / "checkpoint.pt")),
        lambda p: log.load_state(p, {}, torch.device("cpu")),
    ),
    "checkpoint in a sparse file of 1 TB": (
        lambda p: (p.mkdir(), sparse(p / "checkpoint.pt", 2**40)), lambda p: log.load_state(p, {}, torch.device("cpu"))
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
