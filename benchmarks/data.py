"""Images per second from a folder or from parquet files of photographs, beside torchvision's own pipeline.

Training: a random crop of 8 to 100 % brought to 224, and a flip. Testing: shorter side 256, centre 224. Both pipelines
read the same images in the same order with the same number of worker processes, end with float batches in [0, 1], and
take turns, so that a busy machine slows both alike; medians over the turns.
`python benchmarks/data.py PATH --images 512 --workers 2 --out results.json`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from resolute import run_folder
from resolute.config import Augment
from resolute.data.dataset import Images, batches, epoch_order, photographs, training_batches
from resolute.data.folders import open_folder, stream
from resolute.data.parquet import open_parquet, parquet_files

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY = Augment(flip=True, crop=0.08)
TO_FLOAT = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True)]
TRAINING = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), *TO_FLOAT])
TESTING = v2.Compose([v2.Resize(256), v2.CenterCrop(224), *TO_FLOAT])


def as_folder(path: Path, n: int, folder: Path) -> Path:
    """Write the first images of a set as files of their own, in ten classes, since torchvision reads no parquet."""
    encoded = open_parquet(path) if parquet_files(path) else open_folder(path)
    for i in range(min(n, len(encoded.y))):
        blob = encoded.blobs.read(i)
        content = blob if isinstance(blob, bytes) else Path(str(blob)).read_bytes()
        target = folder / f"class{i % 10}" / f"{i:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def ours(folder: Path, training: bool, epoch: int, batch_size: int) -> Iterator[Tensor]:
    info = photographs("bench", (3, 224, 224), (0.5,) * 3, (0.2,) * 3, ("a", "b"))
    images: Images = stream(open_folder(folder), info, "train+validation", 256)
    order = epoch_order(len(images), 0, epoch)
    walk = (
        training_batches(images, batch_size, POLICY, seed=0, epoch=epoch, order=order)
        if training
        else batches(images, batch_size)
    )
    return (x for x, _ in walk)


class Chosen(Dataset[Any]):
    """The images of our split, by torchvision's reader."""

    def __init__(self, folder: Path, training: bool, positions: list[int]) -> None:
        self.files = ImageFolder(str(folder), TRAINING if training else TESTING)
        self.positions = positions

    def __getitem__(self, i: int) -> Any:
        return self.files[self.positions[i]]

    def __len__(self) -> int:
        return len(self.positions)


def torchvisions(folder: Path, training: bool, epoch: int, batch_size: int, workers: int) -> Iterator[Tensor]:
    n = sum(1 for _ in folder.rglob("*.jpg"))
    chosen = Chosen(folder, training, [i for i in range(n) if i % 5 != 4])
    order = epoch_order(len(chosen), 0, epoch).tolist() if training else range(len(chosen))
    loader = DataLoader(chosen, batch_size, sampler=order, num_workers=workers)
    return (x for x, _ in loader)


def rate(walk: Iterator[Tensor]) -> float:
    begin, seen = time.perf_counter(), 0
    for x in walk:
        assert x.dtype == torch.float32
        assert x.shape[1:] == (3, 224, 224)
        seen += len(x)
    return seen / (time.perf_counter() - begin)


def measure(folder: Path, training: bool, args: argparse.Namespace) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"resolute": [], "torchvision": []}
    for turn in range(args.turns + 1):
        for name in sorted(rates, reverse=bool(turn % 2)):
            walk = (
                ours(folder, training, turn, args.batch_size)
                if name == "resolute"
                else torchvisions(folder, training, turn, args.batch_size, args.workers)
            )
            found = rate(walk)
            if turn:  # The first turn warms the page cache.
                rates[name].append(found)
    ratio = [a / b for a, b in zip(rates["resolute"], rates["torchvision"], strict=True)]
    return {
        "what": "training" if training else "testing",
        "workers": args.workers,
        "batch_size": args.batch_size,
        "turns": args.turns,
        "images_per_turn": len([i for i in range(args.images) if i % 5 != 4]),
        "resolute_images_per_s": round(statistics.median(rates["resolute"]), 1),
        "torchvision_images_per_s": round(statistics.median(rates["torchvision"]), 1),
        "median_ratio": round(statistics.median(ratio), 3),
        "ratios": [round(value, 3) for value in ratio],
    }


def sizes(folder: Path) -> dict[str, float]:
    shorter = []
    for file in folder.rglob("*.jpg"):
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            shorter.append(min(image.size))
    return {f"shorter_side_{q}th_percentile": float(np.percentile(shorter, q)) for q in (10, 50, 90)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="a folder of images or of parquet files")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--enlarge", type=int, default=1, help="scale photographs up first, to play those of a camera")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    os.environ["RESOLUTE_WORKERS"] = str(args.workers)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = as_folder(args.path, args.images, Path(scratch) / "images")
        if args.enlarge > 1:
            for file in folder.rglob("*.jpg"):
                with Image.open(file) as image:
                    larger = image.convert("RGB").resize((image.width * args.enlarge, image.height * args.enlarge))
                larger.save(file, "JPEG", quality=90)
        results = [measure(folder, training, args) | sizes(folder) for training in (True, False)]
    for row in results:
        print(json.dumps(row))
    if args.out:
        text = json.dumps({"environment": run_folder.environment(), "results": results}, indent=1)
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
