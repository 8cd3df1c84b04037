"""Find out what, measured on one batch before training, tells whether the noise will help: many networks, many eps.

    python experiments/predict.py --data-dir ../shared/data --out predict.jsonl --seeds 3

Each network is trained by `base` and by `r` at each eps at the hidden activations, with BatchNorm's statistics
estimated again after training, and evaluated on images kept out of the training set. A row holds the measures of
`resolute.strength` before training and the errors. Rows that are in the file already are not run again.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import timm
import torch

import resolute
from resolute import models
from resolute.config import Augment, Settings, TrainConfig
from resolute.data.dataset import Images, balanced_part, batches
from resolute.models.layers import Normalize
from resolute.noise.strength import strength

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

EPS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Case:
    """A network, how many images it learns, and how."""

    data: str
    images: int
    size: int | None
    build: Callable[[Images, Path], nn.Module]
    train: TrainConfig


def built(name: str, data: Images, _: Path) -> nn.Module:
    info = data.info
    return models.build(name, classes=info.classes, shape=info.shape, mean=info.mean, std=info.std)


def vit(data: Images, _: Path) -> nn.Module:
    """ViT of width 96 and depth 6 for patches of 4x4."""
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=4, embed_dim=96, depth=6, num_heads=3, num_classes=data.info.classes
    )
    return torch.nn.Sequential(Normalize(data.info.mean, data.info.std), network)


def convnext(data: Images, _: Path) -> nn.Module:
    """ConvNeXt of depths 2-2-4-2 and widths 40 to 160, with a stem of 2x2."""
    network = timm.models.convnext.ConvNeXt(
        depths=(2, 2, 4, 2), dims=(40, 80, 120, 160), patch_size=2, num_classes=data.info.classes
    )
    return torch.nn.Sequential(Normalize(data.info.mean, data.info.std), network)


def lite0(data: Images, folder: Path) -> nn.Module:
    weights = folder / "weights/tf_efficientnet_lite0.safetensors"
    return models.build("timm/tf_efficientnet_lite0", classes=data.info.classes, shape=data.info.shape, weights=weights)


def _small(name: str) -> Callable[[Images, Path], nn.Module]:
    return lambda data, folder: built(name, data, folder)


_DIGITS = TrainConfig(epochs=30, batch_size=64, lr=0.05, warmup_epochs=1, update_bn=True)
_PHOTOS = replace(_DIGITS, epochs=20, batch_size=64, lr=0.1, augment=Augment(shift=4, flip=True), channels_last=True)
_ADAM = replace(_PHOTOS, epochs=30, optimizer="adam", lr=1e-3, weight_decay=0.0, warmup_epochs=3)
_TUNED = replace(_ADAM, epochs=12, batch_size=32, lr=3e-4, warmup_epochs=1)

CASES = {
    "lenet, digits": Case("digits", 720, None, _small("lenet"), _DIGITS),
    "lenet-caffe, digits": Case("digits", 720, None, _small("lenet-caffe"), _DIGITS),
    "wrn-16-1, digits": Case("digits", 720, None, _small("wrn-16-1"), replace(_DIGITS, lr=0.1)),
    "wrn-16-1, CIFAR-10 (JPEG) 2,000": Case("cifar10-jpeg", 2000, None, _small("wrn-16-1"), _PHOTOS),
    "ViT, CIFAR-10 (JPEG) 2,000": Case("cifar10-jpeg", 2000, None, vit, _ADAM),
    "ConvNeXt, CIFAR-10 (JPEG) 2,000": Case("cifar10-jpeg", 2000, None, convnext, _ADAM),
    "lite0 pretrained, ants and bees": Case("photos/ants-bees", 170, 64, lite0, _TUNED),
    "lite0 pretrained, CIFAR-10 (JPEG) 200": Case("cifar10-jpeg", 200, None, lite0, _TUNED),
}


def splits(case: Case, folder: Path) -> tuple[Images, Images]:
    """Take a training set and up to 2,000 other training images to evaluate on."""
    whole = resolute.data.load(case.data if case.data == "digits" else folder / case.data, size=case.size)
    order = balanced_part(whole.y, case.images / len(whole), 0)
    rest = torch.ones(len(whole), dtype=torch.bool)
    rest[order] = False
    left = rest.nonzero().flatten()
    return whole.part(order), whole.part(left[:: max(1, len(left) // 2000)][:2000])


def measured(model: nn.Module, train: Images, eps: float) -> dict[str, float]:
    """Measure the noise on 64 images before training."""
    x, y = next(iter(batches(train, 64)))
    found = strength(model, (x, y), eps=eps)
    places = sorted(found.places.values())
    return {
        "logits": found.logits,
        "cosine": found.cosine,
        "median place": places[len(places) // 2],
        "largest place": places[-1],
    }


def errors(model: nn.Module, images: Images) -> dict[str, float]:
    totals: dict[str, list[int]] = {}
    for record in resolute.evaluate(model, images, ("clean", "disturbances")):
        wrong, n = totals.setdefault(record.suite, [0, 0])
        totals[record.suite] = [wrong + record.n - record.correct, n + record.n]
    return {suite: 100 * wrong / n for suite, (wrong, n) in totals.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(row["case"], row["eps"], row["seed"]) for row in rows}
    for seed in range(args.seeds):
        for name, case in CASES.items():
            if args.only not in name:
                continue
            train, rest = splits(case, args.data_dir)
            for eps in (0.0, *EPS):
                if (name, eps, seed) in done:
                    continue
                torch.manual_seed(seed)
                model, begun = case.build(train, args.data_dir), time.time()
                row = {"case": name, "eps": eps, "seed": seed} | (measured(model, train, eps) if eps else {})
                method = "r" if eps else "base"
                settings = Settings(eps=eps or 0.1)
                log = resolute.train(model, train, method=method, settings=settings, config=case.train, seed=seed)
                row |= {"training error": 100 * log[-1].train_error, **errors(model, rest)}
                row["seconds"] = round(time.time() - begun, 1)
                print(json.dumps(row), flush=True)
                with args.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
