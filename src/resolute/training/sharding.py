"""Fully sharded training (FSDP2): each process keeps a part of every weight, its gradient and its momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from resolute.errors import InputError

if TYPE_CHECKING:
    import torch

UNIT = 2**20
"""Weights that are gathered together, at least: 4 MiB of float32."""


def shard(model: nn.Module, device: torch.device, world: int) -> nn.Module:
    """Shard a network in place over all processes.

    A block becomes a unit of its own, whose weights are whole only while it computes, when it holds `UNIT` weights that
    are in no smaller unit.

    Args:
        model: The network, the same in each process, on its device.
        device: That device.
        world: Number of processes.

    Returns:
        The network.

    Raises:
        InputError: If the network changes its own weights as training goes on.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if any(hasattr(module, "on_progress") for module in model.modules()):
        raise InputError("strategy is 'fsdp', and this network prunes its own weights in training: use 'ddp'.")
    mesh = init_device_mesh(device.type, (world,))
    for unit in units(model):
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def units(model: nn.Module) -> list[nn.Module]:
    """Choose the blocks of a network that are gathered by themselves, inner ones first.

    Args:
        model: The network.

    Returns:
        Some of its modules, without itself: those with children and a forward of their own.
    """
    found: list[nn.Module] = []
    taken: set[nn.Parameter] = set()

    def visit(module: nn.Module) -> None:
        for child in module.children():
            visit(child)
        own = {parameter for parameter in module.parameters() if parameter not in taken}
        is_block = any(True for _ in module.children()) and not isinstance(module, nn.ModuleList | nn.ModuleDict)
        if module is not model and is_block and sum(parameter.numel() for parameter in own) >= UNIT:
            found.append(module)
            taken.update(own)

    visit(model)
    return found


@dataclass(frozen=True, slots=True)
class WholeModel:
    """A sharded network's state as that of a whole one. Each process must call, and gets all of it.

    Attributes:
        model: The network.
    """

    model: nn.Module

    def state_dict(self) -> dict[str, Any]:
        """Gather the state; buffers, BatchNorm's statistics say, are those of process 0, as under DDP.

        Returns:
            As of the network before it was sharded.
        """
        from torch import distributed
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        for buffer in self.model.buffers():
            distributed.broadcast(buffer, 0)
        return get_model_state_dict(self.model, options=_whole())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take each process's part of a state.

        Args:
            state: As from `state_dict`, the same in each process.
        """
        from torch.distributed.checkpoint.state_dict import set_model_state_dict

        set_model_state_dict(self.model, state, options=_whole())


@dataclass(frozen=True, slots=True)
class WholeOptimizer:
    """The state of a sharded network's optimizer, in the same way, by the names of the weights.

    Attributes:
        model: The network.
        optimizer: Its optimizer.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """Gather the state.

        Returns:
            ``{"state": by name, "param_groups": with names}``.
        """
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return get_optimizer_state_dict(self.model, self.optimizer, options=_whole())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take each process's part of a state.

        Args:
            state: As from `state_dict`, the same in each process.
        """
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        set_optimizer_state_dict(self.model, self.optimizer, state, options=_whole())


def _whole() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True)
