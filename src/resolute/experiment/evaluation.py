"""Evaluate finished networks: `resolute.evaluate` and `resolute evaluate` are what is here.

In a run folder, the answers of each network are a part of their own: locked while it is worked on, kept batch by batch,
read back only if its identity and its checksum agree. A killed evaluation continues at the batch that it had reached.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from filelock import Timeout

from resolute.config import EvaluateConfig
from resolute.data import load
from resolute.data.dataset import Images, fingerprint
from resolute.errors import InputError, unknown
from resolute.evaluation import sanity
from resolute.evaluation.measure import (
    RIGHT,
    Floats,
    PartFile,
    collect,
    device_of,
    measure_shifts,
    not_finite,
    part_file,
    probe,
    records,
    sample,
    shown_to,
)
from resolute.evaluation.networks import Network, examples, named
from resolute.progress import progress
from resolute.run_folder import (
    RunFolder,
    digest,
    file_name,
    go_through,
    identity_of,
    read_sealed,
    versions,
    write_sealed,
)
from resolute.shifts import find_shifts
from resolute.shifts.released import RELEASES, released_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console
    from torch import Tensor, nn

    from resolute.report.evaluation import Evaluation
    from resolute.run_folder import Key, Record
    from resolute.shifts.shift import Shift

    Answers = Mapping[Key, NDArray[np.uint8]]


CHECKED = 200
"""Images that the checks of the attacks look at: enough for a percentage, few enough for 100 steps of PGD."""
CHECK_COST = 150.0
"""Forward passes that one of the checks takes for an image, about."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to do with the networks: an `EvaluateConfig` and the images that it is about.

    Attributes:
        images: The test images.
        suites: Names in ``shifts.SUITES``.
        seed: Seed of the disturbances.
        limit: Only so many images, each class in its proportion; None for all.
        batch_size: Images in a batch.
        root: Folder of released corruptions.
        command: The command line to quote in the report.
    """

    images: Images | Floats
    suites: tuple[str, ...] = ("clean",)
    seed: int = 0
    limit: int | None = None
    batch_size: int = 500
    root: str | Path | None = None
    command: str = ""

    def __post_init__(self) -> None:
        EvaluateConfig(self.suites, self.seed, self.limit, self.batch_size)  # refuses what makes no sense

    @property
    def order(self) -> Tensor:
        """The images that are shown."""
        return sample(self.images.y, self.limit)

    @property
    def shifts(self) -> list[Shift]:
        """Every shift."""
        return find_shifts(self.suites, self.images.info, self.root)


def device(name: str) -> torch.device:
    """Choose where to run."""
    if name not in {"auto", "cpu", "cuda"}:
        raise InputError(unknown("device", name, ("auto", "cpu", "cuda")))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', and torch sees no GPU here. Use --device cpu, or leave it at auto.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def evaluate(
    model: nn.Module,
    data: Images | str | Iterable[Any],
    suites: Sequence[str] = ("clean",),
    seed: int = 0,
    *,
    limit: int | None = None,
    batch_size: int = 500,
    out: str | Path | None = None,
    name: str = "model",
    method: str = "-",
    run_seed: int = 0,
    info: Any = None,
    root: str | Path | None = None,
) -> list[Record]:
    """Count a network's right answers under each shift of some suites, as the command ``resolute evaluate`` does.

    The network is in evaluation mode meanwhile, and each module has its own mode back afterwards. It always sees copies
    of the images. An answer with NaN or infinity in it counts as wrong, and a warning says how many there were.

    Args:
        model: Images in [0, 1] in, logits out; on the device where it shall run.
        data: The test images; or the name or path of a data set whose test split is taken; or a DataLoader, or any
            iterable, of batches (x, y): float NCHW in [0, 1], and integers. A loader is gone through once and held in
            memory.
        suites: Names in ``shifts.SUITES``.
        seed: Seed of the disturbances. Each image's are a function of (seed, shift, severity, index) alone.
        limit: Only so many images, at least 1: a fixed sample in which each class has its share, and of which a smaller
            limit takes a part. None for all.
        batch_size: Images in a batch, at least 1.
        out: A run folder, as the command makes it, with its report. Kill the call at any moment: the same call
            continues at the batch that it had reached, to the same records. None to keep nothing.
        name: The network's name in the records.
        method: The training method's name in the records.
        run_seed: Seed of the training run in the records.
        info: For a loader: the `resolute.data.dataset.DataInfo` that sets the radii of attacks. By default that of
            photographs of this size, see `resolute.data.dataset.photographs`.
        root: The folder that holds named data sets and released corruptions.

    Returns:
        One record for each shift and severity, in the order of the suites.

    Raises:
        InputError: If the data cannot be had, the network cannot be evaluated on it, or ``out`` holds other work.

    Example:
        >>> import resolute
        >>> model = resolute.models.build("lenet", classes=10, shape=(1, 8, 8))
        >>> [record] = resolute.evaluate(model, "digits", limit=200)
        >>> record.suite, record.n, 0 <= record.correct <= 200
        ('clean', 200, True)
    """
    found = load(data, root, split="test") if isinstance(data, str) else data
    images = found if isinstance(found, (Images, Floats)) else collect(found, model, info)
    plan, network = Plan(images, tuple(suites), seed, limit, batch_size, root), named(name, model, type(model).__name__)
    shifts = plan.shifts
    if out is None:
        probe(model, images, plan.order, shifts)
        answers: Answers = measure_shifts(model, images, shifts, seed, order=plan.order, batch_size=batch_size)
    else:
        whole = evaluate_networks([network], plan, Path(out)).answers[name]
        answers = {shift.key: whole[shift.key] for shift in shifts}
    for sentence in not_finite(name, answers):
        warnings.warn(sentence, stacklevel=2)
    return records(_right(answers), data=images.info.name, model=name, method=method, seed=run_seed)


def _right(answers: Answers) -> dict[Key, NDArray[np.bool_]]:
    return {key: own == RIGHT for key, own in answers.items()}


def evaluate_networks(
    networks: Sequence[Network], plan: Plan, out: Path, *, console: Console | None = None
) -> Evaluation:
    """Evaluate networks on the same images and write what was found; ``clean`` is added to the suites."""
    from resolute.report.evaluation import write_evaluation

    plan = dataclasses.replace(plan, suites=tuple(dict.fromkeys(("clean", *plan.suites))))
    networks, shifts, order = _told_apart(networks), plan.shifts, plan.order
    for network in networks:
        probe(network.model, plan.images, order, shifts)
    identity = _identity(networks, plan)
    folder = RunFolder(out, "evaluation.json", "evaluation")
    folder.claim(identity, {"command": plan.command, "info": dataclasses.asdict(plan.images.info)})
    parts = {n.name: part_file(out, n.name, identity) for n in networks}
    found: dict[str, Answers] = {}
    checks: dict[str, Any] = {}
    attacked = any(shift.name in sanity.STRENGTH for shift in shifts)
    with _progress(parts, plan, attacked=attacked, console=console) as (tell, finish):

        def done(network: Network) -> bool:
            name = network.name
            with contextlib.suppress(Timeout), folder.lock(name):
                found[name] = measure_shifts(
                    network.model, plan.images, shifts, plan.seed, order=order, batch_size=plan.batch_size,
                    store=parts[name], on_batch=functools.partial(tell, name),
                )  # fmt: skip
                if attacked:
                    checks[name] = _kept(
                        out / "networks" / f"{file_name(name)}.checks.json", parts[name].identity,
                        functools.partial(_checks, network, plan, found[name], functools.partial(tell, name, None)),
                    )  # fmt: skip
                finish(name)
            return name in found

        go_through(networks, done)
    write_sealed(out / "checks.json", {network.name: checks[network.name] for network in networks if attacked})
    first = networks[0].name
    _kept(
        out / "examples.json", identity,
        lambda: {"examples": examples(networks, plan.images, shifts, plan.seed, order, _right(found[first]))},
    )  # fmt: skip
    return write_evaluation(out).built


def _told_apart(networks: Sequence[Network]) -> list[Network]:
    """Number networks where two have one name."""
    if len({network.name for network in networks}) == len(networks):
        return list(networks)
    return [dataclasses.replace(one, name=f"{one.name}-{i}") for i, one in enumerate(networks, start=1)]


def evaluation_folder(networks: Sequence[Network], plan: Plan) -> Path:
    """Name the folder of an evaluation: the same one is continued there, another gets another folder."""
    plan = dataclasses.replace(plan, suites=tuple(dict.fromkeys(("clean", *plan.suites))))
    return Path("runs") / f"evaluate-{digest(_identity(_told_apart(networks), plan))[:8]}"


def _identity(networks: Sequence[Network], plan: Plan) -> dict[str, Any]:
    images = plan.images
    content = fingerprint(cast("Images", images))  # of a loader's images as well: it hashes what it finds
    return {
        "data": images.info.name,
        "split": images.split,
        "total": content["n"],
        "images_sha256": content["pixels"],
        "labels_sha256": content["labels"],
        "n": len(plan.order),
        "released_sha256": {s: released_sha256(s, plan.root) for s in plan.suites if s in RELEASES},
        "suites": list(plan.suites),
        "keys": [list(shift.key) for shift in plan.shifts],
        "seed": plan.seed,
        "batch_size": plan.batch_size,
        "device": device_of(networks[0].model).type,
        "versions": versions(),
        "networks": [{"name": n.name, "architecture": n.architecture, "sha256": n.sha256} for n in networks],
    }


def _kept(path: Path, identity: Mapping[str, Any], make: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Read what was made for an identity, or make it."""
    wanted = digest(identity_of(identity))
    kept = read_sealed(path) if path.exists() else {}
    if kept.pop("identity_sha256", "") != wanted:
        kept = dict(make())
        write_sealed(path, {"identity_sha256": wanted, **kept})
    return kept


