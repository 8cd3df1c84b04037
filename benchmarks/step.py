"""Time a training step with the noise beside a plain one, and beside what else makes networks robust.

Alternating runs; for each the median of its ratio to the plain step of the same round. Bytes kept for backward and
the peak of memory beside it.

    python benchmarks/step.py --networks wrn-16-2:64:32,timm/resnet18:32:64 --out results.json

A network is NAME:BATCH:SIDE. `--compile` and `--precision bf16` time those instead of eager float32.
"""

from __future__ import annotations

import argparse
import functools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clock
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute import attacks, models
from resolute.errors import InputError
from resolute.noise.robustify import attach, robustify

RADIUS = 8 / 255
Craft = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def formula(x: Tensor, eps: float) -> Tensor:
    """The equation written down as it stands."""
    return x + eps * x * (2 * torch.bernoulli(torch.full_like(x, 0.5)) - 1) * x.sign()


def dropout(x: Tensor, eps: float) -> Tensor:
    return F.dropout(x, eps)


def plain(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x, y


def half_fgsm(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([x, attacks.fgsm(model, x, y, RADIUS)]), torch.cat([y, y])


def fgsm(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return attacks.fgsm(model, x, y, RADIUS), y


def pgd(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return attacks.pgd(model, x, y, RADIUS, RADIUS / 4, steps=7), y


MODES: dict[str, tuple[Callable[[nn.Module], nn.Module], Craft]] = {
    "base": (lambda model: model, plain),
    "r hidden": (lambda model: robustify(model, 0.1), plain),
    "r both": (lambda model: robustify(model, 0.1, where="both"), plain),
    "r channels": (lambda model: robustify(model, 0.1, grain="channel"), plain),
    "r at p = 0.3": (lambda model: robustify(model, 0.1, 0.3), plain),
    "dropout": (lambda model: attach(model, functools.partial(dropout, eps=0.1)), plain),
    "formula": (lambda model: attach(model, functools.partial(formula, eps=0.1)), plain),
    "fgsm": (lambda model: model, fgsm),
    "half fgsm": (lambda model: model, half_fgsm),
    "pgd-7": (lambda model: model, pgd),
}


class Step:
    """A training step of a network in one mode."""

    def __init__(self, network: str, mode: str, args: argparse.Namespace) -> None:
        name, batch, side = network.split(":")
        prepare, self.craft = MODES[mode]
        torch.manual_seed(0)
        channels = 1 if name == "lenet" else 3
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        format_ = torch.channels_last if args.channels_last else torch.contiguous_format
        model = models.build(name, classes=10, shape=(channels, int(side), int(side)))
        self.model = prepare(model.to(device, memory_format=format_)).train()  # type: ignore[call-overload]
        self.parameters = list(self.model.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-3, momentum=0.9)
        self.forward: Callable[[Tensor], Tensor] = torch.compile(self.model) if args.compile else self.model
        self.cast = torch.autocast(device.type, torch.bfloat16, enabled=args.precision == "bf16")
        images = torch.rand(int(batch), channels, int(side), int(side), device=device)
        self.x = images.to(memory_format=format_)
        self.y = torch.randint(10, (int(batch),), device=device)

    def crafted(self) -> tuple[Tensor, Tensor]:
        with self.cast:
            return self.craft(self.forward, self.x, self.y)  # type: ignore[arg-type]

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        with self.cast:
            return F.cross_entropy(self.forward(x), y)

    def __call__(self) -> None:
        """Take the step."""
        self.optimizer.zero_grad()
        self.loss(*self.crafted()).backward()
        self.optimizer.step()


def rows(network: str, modes: list[str], args: argparse.Namespace) -> list[dict[str, Any]]:
    steps = {}
    for mode in modes:
        try:
            steps[mode] = Step(network, mode, args)
        except InputError as error:
            print(f"{network}, {mode}: {error}")
    seconds = clock.alternate(steps, args.repeats)
    found = []
    for mode, step in steps.items():
        kept = clock.kept_bytes(functools.partial(step.loss, *step.crafted()), step.parameters)
        found.append(
            {
                "network": network,
                "mode": mode,
                "compiled": args.compile,
                "precision": args.precision,
                "channels_last": args.channels_last,
                "repeats": args.repeats,
                "median_ms": round(1e3 * statistics.median(seconds[mode]), 2),
                "to_base": round(clock.ratio(seconds, mode, "base"), 4),
                "to_base_quartiles": [round(q, 4) for q in quartiles(seconds[mode], seconds["base"])],
                "kept_bytes": kept,
                "kept_to_base": round(kept / (found[0]["kept_bytes"] if found else kept), 6),
                "peak_mib": round(clock.peak_bytes(step) / 2**20, 1),
            }
        )
    return found


def quartiles(mode: list[float], base: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles([a / b for a, b in zip(mode, base, strict=True)], n=4)
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="wrn-16-2:64:32,timm/resnet18:32:64")
    parser.add_argument("--modes", default=",".join(MODES), type=lambda text: text.split(","))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.modes[0] != "base":
        parser.error("the first of --modes must be base: the others are compared with it")
    results: list[dict[str, Any]] = []
    for network in args.networks.split(","):
        torch._dynamo.reset()
        results += rows(network, args.modes, args)
        for row in results:
            if row["network"] == network:
                low, high = row["to_base_quartiles"]
                print(
                    f"{network:<22} {row['mode']:<18} {row['median_ms']:>9.1f} ms {row['to_base']:>7.3f} x base "
                    f"({low:.3f} to {high:.3f}), kept {row['kept_to_base']:.4f}, peak {row['peak_mib']:.0f} MiB",
                    flush=True,
                )
    clock.write(args.out, results)


if __name__ == "__main__":
    main()
