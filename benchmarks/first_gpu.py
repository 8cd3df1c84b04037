"""All that a GPU is needed for, in ten minutes: its tests, the operation, training steps, a comparison on CIFAR-10.

    python benchmarks/first_gpu.py --out results --data path/to/cifar10 --minutes 10

Each part is a command of its own with a share of the time; one that fails or outlasts it takes nothing from the others.
`results/summary.json` says how each ended, with the environment; without a GPU small sizes try the script itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import clock
import torch

HERE = Path(__file__).parent
STEP = "base,r hidden,r both,dropout"


@dataclass(frozen=True)
class Part:
    """One command, and its share of the time."""

    name: str
    share: float
    command: list[str]


def script(name: str, out: Path, *words: str) -> list[str]:
    return [sys.executable, str(HERE / name), *words, "--out", str(out)]


def parts(out: Path, data: Path | None, on_gpu: bool) -> list[Part]:
    """List what is run: on a GPU at full size, else at sizes that try the script."""
    large = "timm/resnet50:128:224,wrn-28-10:128:32" if on_gpu else "timm/resnet18:8:32,wrn-10-1:8:32"
    repeats = "15" if on_gpu else "3"
    tests = ["-m", "pytest", "-q", "-m", "gpu", str(HERE.parent / "tests"), "-p", "no:cacheprovider"]
    found = [
        Part("tests", 0.3, [sys.executable, *tests, *([] if on_gpu else ["--collect-only"])]),
        Part("op", 0.1, script("op.py", out / "op.json", *([] if on_gpu else ["--sizes", "10000"]))),
    ]
    for compiled in ([], ["--compile"]):
        name = "step-compiled" if compiled else "step"
        more = ["--networks", large, "--modes", STEP, "--channels-last", "--precision", "bf16", "--repeats", repeats]
        found.append(Part(name, 0.15, script("step.py", out / f"{name}.json", *more, *compiled)))
    if data is not None:
        size = ["--epochs", "30", "--seeds", "5"] if on_gpu else ["--epochs", "1", "--seeds", "1"]
        model = "fast-cifar-64" if on_gpu else "fast-cifar-4"
        recipe = ["--model", model, *size, "--batch-size", "512", "--lr", "0.4", "--shift", "4", "--flip"]
        evaluated = ["--suites", "clean,disturbances,corruptions,noise,fgsm" if on_gpu else "clean"]
        methods = ["--methods", "base,r,gaussian", "--precision", "bf16-mixed", "--channels-last"]
        command = ["-m", "resolute", "compare", "--data", str(data), *recipe, *methods, *evaluated]
        found.append(Part("cifar10", 0.3, [sys.executable, *command, "--out", str(out / "cifar10")]))
    return found


def run(part: Part, seconds: float, out: Path) -> dict[str, object]:
    """Run a part with its output in a file; say how it ended and how long it took."""
    begin = time.monotonic()
    with (out / f"{part.name}.log").open("w") as log:
        try:
            ended: object = subprocess.run(
                part.command, stdout=log, stderr=subprocess.STDOUT, timeout=seconds
            ).returncode
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
    return {"ended": ended, "seconds": round(time.monotonic() - begin, 1), **asdict(part)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="CIFAR-10 as a folder of images or parquet files; left out without")
    parser.add_argument("--minutes", type=float, default=10)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ends, rows = time.monotonic() + 60 * args.minutes, []
    for part in parts(args.out, args.data, torch.cuda.is_available()):
        rows.append(run(part, min(part.share * 60 * args.minutes, ends - time.monotonic()), args.out))
        print(f"{part.name}: {rows[-1]['ended']}, {rows[-1]['seconds']} s", flush=True)
        clock.write(args.out / "summary.json", rows)


if __name__ == "__main__":
    main()
