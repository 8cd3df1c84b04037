"""Time every disturbance and corruption on batches beside torchvision and the common package, image by image.

`python benchmarks/suites.py --data photographs --package DIR --out results.json`. Both sides get the same images and
the same strength in the same run, and take turns. Ours change every image once, in batches of about 16 MiB; theirs,
one by one, as many as they manage in some seconds, which the results state. DIR is a site-packages folder that holds
imagecorruptions; it need not be that of this environment, and what its last release no longer finds in NumPy, SciPy
and scikit-image is put back. Without it the corruptions are timed alone.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import math
import random
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from clock import synchronize
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import v2

from resolute import data, run_folder
from resolute.data import dataset
from resolute.noise import signs
from resolute.shifts import everyday
from resolute.shifts.imagenet_c import CORRUPTIONS, HELD_OUT, degrade
from resolute.shifts.shift import Shift, drawn

BILINEAR = v2.InterpolationMode.BILINEAR
NUMBERS = 2**22
"""In a batch of ours: 1,365 images of 32 pixels a side, 27 of 224."""
Theirs = Callable[[Image.Image], Any]


def torchvision(name: str, severity: float, side: int) -> Theirs:
    """What users of torchvision write for the same disturbance."""
    still: dict[str, Any] = {"degrees": 0, "interpolation": BILINEAR}
    cut = side - everyday.pixels(severity, side) if 0 < severity < 1 else side
    five, resize = v2.FiveCrop(cut), v2.Resize([side, side])
    ready = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    table: dict[str, Callable[[], Theirs]] = {  # only the one that is asked for is made
        "random-crop": lambda: v2.RandomCrop(side, padding=round(severity * side)),
        "random-horizontal-flip": lambda: v2.RandomHorizontalFlip(severity),
        "random-greyscale": lambda: v2.RandomGrayscale(severity),
        "random-colour-jitter": lambda: v2.ColorJitter(severity, severity, severity, severity / 4),
        "random-five-crop": lambda: lambda image: resize(five(image)[random.randrange(5)]),
        "translation": lambda: v2.RandomAffine(translate=(severity, severity), **still),
        "rotation": lambda: v2.RandomRotation(severity, interpolation=BILINEAR),
        "scale": lambda: v2.RandomAffine(scale=(1 / (1 + severity), 1 + severity), **still),
        "blur": lambda: v2.GaussianBlur(2 * int(3 * severity + 0.5) + 1, (severity, severity)),
        "noise": lambda: v2.Compose(
            [v2.PILToTensor(), v2.ToDtype(torch.float32, True), v2.GaussianNoise(sigma=severity)]
        ),
        "brightness": lambda: v2.ColorJitter(brightness=severity),
        "erasing": lambda: v2.RandomErasing(1, (severity, severity)),
        "jpeg": lambda: pillow_jpeg(round(100 - severity)),
    }
    made = table[name]()
    return lambda image: ready(made(image))


def pillow_jpeg(quality: int) -> Theirs:
    def code(image: Image.Image) -> Any:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=quality)
        return np.asarray(Image.open(stream))

    return code


def package(folder: str | None) -> Callable[[str], Theirs] | None:
    """Import imagecorruptions, with what it no longer finds put back."""
    if folder is None:
        return None
    sys.path.append(folder)
    interpolation = types.ModuleType("scipy.ndimage.interpolation")
    interpolation.map_coordinates = scipy.ndimage.map_coordinates  # type: ignore[attr-defined]
    sys.modules["scipy.ndimage.interpolation"] = interpolation
    resources = types.ModuleType("pkg_resources")
    resources.resource_filename = lambda _, path: f"{folder}/imagecorruptions/{path}"  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = resources
    setattr(np, "float_", np.float64)  # noqa: B010 the name is gone since NumPy 2
    theirs = importlib.import_module("imagecorruptions.corruptions")
    gaussian = importlib.import_module("skimage.filters").gaussian

    def repaired(image: Any, sigma: Any, multichannel: bool = False, **others: Any) -> Any:
        return gaussian(image, sigma=sigma, channel_axis=-1 if multichannel else None, **others)

    theirs.gaussian = repaired
    return lambda name: lambda image: np.uint8(getattr(theirs, name)(image, 3))


def cases(info: dataset.DataInfo, given: Callable[[str], Theirs] | None) -> list[tuple[str, Shift, Theirs | None]]:
    """Each function with its competitor, at the middle severity; corruptions at ImageNet-C's third on both sides."""
    found: list[tuple[str, Shift, Theirs | None]] = []
    for suite in (everyday.disturbances(info), everyday.everyday(info)):
        side = info.shape[1]
        found += [(shift.suite, shift, torchvision(shift.name, shift.severity, side)) for shift in suite[1::3]]
    for name, entry in (CORRUPTIONS | HELD_OUT).items():

        def change(x: Tensor, seeds: Tensor, entry: Any = entry) -> Tensor:
            return degrade(x, seeds, change=entry.change, constant=entry.large[2])

        found.append(("corruptions", Shift("corruptions", name, 3, drawn(change)), given(name) if given else None))
    return found


