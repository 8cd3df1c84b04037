"""How sharp the loss is along training: the largest eigenvalue and the trace of its Hessian every K epochs.

Measured inside the training loop, in evaluation mode and with generators of its own, so that training goes on as if
nothing had looked.

    nice -n 19 python experiments/sharpness.py --data digits --methods base,r,gaussian --seeds 5 --out sharpness
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch

from resolute import models, stats
from resolute.config import Settings, TrainConfig
from resolute.curvature.hessian import Hessian, cross_entropy, eigenvalues, trace
from resolute.data import load
from resolute.data.dataset import Images, batches, epoch_order
from resolute.noise import signs
from resolute.run_folder import environment, write_json
from resolute.training.loop import train


def measure(model: torch.nn.Module, images: Images, n: int) -> dict[str, float]:
    order = epoch_order(len(images), 0, 0)[:n]
    device = next(model.parameters()).device
    hessian = Hessian(model, cross_entropy, list(batches(images, 100, order=order, device=device)))
    top = eigenvalues(hessian, 5, tol=1e-2)
    whole = trace(hessian, 16, basis=top.vectors)
    return {"top": float(top.values[0]), "trace": whole.value, "trace_se": whole.se}


def cell(images: Images, method: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    info = images.info
    torch.manual_seed(signs.key(seed, "weights"))
    model = models.build(options.model, classes=info.classes, shape=info.shape, mean=info.mean, std=info.std)
    rows: list[dict[str, Any]] = []

    def look(done: float) -> None:
        due = len(rows) * options.every
        if done >= due - 1e-6:
            rows.append(
                {"method": method, "seed": seed, "epoch": round(done, 3)} | measure(model, images, options.images)
            )
            print(json.dumps(rows[-1]), flush=True)

    train(
        model,
        images,
        method=method,
        settings=Settings(eps=options.eps, where=options.where),
        config=TrainConfig(epochs=options.epochs, batch_size=options.batch_size, lr=options.lr, device=options.device),
        seed=seed,
        on_step=look,
    )
    return rows


def compare(rows: list[dict[str, Any]], methods: list[str]) -> list[dict[str, Any]]:
    """Divide each method's value by the first's of the same seed and epoch; t interval of the logarithm over seeds."""
    found = []
    first, *others = methods
    at = {(row["method"], row["seed"], index): row for index, row in _numbered(rows)}
    for method in others:
        for index in sorted({key[2] for key in at}):
            seeds = sorted({key[1] for key in at if key[2] == index})
            pairs = [(at[method, s, index], at[first, s, index]) for s in seeds if (method, s, index) in at]
            for quantity in ("top", "trace"):
                ratios = [own[quantity] / base[quantity] for own, base in pairs]
                if len(ratios) > 1 and min(ratios) > 0:
                    over_seeds = stats.compare_seeds([math.log(ratio) for ratio in ratios])
                    change, p = over_seeds.interval(over="seeds"), over_seeds.p("seeds")
                    bounds = [round(math.exp(v), 4) for v in (change.mean, change.low, change.high)]
                    epoch = round(pairs[0][0]["epoch"])
                    found.append(
                        {
                            "method": method,
                            "epoch": epoch,
                            "quantity": quantity,
                            "ratio": bounds,
                            "seeds": len(ratios),
                            "p": p,
                        }
                    )
    return found


def _numbered(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    counts: dict[tuple[str, int], int] = {}
    numbered = []
    for row in rows:
        key = (row["method"], row["seed"])
        counts[key] = counts.get(key, -1) + 1
        numbered.append((counts[key], row))
    return numbered


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--data-dir")
    parser.add_argument("--model", default="lenet")
    parser.add_argument("--methods", default="base,r,gaussian")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--every", type=float, default=5)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--eps", type=float, default=0.3)
    parser.add_argument("--where", default="both")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=Path("sharpness"))
    options = parser.parse_args()
    images = load(options.data, options.data_dir, "train")
    methods = options.methods.split(",")
    rows = [row for seed in range(options.seeds) for method in methods for row in cell(images, method, seed, options)]
    settings = {key: value for key, value in vars(options).items() if key not in {"out", "data_dir"}}
    write_json(options.out / "results.json", {"settings": settings, "rows": rows, "ratios": compare(rows, methods)})
    write_json(options.out / "environment.json", environment())


if __name__ == "__main__":
    main()
