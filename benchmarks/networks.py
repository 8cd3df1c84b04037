"""Train each network for a few steps on real images: step time, peak memory, falling loss; r beside base.

    python benchmarks/networks.py MODEL=DATA[:SIZE] ... [--batch 32] [--steps 20] [--out networks.json]

DATA is a name (mnist, digits) or the path of an image folder or of parquet files; `--data-dir` holds named sets.
Both methods start from the same weights and meet the same batches in turn; times are medians without the first two
steps. Peak memory is that of the GPU, or on a CPU that of the pair's own process with both networks and the images.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from resolute import data, methods, models, records
from resolute.models import objective
from resolute.training import TrainConfig
from resolute.training.optimizer import make_optimizer


def load(what: str, args: argparse.Namespace) -> data.Images:
    """Read `DATA[:SIZE]`."""
    name, _, size = what.partition(":")
    split = "train" if name in data.DATASETS else args.split
    return data.load(name, args.data_dir, split, int(size) if size else None)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def train(name: str, images: data.Images, args: argparse.Namespace, method_names: list[str]) -> list[dict[str, Any]]:
    device, info = torch.device(args.device), images.info
    torch.manual_seed(0)
    settings = methods.Settings(eps=args.eps).resolved(info.radius)
    model = models.build(name, classes=info.classes, shape=info.shape, mean=info.mean, std=info.std)
    found = [methods.find(method) for method in method_names]
    nets = [m.prepare(copy.deepcopy(model), settings).to(device) for m in found]
    config = TrainConfig(lr=args.lr, optimizer="adam" if name.startswith("capsnet") else "sgd", weight_decay=0.0)
    optimizers = [make_optimizer(config, net.parameters()) for net in nets]
    times: list[list[float]] = [[] for _ in nets]
    losses: list[list[float]] = [[] for _ in nets]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    for step in range(args.steps):
        chosen = order[torch.arange(step * args.batch, (step + 1) * args.batch) % len(order)]
        x, y = images.x[chosen].to(device).float() / 255, images.y[chosen].to(device)
        for index in range(len(nets)) if step % 2 else reversed(range(len(nets))):
            net, optimizer = nets[index], optimizers[index]
            synchronize(device)
            begin = time.perf_counter()
            objective.tell_progress(net, step / args.steps)
            with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
                x2, y2 = found[index].perturb_batch(net, x, y, settings)
                outputs = net(x2)
            loss = objective.loss(net, x2, y2, outputs)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[index].append(loss.item())
            synchronize(device)
            times[index].append(1000 * (time.perf_counter() - begin))
    memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak()
    return [
        {
            "model": name,
            "data": info.name,
            "shape": info.shape,
            "classes": info.classes,
            "batch": args.batch,
            "method": method,
            "step_ms": round(statistics.median(ms[2:] or ms), 2),
            "to_first": round(statistics.median(ms[2:] or ms) / statistics.median(times[0][2:] or times[0]), 3),
            "images_per_s": round(1000 * args.batch / statistics.median(ms[2:] or ms), 1),
            "loss_first": round(values[0], 4),
            "loss_last": round(statistics.mean(values[-3:]), 4),
            "steps": len(values),
            "peak_mib": round(memory),
            "methods_in_process": len(nets),
        }
        for method, ms, values in zip(method_names, times, losses, strict=True)
    ]


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(pair: str, args: argparse.Namespace, queue: Any) -> None:
    name, _, what = pair.partition("=")
    rows = train(name, load(what, args), args, args.methods.split(","))
    queue.put(rows)


def rows_of(pair: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Run in a process of its own, so that its peak of memory is its own."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.SimpleQueue()
    process = context.Process(target=work, args=(pair, args, queue))
    process.start()
    process.join()
    return queue.get() if process.exitcode == 0 else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="MODEL=DATA[:SIZE]")
    parser.add_argument("--methods", default="base,r")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--split", default="train", help="of folders and parquet sets; validation sets alone have test")
    parser.add_argument("--data-dir")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results: list[dict[str, Any]] = []
    heads = f"{'model':<20}{'method':<8}{'shape':<15}{'batch':>5}{'step ms':>10}"
    print(f"{heads}{'ratio':>7}{'loss':>9}{'then':>9}{'MiB':>7}")
    for pair in args.pairs:
        for row in rows_of(pair, args):
            results.append(row)
            shape = "x".join(map(str, row["shape"]))
            print(
                f"{row['model']:<20}{row['method']:<8}{shape:<15}{row['batch']:>5}{row['step_ms']:>10.1f}"
                f"{row['to_first']:>7.2f}{row['loss_first']:>9.4f}{row['loss_last']:>9.4f}{row['peak_mib']:>7}",
                flush=True,
            )
    if args.out:
        text = json.dumps({"environment": records.environment(), "results": results}, indent=1)
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
