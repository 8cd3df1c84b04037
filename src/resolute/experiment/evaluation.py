"""Evaluate finished networks into a run folder: every shift is written when it is done and not computed again."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from resolute.errors import InputError, differences, unknown
from resolute.evaluation import sanity
from resolute.evaluation.measure import check_network, measure_shift, records, shown_to
from resolute.evaluation.networks import Subject, examples
from resolute.progress import progress
from resolute.report.evaluation import Evaluation, write_evaluation
from resolute.run_folder import environment, read_bits, read_json, write_bits, write_json
from resolute.shifts import find_shifts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console

    from resolute.data.dataset import Images
    from resolute.shifts.shift import Shift


_Tell = tuple["Callable[[str, Shift, int], None]", "Callable[[str], None]"]

CHECKED = 200
"""Images that the checks of the attacks look at: enough for a percentage, few enough for 100 steps of PGD."""
CHECK_COST = 150.0
"""Forward passes that one of the checks takes for an image, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to do with the networks.

    Attributes:
        images: The test images.
        suites: Names in ``suites.SUITES``; ``clean`` is added if it is missing.
        seed: Seed of the disturbances.
        limit: Only the first so many images; None for all.
        batch_size: Images in a batch.
        root: Folder of released corruptions.
        command: The command line to quote in the report.
    """

    images: Images
    suites: tuple[str, ...] = ("clean",)
    seed: int = 0
    limit: int | None = None
    batch_size: int = 500
    root: str | None = None
    command: str = ""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"--limit is {self.limit}; it is a number of images, 1 or more.")
        if self.batch_size < 1:
            raise InputError(f"--batch-size is {self.batch_size}; it is a number of images, 1 or more.")

    @property
    def n(self) -> int:
        """How many images are shown."""
        return min(len(self.images), self.limit or len(self.images))

    @property
    def shifts(self) -> list[Shift]:
        """Every shift, the clean images first."""
        names = tuple(dict.fromkeys(("clean", *self.suites)))
        return find_shifts(names, self.images.info, self.root)


def device(name: str) -> torch.device:
    """Choose where to run."""
    if name not in {"auto", "cpu", "cuda"}:
        raise InputError(unknown("device", name, ("auto", "cpu", "cuda")))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', and torch sees no GPU here. Use --device cpu, or leave it at auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def assess(subjects: Sequence[Subject], plan: Plan, out: Path, *, console: Console | None = None) -> Evaluation:
    """Judge networks on the same images and write what was found."""
    shifts = plan.shifts
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        subjects = [dataclasses.replace(s, name=f"{s.name}-{i}") for i, s in enumerate(subjects, start=1)]
    for subject in subjects:
        x, _ = shown_to(subject.model, plan.images, shifts[0], 0, torch.arange(min(16, plan.n)))
        check_network(subject.model, x, plan.images.info)
    _claim(out, subjects, plan)
    checked = any(shift.name in sanity.STRENGTH for shift in shifts) and not (out / "checks.json").exists()
    left = [(subject, shift) for subject in subjects for shift in shifts if not _file(out, subject, shift).exists()]
    costs = [plan.n * shift.cost for _, shift in left]
    costs += [CHECK_COST * min(plan.n, CHECKED)] * (sanity.COUNT * len(subjects) * checked)
    with _progress(costs, console) as (tell, finish):
        for subject, shift in left:
            _measure(subject, shift, plan, out, tell)
            finish(subject.name)
        bits = {s.name: _gathered(out, s, shifts) for s in subjects}
        if checked:
            _check_attacks(subjects, plan, out, bits, finish)
    write_json(out / "examples.json", examples(subjects, plan.images, shifts, plan.seed, bits))
    return write_evaluation(out).built


def default_folder(subjects: Sequence[Subject], plan: Plan) -> Path:
    """Name the folder of an evaluation: the same one goes on where it stopped, another gets another folder."""
    digest = hashlib.sha256(json.dumps(_identity(subjects, plan)).encode()).hexdigest()
    return Path("runs") / f"evaluate-{digest[:8]}"


def _identity(subjects: Sequence[Subject], plan: Plan) -> dict[str, Any]:
    return {
        "data": plan.images.info.name,
        "split": plan.images.split,
        "n": plan.n,
        "images_sha256": _digest(plan.images, plan.n),
        "suites": list(dict.fromkeys(("clean", *plan.suites))),
        "seed": plan.seed,
        "networks": [
            {"name": s.name, "architecture": s.architecture, "sha256": s.sha256, "folder": _folder(s)} for s in subjects
        ],
    }


def _digest(images: Images, n: int) -> str:
    """Hash the first images and their labels; of those on the disk the names and sizes of their files."""
    digest = hashlib.sha256(images.y[:n].contiguous().numpy().tobytes())
    if images.stream is None:
        digest.update(images.x[:n].contiguous().numpy().tobytes())
        return digest.hexdigest()
    stream = images.stream
    digest.update(repr((stream.shape, stream.resize, stream.positions[:n].tolist())).encode())
    for file in stream.blobs.files():
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
    return digest.hexdigest()


def _claim(out: Path, subjects: Sequence[Subject], plan: Plan) -> None:
    path, ours = out / "evaluation.json", _identity(subjects, plan)
    if path.exists():
        if told := differences(read_json(path), ours):
            raise InputError(f"{out} holds another evaluation: {told}. Choose another folder with --out.")
        return
    if out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
        raise InputError(f"{out} is not empty and holds no evaluation. Choose another folder with --out.")
    info = dataclasses.asdict(plan.images.info)
    beside = {"command": plan.command, "keys": [list(s.key) for s in plan.shifts], "info": info}
    write_json(path, ours | beside)
    write_json(out / "environment.json", environment())


def _folder(subject: Subject) -> str:
    return re.sub(r"[^\w.+-]", "_", subject.name)


def _file(out: Path, subject: Subject, shift: Shift) -> Path:
    return out / "networks" / _folder(subject) / f"{shift.suite}--{shift.name}--{shift.severity:.6g}.npz"


def _measure(subject: Subject, shift: Shift, plan: Plan, out: Path, tell: Callable[[str, Shift, int], None]) -> None:
    right = measure_shift(
        subject.model,
        plan.images,
        shift,
        plan.seed,
        batch_size=plan.batch_size,
        limit=plan.limit,
        on_batch=lambda done: tell(subject.name, shift, done),
    )
    write_bits(_file(out, subject, shift), {shift.key: right})


def _gathered(out: Path, subject: Subject, shifts: Sequence[Shift]) -> dict[Any, Any]:
    return {key: right for s in shifts for key, right in read_bits(_file(out, subject, s)).items()}


def _check_attacks(
    subjects: Sequence[Subject],
    plan: Plan,
    out: Path,
    bits: dict[str, dict[Any, Any]],
    finish: Callable[[str], None],
) -> None:
    """Once an attack was run: was it a real one? Written beside the shifts, and not computed again."""
    found, info = {}, plan.images.info
    for subject in subjects:
        counted = records(bits[subject.name], data="", model="", method="", seed=0)
        clean = plan.shifts[0]
        x, y = shown_to(
            subject.model, plan.images, clean, plan.seed, torch.arange(min(plan.n, plan.batch_size, CHECKED))
        )
        done = functools.partial(finish, f"{subject.name}, checks of the attacks")
        own = sanity.check_attacks(subject.model, x, y, info.radius, counted, seed=plan.seed, on_check=done)
        told = [dataclasses.asdict(check) for check in own]
        found[subject.name] = {
            "sentence": sanity.checks_sentence(counted, own, info.radius),
            "n": len(x),
            "checks": told,
        }
    write_json(out / "checks.json", found)


@contextlib.contextmanager
def _progress(costs: Sequence[float], console: Console | None) -> Iterator[_Tell]:
    """Count the parts that are left, each by its cost in forward passes of an image."""
    with progress(sum(costs), console) as meter:
        done, shown = 0, 0.0

        def tell(name: str, shift: Shift, images: int) -> None:
            nonlocal shown
            shown += images * shift.cost
            meter.tell(sum(costs[:done]) + shown, f"{name}: {shift.suite}, {shift.name} {shift.severity:.4g}")

        def finish(name: str) -> None:
            nonlocal done, shown
            done, shown = done + 1, 0.0
            last = done == len(costs)
            meter.tell(sum(costs[:done]), f"{name}: {done} of {len(costs)} parts done", part=last or done % 10 == 0)

        yield tell, finish
