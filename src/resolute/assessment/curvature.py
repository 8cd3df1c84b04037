"""Survey the curvature of finished networks on the same images; each network is a file, written when it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from resolute.assessment.measures import TRACE_PROBES, Survey, measure_network
from resolute.data import Images, batches, epoch_order
from resolute.errors import InputError, differences
from resolute.evaluation import check_network
from resolute.progress import progress
from resolute.records import cell_name, environment, read_json, read_records, write_json
from resolute.report.curvature_page import ERRORS, write_curvature
from resolute.sharing import go_through, locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

    from resolute.assessment.subjects import Subject

_Tell = tuple["Callable[[int], None]", "Callable[[str, str], None]"]


def survey(
    subjects: Sequence[Subject],
    images: Images,
    plan: Survey,
    out: Path,
    *,
    errors: Mapping[str, Mapping[str, float]] | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure networks and write ``networks/NAME.json``, ``curvature.json`` and ``report.html``.

    Args:
        subjects: The networks, on their device. Cells METHOD-seedN of one seed are a pair.
        images: What the loss is taken over.
        plan: What to measure.
        out: The folder. Kill it at any moment: the same call goes on with the next network. Other processes, started
            by hand, may work in the same folder: each takes the next network that none is at. Networks may be added to
            those that a folder has.
        errors: Network name to suite to error, to be correlated with the curvature.
        console: Where progress is shown; standard error by default.

    Returns:
        What the report shows: a row for each network, and the paired comparisons.

    Raises:
        InputError: If a network does not fit the images, or the folder holds another survey.
    """
    names = [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        subjects = [dataclasses.replace(s, name=f"{s.name}-{i}") for i, s in enumerate(subjects, start=1)]
    order = epoch_order(len(images), plan.seed, 0)[: plan.images]
    for subject in subjects:
        place = next(subject.model.parameters()).device
        x, _ = next(batches(images, 16, order=order[:16], device=place))
        check_network(subject.model, x, images.info)
    _claim(out, subjects, images, plan)
    files = {subject.name: out / "networks" / f"{_folder(subject)}.json" for subject in subjects}
    found = {name for name, path in files.items() if path.exists()}
    with _progress(subjects, found, plan, len(order), console) as (tell, finish):

        def measured(subject: Subject) -> bool:
            path = files[subject.name]
            with contextlib.suppress(Timeout), locked(out / ".locks", path.stem):
                if not path.exists():
                    write_json(path, measure_network(subject, images, order, plan, tell, finish))
            if path.exists():
                finish(subject.name, "all")
            return path.exists()

        go_through(subjects, measured)
    if errors:
        path = out / ERRORS
        write_json(path, (read_json(path) if path.exists() else {}) | dict(errors))
    return write_curvature(out)


def errors_beside(checkpoints: Sequence[Path]) -> dict[str, dict[str, float]]:
    """Read what `resolute compare` found of its cells: the mean error under each suite.

    Args:
        checkpoints: Folders cells/METHOD-seedN.

    Returns:
        Name of the network to suite to error; without the cells that hold no records.
    """
    found: dict[str, dict[str, float]] = {}
    for folder in checkpoints:
        if (folder / "records.jsonl").exists():
            rows = read_records(folder / "records.jsonl")
            by_suite = {suite: [row.error for row in rows if row.suite == suite] for suite in {r.suite for r in rows}}
            name = cell_name(rows[0].method, rows[0].seed)
            found[name] = {suite: sum(own) / len(own) for suite, own in sorted(by_suite.items())}
    return found


def survey_folder(subjects: Sequence[Subject], images: Images, plan: Survey) -> Path:
    """Name the folder of a survey: the same one goes on where it stopped, another gets another folder.

    Args:
        subjects: The networks.
        images: The images.
        plan: What to measure.

    Returns:
        ``runs/curvature-HASH`` below the current folder.
    """
    digest = hashlib.sha256(json.dumps(_identity(subjects, images, plan)).encode()).hexdigest()
    return Path("runs") / f"curvature-{digest[:8]}"


def _identity(subjects: Sequence[Subject], images: Images, plan: Survey) -> dict[str, Any]:
    return {
        "data": images.info.name,
        "split": images.split,
        "n": min(plan.images, len(images)),
        "labels_sha256": hashlib.sha256(images.y.numpy().tobytes()).hexdigest(),
        "plan": {key: value for key, value in dataclasses.asdict(plan).items() if key != "command"},
        "networks": [{"name": s.name, "file": _folder(s), "sha256": s.sha256} for s in subjects],
    }


def _claim(out: Path, subjects: Sequence[Subject], images: Images, plan: Survey) -> None:
    path, ours = out / "survey.json", _identity(subjects, images, plan)
    if path.exists():
        stored = read_json(path)
        theirs = stored if isinstance(stored, dict) else {}
        same = {**theirs, "networks": ours["networks"]} if _grown(theirs.get("networks"), ours["networks"]) else theirs
        if told := differences(same, ours):
            raise InputError(
                f"{out} holds another survey: {told}. Networks can be added to a survey, nothing else changed. Choose "
                "another folder with --out."
            )
        if same != theirs:
            write_json(path, ours | {"command": plan.command})
        return
    if out.is_dir() and any(not file.name.startswith(".") for file in out.iterdir()):
        raise InputError(f"{out} is not empty and holds no survey. Choose another folder with --out.")
    write_json(path, ours | {"command": plan.command})
    write_json(out / "environment.json", environment())


def _grown(theirs: object, ours: list[dict[str, Any]]) -> bool:
    return isinstance(theirs, list) and all(network in ours for network in theirs)


def _folder(subject: Subject) -> str:
    return re.sub(r"[^\w.+-]", "_", subject.name)


@contextlib.contextmanager
def _progress(
    subjects: Sequence[Subject], found: set[str], plan: Survey, n: int, console: Console | None
) -> Iterator[_Tell]:
    """Count images times products with a vector."""
    costs = {
        "input Jacobian": 10,  # one for each class, of which there are ten or, by random vectors, eight
        "input Hessian": plan.steps,
        "largest eigenvalues": 20 + 3 * plan.top + 30,
        "most negative eigenvalue": 60,
        "trace": TRACE_PROBES + plan.top,
        "spectral density": plan.steps * plan.probes,
        "all": math.ceil(plan.surface**2 * min(1, plan.surface_images / n)),
    }
    parts, each = list(costs), n * sum(costs.values())
    with progress(each * len(subjects), console, found=each * len(found)) as meter:
        measured, before, here, now = set(found), 0, 0, ""

        def show(what: str, *, part: bool = False) -> None:
            meter.tell(min(len(measured) * each + before + here, each * len(subjects)), what, part=part)

        def tell(images: int) -> None:
            nonlocal here
            here += images
            show(now)

        def finish(name: str, what: str) -> None:
            nonlocal before, here, now
            if what == "all":
                measured.add(name)
            before = n * sum(costs[key] for key in parts[: (parts.index(what) + 1) % len(parts)])
            here, now = 0, f"{name}: {what} done"
            show(now, part=True)

        yield tell, finish
