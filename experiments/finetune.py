"""Fine-tune by the book, with timm alone, on the images that `resolute compare` trains on: what it is held against.

    python experiments/finetune.py --data ../shared/data/photos/ants-bees --weights FILE --size 64 --seeds 2

timm.create_model with pretrained weights and the data's classes, timm's own transforms for training (random resized
crop, flip, colour jitter) and testing, AdamW with timm's groups (no weight decay of biases and norms), cosine with
warm-up. Nothing of Resolute takes part but the choice of images: `--train-fraction` and `--split` mean what they mean
there.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from timm.optim import create_optimizer_v2
from torch.nn import functional as F

from resolute.data.dataset import balanced_part, members
from resolute.data.folders import open_folder
from resolute.data.parquet import open_parquet, parquet_files


def pictures(path: Path, split: str, part: float, seed: int) -> list[tuple[Image.Image, int]]:
    """Read a split's images as they are, without resizing any."""
    encoded = open_parquet(path) if parquet_files(path) else open_folder(path)
    wanted = members(encoded.counts, encoded.y, split)
    if part < 1:
        wanted = wanted[balanced_part(encoded.y[wanted], part, seed)]
    found = []
    for at in wanted.tolist():
        blob: Any = encoded.blobs.read(at)
        image = Image.open(io.BytesIO(blob) if isinstance(blob, bytes) else blob).convert("RGB")
        found.append((image, int(encoded.y[at])))
    return found


def fine_tune(options: argparse.Namespace, seed: int) -> tuple[float, int, float]:
    """Train one network; give its error in %, the number of images and the seconds of training."""
    train = pictures(options.data, "train", options.train_fraction, seed)
    test = pictures(options.data, options.split, 1.0, seed)[:: options.every]
    torch.manual_seed(seed)
    classes = 1 + max(label for _, label in train)
    given = {"file": str(options.weights), "hf_hub_id": None}
    model = timm.create_model(options.model, pretrained=True, num_classes=classes, pretrained_cfg_overlay=given)
    model.reset_classifier(classes)
    config = resolve_model_data_config(model) | {"input_size": (3, options.size, options.size)}
    augment, plain = create_transform(**config, is_training=True), create_transform(**config, is_training=False)
    optimizer: Any = create_optimizer_v2(model, "adamw", lr=options.lr, weight_decay=options.weight_decay)
    steps = len(train) // options.batch_size
    total, warm_up = options.epochs * steps, steps
    begun, step = time.perf_counter(), 0
    for _ in range(options.epochs):
        model.train()
        for index in torch.randperm(len(train))[: steps * options.batch_size].split(options.batch_size):
            x = torch.stack([augment(train[i][0]) for i in index.tolist()])
            y = torch.tensor([train[i][1] for i in index.tolist()])
            share = (step - warm_up) / max(1, total - warm_up)
            rate = step / warm_up if step < warm_up else (1 + math.cos(math.pi * share)) / 2
            for group in optimizer.param_groups:
                group["lr"] = options.lr * rate
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            step += 1
    seconds, wrong = time.perf_counter() - begun, 0
    model.eval()
    with torch.no_grad():
        for start in range(0, len(test), 100):
            batch = test[start : start + 100]
            answers = model(torch.stack([plain(image) for image, _ in batch])).argmax(1)
            wrong += sum(int(answer != label) for answer, (_, label) in zip(answers.tolist(), batch, strict=True))
    return 100 * wrong / len(test), len(test), seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--train-fraction", type=float, default=1.0)
    parser.add_argument("--split", default="test", help="test or validation")
    parser.add_argument("--every", type=int, default=1, help="evaluate each so-manieth image")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    for seed in range(options.seeds):
        error, n, seconds = fine_tune(options, seed)
        print(f"seed {seed}: {error:.2f} % wrong of {n:,}, {seconds:.0f} s of training", flush=True)


if __name__ == "__main__":
    main()
