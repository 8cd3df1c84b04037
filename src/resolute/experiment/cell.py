"""One cell of the grid: a training run and its evaluation, from a recipe, a method and a seed alone."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from filelock import Timeout

from resolute import methods, models
from resolute.data import DATASETS, load
from resolute.data.dataset import Images, balanced_part, fingerprint
from resolute.errors import DivergedError, InputError, in_words
from resolute.evaluation.measure import ANSWERS, cell_file, measure, records
from resolute.experiment.recipe import identity
from resolute.models.checkpoint import SPEC, WEIGHTS_FILE, save_network
from resolute.noise import signs
from resolute.noise.robustify import is_robust
from resolute.noise.sites import sites
from resolute.run_folder import (
    CHECKSUMS,
    DIVERGED,
    GROWS,
    LOCKS,
    TIMES,
    cell_identity,
    cell_name,
    identity_of,
    is_sealed,
    locked,
    read_sealed,
    refuse_others,
    seal,
    versions,
    write_bits,
    write_records,
    write_sealed,
)
from resolute.shifts import find_shifts
from resolute.shifts.released import RELEASES, released_sha256
from resolute.training.checkpoint import CHECKPOINT
from resolute.training.distributed import rank
from resolute.training.loop import Job, step_times, train

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from resolute.experiment.recipe import Recipe
    from resolute.models.weights import Weights


FILES = (WEIGHTS_FILE, SPEC, "train.csv", "bits.npz", "cost.json", "records.jsonl")
"""What a finished cell holds."""


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """The images of a comparison.

    Attributes:
        train: All that may be trained on.
        validation: What is held out of training; None if nothing is.
        test: What the trained networks are evaluated on.
        fingerprints: `fingerprint` of each of them, by name.
        weights: What all networks start from, but for their last layer; None is nothing.
    """

    train: Images
    validation: Images | None
    test: Images
    fingerprints: Mapping[str, Any]
    weights: Weights | None = None


def load_splits(recipe: Recipe) -> Splits:
    """Load what a recipe trains on, evaluates on and starts from."""
    weights = models.find_weights(recipe.model, recipe.weights) if recipe.pretrained else None
    size, resized = recipe.size, recipe.interpolation or "bilinear"
    if recipe.pretrained and recipe.data not in DATASETS:
        side, own = models.own_images(recipe.model)
        size, resized = size or side, recipe.interpolation or own

    def part(split: str) -> Images:
        return load(recipe.data, recipe.data_dir, split, size, resized)

    found = {"train": part("train" if recipe.hold_out else "train+validation")}
    if recipe.hold_out:
        found["validation"] = part("validation")
    found["test"] = part("test") if recipe.split == "test" else found["validation"]
    prints = {name: fingerprint(own) for name, own in found.items()}
    return Splits(found["train"], found.get("validation"), found["test"], prints, weights)


def run_identity(recipe: Recipe, splits: Splits) -> dict[str, Any]:
    """Give everything that the figures of a comparison depend on: recipe, images, labels, weights, versions."""
    info = {key: value for key, value in dataclasses.asdict(splits.test.info).items() if key != "name"}
    beside: dict[str, Any] = {"data_info": info, "images": splits.fingerprints, "versions": versions()}
    if arrays := {suite: released_sha256(suite, None) for suite in recipe.suites if suite in RELEASES}:
        beside["released_sha256"] = arrays
    if splits.weights:
        beside["pretrained_sha256"] = splits.weights.sha256
    return identity_of(identity(recipe), **beside)


def check_recipe(recipe: Recipe, splits: Splits) -> None:
    """Refuse a name or a place of the noise now, not when the folder already holds a recipe that cannot be run."""
    find_shifts(recipe.suites, splits.test.info)
    model = _build(recipe, splits, seed=0)
    weights = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    for named in map(methods.find_method, recipe.methods):
        method, settings = methods.with_eps(named, recipe.settings, _any_eps)
        method.prepare(copy.deepcopy(model, dict(weights)), settings)  # a copy that shares the weights


def _any_eps(settings: methods.Settings) -> float:  # noqa: ARG001
    """Stand for eps "auto" where nothing is learned."""
    return 0.1


def run_cell(
    recipe: Recipe,
    splits: Splits,
    method: str,
    seed: int,
    out: Path,
    tell: Callable[[str, int, float], None] | None = None,
) -> bool:
    """Train and evaluate one network, unless that is done already, or another process is at it."""
    # A process holds the lock of its cell, which ends with the process; so any number of processes may go through the
    # cells of one directory, and each cell is run once.
    cell = out / "cells" / cell_name(method, seed)
    own = cell_identity(run_identity(recipe, splits), method, seed)
    with contextlib.suppress(Timeout), locked(out / LOCKS, cell.name):
        if not is_finished(cell, own):
            try:
                _run(recipe, splits, method, seed, cell, tell)
            except DivergedError as error:
                if method == recipe.baseline:
                    raise
                write_sealed(cell / DIVERGED, {"message": str(error), "identity": own})
    if (cell / CHECKSUMS).exists():
        (cell / CHECKPOINT).unlink(missing_ok=True)
    return is_finished(cell, own)


def is_finished(cell: Path, own: Mapping[str, Any]) -> bool:
    """Tell whether a cell is sealed, or its training diverged; refuse one that is damaged or of other work."""
    if (cell / DIVERGED).exists():
        refuse_others(cell, read_sealed(cell / DIVERGED).get("identity"), own)
        return True
    return is_sealed(cell, own)


def run_alone(recipe: Recipe, splits: Splits, out: Path, tell: Callable[[str, int, float], None] | None = None) -> None:
    """Train and evaluate the one network of a recipe, by this process or together with those that torchrun started."""
    [(method, seed)] = recipe.cells
    try:
        lock = locked(out / LOCKS, "train") if rank(recipe.train) == 0 else contextlib.nullcontext()
    except Timeout as error:
        raise InputError(f"another process trains in {out}. Let it finish, or choose another --out.") from error
    with lock:
        if not is_finished(out, cell_identity(run_identity(recipe, splits), method, seed)):
            _run(recipe, splits, method, seed, out, tell)


def _run(
    recipe: Recipe, splits: Splits, method: str, seed: int, cell: Path, tell: Callable[[str, int, float], None] | None
) -> None:
    model, images = _build(recipe, splits, seed), splits.train
    if recipe.train_fraction < 1:
        images = images.part(balanced_part(images.y, recipe.train_fraction, seed))
    train(
        model,
        images,
        method=method,
        settings=recipe.settings,
        config=recipe.train,
        seed=seed,
        validation=splits.validation,
        out=cell,
        on_step=functools.partial(tell, method, seed) if tell else None,
    )
    own = cell_identity(run_identity(recipe, splits), method, seed)
    bits = measure(model, splits.test, recipe.suites, name=cell.name, store=cell_file(cell, model, own), sharded=True)
    if rank(recipe.train):
        return
    found = {"eps": sites(model)[0].eps} if is_robust(model) else {}
    save_network(model, cell, _spec(recipe, splits) | _moments(model) | {"method": method, "seed": seed} | found)
    write_bits(cell / "bits.npz", bits)
    write_sealed(cell / "cost.json", _cost(recipe, method, model) | found)
    rows = records(bits, data=recipe.data, model=recipe.model, method=method, seed=seed)
    write_records(cell / "records.jsonl", rows)
    for file in cell.glob(f"{ANSWERS}-*"):
        file.unlink()
    seal(cell, own, FILES)


def _build(recipe: Recipe, splits: Splits, seed: int) -> torch.nn.Module:
    spec = _spec(recipe, splits)
    own = {key: spec[key] for key in ("classes", "shape", "mean", "std")}
    with torch.random.fork_rng(range(torch.cuda.device_count())):
        torch.manual_seed(signs.key(seed, "weights"))
        return models.build(recipe.model, weights=splits.weights, **own)


def _spec(recipe: Recipe, splits: Splits) -> dict[str, Any]:
    info = splits.train.info
    return {
        "name": models.stored_name(recipe.model),
        "classes": info.classes,
        "shape": info.shape,
        "mean": info.mean,
        "std": info.std,
        "class_names": info.class_names,
        "interpolation": info.interpolation,
    } | ({"pretrained_sha256": splits.weights.sha256} if splits.weights else {})


def _moments(model: torch.nn.Module) -> dict[str, Any]:
    """Give the moments that a network normalises with, which need not be those of its images."""
    normalize = model.get_submodule("normalize")
    return {key: normalize.get_buffer(key).flatten().tolist() for key in ("mean", "std")}


def _cost(recipe: Recipe, method: str, model: torch.nn.Module) -> dict[str, float]:
    return {
        "passes": methods.find_method(method).passes,
        "parameters": sum(p.numel() for p in model.parameters()),
        "sites": len(sites(model, methods.settings_of(method, recipe.settings).where)) if is_robust(model) else 0,
    }


WARM_UP = 3
"""Steps of each network that are left out: the first allocates and loads kernels."""
ROUNDS = 6, 40
"""Pairs of steps that are kept, at least and at most."""
SECONDS = 2.0
"""How long a method is timed, unless the least number of rounds takes longer."""


def time_steps(recipe: Recipe, splits: Splits, out: Path) -> None:
    """Time steps of each method and of the baseline in turn, so that a slow moment slows both; each method once."""
    if recipe.train.devices * recipe.train.nodes > 1:
        return
    own = {key: value for key, value in run_identity(recipe, splits).items() if key not in GROWS}
    with locked(out / LOCKS, TIMES, wait=True), torch.random.fork_rng(range(torch.cuda.device_count())):
        stored = read_sealed(out / TIMES) if (out / TIMES).exists() else {}
        known = stored["methods"] if stored.get("identity") == own else {}
        for method in recipe.methods:
            if method not in known and method != recipe.baseline:
                try:
                    known[method] = _in_turn(recipe, splits, method)
                except (RuntimeError, MemoryError) as error:  # two networks at once may be too many
                    if in_words(error) is None:
                        raise
                write_sealed(out / TIMES, {"identity": own, "methods": known})


def _in_turn(recipe: Recipe, splits: Splits, method: str) -> dict[str, Any]:
    load = 0.0
    with contextlib.suppress(OSError, AttributeError):  # not every system tells
        load = os.getloadavg()[0]

    def steps(name: str) -> Iterator[float]:
        found, settings = methods.with_eps(methods.find_method(name), recipe.settings, _any_eps)
        job = Job(found, settings, recipe.train, 0, splits.train, None, None, {})
        return step_times(_build(recipe, splits, recipe.seeds[0]), job)

    networks, rounds, begun = (steps(method), steps(recipe.baseline)), list[tuple[float, float]](), time.monotonic()
    least, most = (WARM_UP + n for n in ROUNDS)
    while len(rounds) < least or (len(rounds) < most and time.monotonic() - begun < SECONDS):
        order = networks if len(rounds) % 2 else networks[::-1]
        took = {network: next(network) for network in order}
        rounds.append((took[networks[0]], took[networks[1]]))
    own_ms, base_ms = zip(*rounds[WARM_UP:], strict=True)
    return {"ms": own_ms, "baseline_ms": base_ms, "load": load, "cores": os.cpu_count() or 1}
