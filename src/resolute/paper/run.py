"""Run one row of the tables at one of three scales: train it beside base, or evaluate published weights."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute import models
from resolute.config import Augment
from resolute.data import load
from resolute.data.dataset import fingerprint
from resolute.errors import InputError, unknown
from resolute.evaluation.measure import measure, records, weights_sha256
from resolute.experiment.evaluation import device as find_device
from resolute.experiment.grid import compare
from resolute.paper.ledger import PRETRAINED
from resolute.paper.rows import QUOTED, TOP_1_AND_5, TRAINED, WEIGHTS
from resolute.progress import progress
from resolute.run_folder import (
    RunFolder,
    identity_of,
    is_sealed,
    read_json,
    read_records,
    seal,
    versions,
    write_atomic,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.config import TrainConfig
    from resolute.experiment.recipe import Recipe
    from resolute.paper.tables import Row
    from resolute.report.comparison import Summary
    from resolute.run_folder import Record


_CLASSES = 2
COUNTS = {False: {"train": 6, "test": 2}, True: {"train": 1, "test": 1}}
"""Images of each class, by whether they are to be few. Of six, one is held out for validation where a recipe asks."""


def write_digits(folder: Path, channels: int, side: int, *, few: bool = False) -> Path:
    """Write an image folder of digits 0 and 1, unless it is there."""
    from PIL import Image
    from sklearn.datasets import load_digits

    out = folder / f"smoke-digits-{channels}x{side}x{side}{'-few' if few else ''}"
    digits, mode = load_digits(), "L" if channels == 1 else "RGB"
    for label in range(_CLASSES):
        images = iter(digits.images[digits.target == label])
        for part, count in COUNTS[few].items():
            for number in range(count):
                pixels = np.rint(next(images) * (255 / 16)).astype(np.uint8)
                file = out / part / str(label) / f"{number}.png"
                if not file.exists():
                    image = Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR).convert(mode)
                    image.save(buffer := io.BytesIO(), "PNG")
                    write_atomic(file, buffer.getvalue())
    return out


REDUCED_SEEDS = (0, 1, 2)
LEAST_EPOCHS = 10
SMOKE = "smoke"


def scaled(recipe: Recipe, scale: str, folder: Path) -> Recipe:
    """Bring a row's recipe to a scale."""
    if scale not in SCALES:
        raise InputError(unknown("scale", scale, SCALES))
    return replace(SCALES[scale](recipe, folder), name=f"{recipe.name}-{scale}")


def _full(recipe: Recipe, folder: Path) -> Recipe:  # noqa: ARG001
    return recipe


def _reduced(recipe: Recipe, folder: Path) -> Recipe:  # noqa: ARG001
    train = recipe.train
    epochs = max(min(train.epochs, LEAST_EPOCHS), round(train.epochs / 10))
    return replace(recipe, train=_compressed(train, epochs), seeds=REDUCED_SEEDS)


def _compressed(train: TrainConfig, epochs: int) -> TrainConfig:
    share = epochs / train.epochs
    return replace(
        train,
        epochs=epochs,
        milestones=tuple(max(1, round(share * milestone)) for milestone in train.milestones),
        decay_epochs=share * train.decay_epochs,
        warmup_epochs=share * train.warmup_epochs,
    )


def _smoke(recipe: Recipe, folder: Path) -> Recipe:
    """Two steps of one image: an attacked step of NASNet-A with two takes 7 GB. More where some are held out."""
    batch_size = 4 if recipe.hold_out else 1
    train = replace(
        recipe.train,
        epochs=1,
        batch_size=batch_size,
        lr=recipe.train.lr * batch_size / recipe.train.batch_size,
        milestones=(),
        warmup_epochs=0.0,
        augment=recipe.train.augment or Augment(flip=True, crop=0.08),
    )
    data = write_digits(folder, *shape(recipe), few=not recipe.hold_out)
    suites = tuple(suite for suite in recipe.suites if suite != "top5")
    fixed = replace(recipe.settings, eps=0.1, ratio=None)  # auto would take more passes than these two steps
    return replace(recipe, data=str(data), size=None, train=train, seeds=(0,), suites=suites, settings=fixed)