def compare(
    images: dataset.Images, args: argparse.Namespace, given: Callable[[str], Theirs] | None
) -> list[dict[str, Any]]:
    """Time both sides in turns. Ours meet every image once; theirs, image by image, as many as the time allows."""
    seeds = signs.fold(0, torch.arange(len(images))).to(args.device)
    bytes_ = images.x.to(args.device)
    few = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in images.x[: args.alone]]
    batch = max(1, NUMBERS // images.x[0].numel())
    rows = []
    for suite, shift, theirs in cases(images.info, given):
        shift.apply(nn.Identity(), bytes_[:2].float() / 255, seeds[:2], seeds[:2])
        ms, their_ms, shown = [], [], 0
        for part in torch.arange(len(images)).chunk(args.rounds):
            ms.append(ours(shift, bytes_[part], seeds[part], batch) / len(part))
            if theirs:
                spent, count = alone(theirs, few, args.seconds / args.rounds)
                their_ms.append(spent / count)
                shown += count
        row = {"size": images.info.shape[1], "suite": suite, "name": shift.name, "n": len(images), "batch": batch}
        row |= {"ms": statistics.median(ms)}
        if theirs:
            row |= {"theirs_ms": statistics.median(their_ms), "theirs_n": shown}
        rows.append(row)
        ratio = f"{row['theirs_ms']:9.3f} ms {row['theirs_ms'] / row['ms']:7.1f} x  (theirs: {shown})" if theirs else ""
        print(f"{row['size']:>4} {suite:<14} {shift.name:<24} {row['ms']:9.3f} ms {ratio}", flush=True)
    return rows


def ours(shift: Shift, bytes_: Tensor, seeds: Tensor, batch: int) -> float:
    """Milliseconds for some images in batches, from bytes on."""
    synchronize()
    begin = time.perf_counter()
    for x, own in zip(bytes_.split(batch), seeds.split(batch), strict=True):
        shift.apply(nn.Identity(), x.float().div_(255), own, own)
    synchronize()
    return 1e3 * (time.perf_counter() - begin)


def alone(theirs: Theirs, few: list[Image.Image], limit: float) -> tuple[float, int]:
    """Milliseconds for images one by one, and how many there were before the limit in seconds was reached."""
    begin = time.perf_counter()
    count = 0
    while count < len(few) and (not count or time.perf_counter() - begin < limit):
        theirs(few[count])
        count += 1
    return 1e3 * (time.perf_counter() - begin), count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder of photographs, or of parquet files")
    parser.add_argument("--small-data", help="the same for the images of 32 pixels; else those of --data, made small")
    parser.add_argument("--package", help="site-packages folder that holds imagecorruptions")
    parser.add_argument("--small", type=int, default=10_000, help="images of 32 pixels")
    parser.add_argument("--large", type=int, default=500, help="images of 224 pixels")
    parser.add_argument("--alone", type=int, default=200, help="of them at most, in a round, for theirs")
    parser.add_argument("--seconds", type=float, default=6, help="at most, for theirs, of a function and size")
    parser.add_argument("--rounds", type=int, default=3, help="turns of both sides; the median is told")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    given, results, summary = package(args.package), [], []
    stamp = {"environment": run_folder.environment(), "arguments": vars(args) | {"out": None}}
    stamp["arguments"] |= {"data": Path(args.data).name, "small_data": Path(args.small_data or args.data).name}
    stamp["arguments"] |= {"package": bool(args.package)}
    for path, side, count in ((args.small_data or args.data, 32, args.small), (args.data, 224, args.large)):
        loaded = data.load(path, split="train+validation", size=side)
        index = torch.arange(count) % len(loaded)
        images = dataset.Images(loaded.info, loaded.x[index], loaded.y[index], loaded.split)
        rows = compare(images, args, given)
        results += rows
        summary.append(summed(rows))
        told = "{size}: {overall:.1f} times overall, {geometric_mean:.1f} in the geometric mean; slowest {slowest}"
        print(told.format(**summary[-1]), flush=True)
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(stamp | {"summary": summary, "results": results}, indent=1) + "\n")


def summed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Overall: how often theirs takes the time of ours for one image under each function."""
    both = [row for row in rows if "theirs_ms" in row]
    mine, other = (sum(row[key] for row in both) for key in ("ms", "theirs_ms"))
    return {
        "size": rows[0]["size"],
        "n": rows[0]["n"],
        "overall": other / mine,
        "geometric_mean": math.exp(statistics.fmean(math.log(row["theirs_ms"] / row["ms"]) for row in both)),
        "slowest": max(rows, key=lambda row: row["ms"])["name"],
        "least_ratio": min(both, key=lambda row: row["theirs_ms"] / row["ms"])["name"],
    }


if __name__ == "__main__":
    main()