def _checks(network: Network, plan: Plan, answers: Answers, tell: Callable[[int], None]) -> dict[str, Any]:
    """Once an attack was run: was it a real one?"""
    counted, info = records(_right(answers), data="", model="", method="", seed=0), plan.images.info
    [clean] = find_shifts(["clean"], info)
    shown = sample(plan.images.y, min(len(plan.order), plan.batch_size, CHECKED))
    x, y = shown_to(network.model, plan.images, clean, plan.seed, shown)
    own = sanity.check_attacks(
        network.model, x, y, info.radius, counted, seed=plan.seed, on_check=functools.partial(tell, len(x))
    )
    sentence = sanity.checks_sentence(counted, own, info.radius)
    return {"sentence": sentence, "n": len(x), "checks": [dataclasses.asdict(check) for check in own]}


_Tell = tuple["Callable[[str, Shift | None, int], None]", "Callable[[str], None]"]


@contextlib.contextmanager
def _progress(parts: Mapping[str, PartFile], plan: Plan, *, attacked: bool, console: Console | None) -> Iterator[_Tell]:
    """Count forward passes of an image: those of each shift, and those of the checks."""
    shifts, n = plan.shifts, len(plan.order)
    cost = {shift.key: shift.cost for shift in shifts}
    each = n * sum(cost.values()) + attacked * sanity.CHECK_COUNT * CHECK_COST * min(n, CHECKED)
    spent = {name: float(sum(len(own) * cost[key] for key, own in part.load().items())) for name, part in parts.items()}
    with progress(each * len(parts), console, found=sum(spent.values())) as meter:

        def tell(name: str, shift: Shift | None, images: int) -> None:
            spent[name] += images * (shift.cost if shift else CHECK_COST)
            what = f"{shift.suite}, {shift.name} {shift.severity:.4g}" if shift else "checks of the attacks"
            meter.tell(sum(spent.values()), f"{name}: {what}")

        def finish(name: str) -> None:
            spent[name] = each
            meter.tell(sum(spent.values()), f"{name} done", part=True)

        yield tell, finish
