"""What each of two gloo processes runs; importable where test files are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from frameworks.byhand import EPS, SmoothNet, batches, net, sgd
from resolute.noise.robustify import robustify, set_eps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def shard(model: nn.Module) -> nn.Module:
    """Shard the layers and the rest, in two groups, as FSDP2 is meant to be used."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    fully_shard(model.layers, mesh=mesh)  # type: ignore[arg-type]
    fully_shard(model, mesh=mesh)
    return model


def robust(model: nn.Module) -> nn.Module:
    """Put noise at the input and the activations."""
    return robustify(model, EPS, where="both")


WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "ddp of a robust network": lambda model: DistributedDataParallel(robust(model)),
    "robust ddp": lambda model: robust(DistributedDataParallel(model)),
    "fsdp of a robust network": lambda model: shard(robust(model)),
    "robust fsdp": lambda model: robust(shard(model)),
}


def train(wrapped: nn.Module, seed: int) -> dict[str, Any]:
    """Train on the same batches in every process; note losses, what the noise moved, and the weights at the end."""
    (x, _), *_ = batches()
    optimizer, losses = sgd(wrapped.train()), []
    torch.manual_seed(seed)
    first = wrapped(x).detach()
    torch.manual_seed(seed)
    for x, y in batches():
        optimizer.zero_grad()
        loss = cross_entropy(wrapped(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    whole = {name.removeprefix("module."): _whole(t) for name, t in wrapped.state_dict().items()}
    set_eps(wrapped, 0)
    silent = wrapped(x).detach()
    return {"first": first, "losses": losses, "weights": whole, "silent": silent, "eval": wrapped.eval()(x).detach()}


def _whole(t: Any) -> Tensor:
    full: Tensor = t.full_tensor() if hasattr(t, "full_tensor") else t
    return full.detach().clone()


def work(rank: int, folder: Path) -> None:
    """Run every way of wrapping in one process; leave the notes in ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    notes: dict[tuple[str, str], Any] = {}
    for name, wrap in WRAPS.items():
        notes[name, "own seed"] = train(wrap(net(SmoothNet, eps=0)), seed=10 + rank)
        notes[name, "one seed"] = train(wrap(net(SmoothNet, eps=0)), seed=10)
    torch.save(notes, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
