"""Train each network for a few steps on real images: step time, peak memory, falling loss; r beside base.

    python benchmarks/networks.py MODEL=DATA[:SIZE[:BATCH]] ... [--steps 3] [--out networks.json]

DATA is a name (mnist, digits) or the path of an image folder or of parquet files; `--data-dir` holds named sets.
Both methods start from the same weights and see one and the same batch at every step, since over a few steps of
different images a loss would tell nothing. They take turns; times are medians after the warm-up. Peak memory is what a
step allocates above what the network, its gradients and its optimizer hold, so that both methods can be compared in
one process; on a CPU the profiler counts it in a step of its own, after the timed ones. Each network runs in a
process of its own and is printed and written when it is done: one that runs out of memory is named and the rest goes
on.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from clock import peak_bytes, synchronize, write

from resolute import config, data, methods, models
from resolute.config import TrainConfig
from resolute.models.loss import loss as loss_of
from resolute.models.loss import network, tell_progress
from resolute.training.loop import make_optimizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from resolute.data import dataset


class Pair(NamedTuple):
    """A network and what it is trained on."""

    model: str
    data: str
    size: int | None
    batch: int


def parse(text: str, batch: int) -> Pair:
    """Read `MODEL=DATA[:SIZE[:BATCH]]`."""
    model, _, rest = text.partition("=")
    where, size, own, *_ = [*rest.split(":"), "", ""]
    return Pair(model, where, int(size) if size else None, int(own) if own else batch)


def one_batch(pair: Pair, args: argparse.Namespace) -> tuple[dataset.DataInfo, Tensor, Tensor]:
    split = "train" if pair.data in data.DATASETS else args.split
    images = data.load(pair.data, args.data_dir, split, pair.size)
    index = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: pair.batch]
    x = images.x[index].float() / 255
    return images.info, x.to(args.device), images.y[index].to(args.device)


def train(pair: Pair, args: argparse.Namespace) -> list[dict[str, Any]]:
    info, x, y = one_batch(pair, args)
    names = args.methods.split(",")
    torch.manual_seed(0)
    settings = config.Settings(eps=args.eps).resolved(info.radius)
    model = models.build(pair.model, classes=info.classes, shape=info.shape, mean=info.mean, std=info.std)
    steps = [stepper(methods.find_method(name), model, (x, y), settings, args) for name in names]
    times: list[list[float]] = [[] for _ in steps]
    losses: list[list[float]] = [[] for _ in steps]
    for count in range(args.warm_up + args.steps):
        for index in range(len(steps)) if count % 2 else reversed(range(len(steps))):
            synchronize()
            begin = time.perf_counter()
            losses[index].append(steps[index]())
            synchronize()
            times[index].append(1000 * (time.perf_counter() - begin))
    peaks = [peak_bytes(step) / 2**20 for step in steps]
    medians = [statistics.median(own[args.warm_up :]) for own in times]
    return [
        {
            "model": pair.model,
            "data": Path(pair.data).name,
            "shape": info.shape,
            "classes": info.classes,
            "batch": len(x),
            "method": name,
            "step_ms": round(medians[at], 2),
            "to_first": round(medians[at] / medians[0], 3),
            "images_per_s": round(1000 * len(x) / medians[at], 1),
            "steps_ms": [round(value, 2) for value in times[at]],
            "losses": [round(value, 4) for value in losses[at]],
            "step_peak_mib": round(peaks[at], 1),
            "process_peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }
        for at, name in enumerate(names)
    ]


def stepper(
    method: methods.Method,
    model: torch.nn.Module,
    batch: tuple[Tensor, Tensor],
    settings: config.Settings,
    args: argparse.Namespace,
) -> Callable[[], float]:
    """Prepare a method's own copy of the network; what is returned makes one step and tells the loss before it."""
    net = method.prepare(copy.deepcopy(model), settings).to(args.device).train()
    optimizer_name = "adam" if hasattr(network(net), "per_image_loss") else "sgd"
    lr = args.lr / 10 if optimizer_name == "adam" else args.lr
    config = TrainConfig(lr=lr, optimizer=optimizer_name, weight_decay=0.0)
    optimizer = make_optimizer(config, net.parameters())

    def step() -> float:
        tell_progress(net, 0.0)
        with torch.autocast(torch.device(args.device).type, torch.bfloat16, enabled=args.bf16):
            x, y = method.perturb_batch(net, *batch, settings)
            outputs = net(x)
        loss = loss_of(net, x, y, outputs)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return step


def work(pair: Pair, args: argparse.Namespace, queue: Any) -> None:
    try:
        queue.put(train(pair, args))
    except (MemoryError, RuntimeError) as error:  # RuntimeError is what torch raises without memory
        queue.put([failure(pair, next(iter(str(error).splitlines()), type(error).__name__))])


def rows_of(pair: Pair, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run in a process of its own, whose end by the system's hand is not ours."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.SimpleQueue()
    process = context.Process(target=work, args=(pair, args, queue))
    process.start()
    process.join()
    if process.exitcode == 0:
        return list(queue.get())
    return [failure(pair, "killed: out of memory" if process.exitcode == -9 else f"exit code {process.exitcode}")]


def failure(pair: Pair, reason: str) -> dict[str, Any]:
    return {"model": pair.model, "batch": pair.batch, "failed": reason}


def told(row: dict[str, Any]) -> str:
    if "failed" in row:
        return f"{row['model']:<20}failed at batch {row['batch']}: {row['failed']}"
    shape, losses = "x".join(map(str, row["shape"])), row["losses"]
    return (
        f"{row['model']:<20}{row['method']:<8}{shape:<11}{row['classes']:>7}{row['batch']:>6}{row['step_ms']:>10.1f}"
        f"{row['to_first']:>7.2f}{losses[0]:>9.4f}{losses[-1]:>9.4f}{row['step_peak_mib']:>10.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="MODEL=DATA[:SIZE[:BATCH]]")
    parser.add_argument("--methods", default="base,r")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--lr", type=float, default=0.01, help="of SGD; a tenth of it for Adam, which capsules take")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--split", default="train", help="of folders and parquet sets; validation sets alone have test")
    parser.add_argument("--data-dir")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    heads = f"{'model':<20}{'method':<8}{'shape':<11}{'classes':>7}{'batch':>6}{'step ms':>10}"
    print(f"{heads}{'ratio':>7}{'loss':>9}{'then':>9}{'peak MiB':>10}", flush=True)
    for text in args.pairs:
        for row in rows_of(parse(text, args.batch), args):
            results.append(row)
            print(told(row), flush=True)
        write(args.out, results)


if __name__ == "__main__":
    main()