def shape(recipe: Recipe) -> tuple[int, int]:
    """Tell the channels and the side of a row's images."""
    return {"mnist": (1, 28), "imagenet": (3, recipe.size or 224)}.get(recipe.data, (3, 32))


SCALES: dict[str, Callable[[Recipe, Path], Recipe]] = {SMOKE: _smoke, "reduced": _reduced, "full": _full}
"""Scales by name."""


def recipe_of(row: Row, scale: str, out: Path, *, seeds: int | None = None, **train: Any) -> Recipe:
    """Make the recipe that a run of a row follows."""
    if row.id not in TRAINED:
        weights = " Its published weights can be evaluated: leave --scale out." if row.id in WEIGHTS else ""
        raise InputError(f"row {row.id} is quoted and not trained: {QUOTED[row.id]}.{weights}")
    recipe = scaled(TRAINED[row.id].recipe, scale, out)
    own = recipe.seeds if seeds is None else tuple(range(seeds))
    name = f"{row.base.id}-{scale}"
    return replace(recipe, name=name, train=replace(recipe.train, **train), seeds=own)


def train_row(recipe: Recipe, out: Path, *, data_dir: str | None = None, command: str = "") -> tuple[Path, Summary]:
    """Train a row and its base row, evaluate both, write a report; a killed run is continued."""
    folder = out / recipe.name
    stored = read_json(folder / "recipe.json") if (folder / "recipe.json").exists() else {}
    methods = tuple(dict.fromkeys((*recipe.methods, *stored.get("methods", ()))))
    return folder, compare(replace(recipe, methods=methods, data_dir=data_dir), folder, command=command)


def evaluate_weights(
    row: Row, out: Path, *, data_dir: str | None = None, device: str = "auto"
) -> tuple[Path, list[Record]]:
    """Evaluate the published weights of a base row on the clean test images, top-1 and top-5, unless that was done."""
    if row.id not in WEIGHTS:
        raise InputError(f"no library has weights of row {row.id}. There are of: {', '.join(WEIGHTS)}.")
    weights, folder = WEIGHTS[row.id], out / f"{row.id}-{PRETRAINED}"
    images = load(row.data, data_dir, "test", weights.size)
    model = models.build(weights.model, classes=images.info.classes, pretrained=True, shape=images.info.shape)
    network = {"name": weights.model, "sha256": weights_sha256(model)}
    identity = identity_of({"row": row.id, "network": network, "images": fingerprint(images), "versions": versions()})
    RunFolder(folder, "recipe.json", "evaluation of published weights").claim(identity, _described(row))
    if not is_sealed(folder, identity):
        with progress(len(TOP_1_AND_5) * len(images)) as meter:
            seen = 0

            def tell(count: int) -> None:
                nonlocal seen
                seen += count
                meter.tell(seen, f"{row.name}, image {seen:,}")

            bits = measure(model.to(find_device(device)), images, TOP_1_AND_5, batch_size=50, on_batch=tell)
        found = records(bits, data=row.data, model=weights.model, method=PRETRAINED, seed=0)
        write_records(folder / "records.jsonl", found)
        seal(folder, identity, ["records.jsonl"])
    return folder, read_records(folder / "records.jsonl")


def _described(row: Row) -> dict[str, Any]:
    weights = WEIGHTS[row.id]
    return {
        "name": f"{row.id}-{PRETRAINED}",
        "data": row.data,
        "model": weights.model,
        "size": weights.size,
        "methods": [PRETRAINED],
        "seeds": [0],
        "settings": {},
        "train": {"augment": None},
        "deviations": list(weights.deviations),
    }
