"""Training by several processes: how they are launched (torchrun, srun, our own), and FSDP2."""

from __future__ import annotations

import atexit
import contextlib
import copy
import importlib.util
import logging
import os
import socket
import sys
import tempfile
import types
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, spawn

from resolute.errors import InputError, in_words
from resolute.training.preemption import held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lightning_fabric import Fabric

    from resolute.config import TrainConfig


UNIT = 2**20
"""Weights that are gathered together, at least: 4 MiB of float32."""


def shard(model: nn.Module, device: torch.device, world: int) -> nn.Module:
    """Shard a network in place over all processes."""
    # A block becomes a unit of its own, whose weights are whole only while it computes, when it holds `UNIT` weights
    # that are in no smaller unit.
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
    """Choose the blocks of a network that are gathered by themselves, inner ones first."""
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
        """Gather the state; buffers, BatchNorm's statistics say, are those of process 0, as under DDP."""
        from torch import distributed
        from torch.distributed.checkpoint.state_dict import get_model_state_dict

        for buffer in self.model.buffers():
            distributed.broadcast(buffer, 0)
        return get_model_state_dict(self.model, options=_whole())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take each process's part of a state."""
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
        """Gather the state."""
        from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

        return get_optimizer_state_dict(self.model, self.optimizer, options=_whole())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take each process's part of a state."""
        from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

        set_optimizer_state_dict(self.model, self.optimizer, state, options=_whole())


def _whole() -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True)


def joins(config: TrainConfig) -> bool:
    """Say whether this process is one of several that something outside has started, to train one network together."""
    return config.devices * config.nodes > 1 and _started() > 1


def rank(config: TrainConfig) -> int:
    """Say which of the processes that train together this is."""
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) if joins(config) else 0


def check_alone(config: TrainConfig) -> None:
    """Refuse to train one network several times over, in processes that were meant to share it."""
    if _started() > 1 and not joins(config):
        raise InputError(
            f"{_started()} processes were started, and each would train the whole network: say --devices N, which is "
            "torchrun's --nproc-per-node and srun's --ntasks-per-node."
        )


def make_fabric(config: TrainConfig) -> Fabric:
    """Make what knows devices, precision and the other processes."""
    with _without_metrics():
        from lightning_fabric import Fabric

    count = config.devices * config.nodes
    if config.nodes > 1 and not joins(config):
        raise InputError(
            f"nodes is {config.nodes}, and nothing has started this process on each of them. Use srun --nodes "
            f"{config.nodes} --ntasks-per-node {config.devices}, or on each: torchrun --nnodes {config.nodes} "
            f"--nproc-per-node {config.devices} --rdzv-endpoint HOST:PORT ..."
        )
    if joins(config) and _started() != count:
        raise InputError(
            f"{_started()} processes were started for {config.devices} devices on each of {config.nodes} machines; "
            "devices is torchrun's --nproc-per-node and srun's --ntasks-per-node, nodes is --nnodes and --nodes."
        )
    with _quiet_log():
        return Fabric(
            accelerator=config.device,
            devices=config.devices,
            num_nodes=config.nodes,
            strategy="auto" if count == 1 else "ddp",
            precision=config.precision,
            plugins=_environment(config),
        )


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep Fabric from telling the precision for every network."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def launch(config: TrainConfig, fit: Callable[..., dict[str, Any]], model: nn.Module) -> dict[str, Any]:
    """Call a function in each process that trains, and wait."""
    fabric = make_fabric(config)
    if joins(config):
        atexit.register(_leave)
    if config.devices == 1 or joins(config):
        trained: dict[str, Any] = fabric.launch(fit, model)
        return trained
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        with tempfile.TemporaryDirectory() as folder, held(forward=True):
            result = Path(folder) / "result.pt"  # a process's tensors end with it
            spawn(_member, (config, port, _switches(), fit, model, result), config.devices)
            return torch.load(result, weights_only=True)  # type: ignore[no-any-return]
    except ProcessExitedException as error:
        memory = " Is the memory full? A smaller --batch-size needs less." if "SIGKILL" in str(error) else ""
        raise InputError(
            f"a process that trained has ended ({error}).{memory} The last checkpoint is kept; the same "
            "command continues from it."
        ) from error
    except ProcessRaisedException as error:
        told = in_words(error)
        if told is None:
            raise
        raise told from error


def _member(
    rank: int,
    config: TrainConfig,
    port: int,
    switches: tuple[bool, ...],
    fit: Callable[..., dict[str, Any]],
    model: nn.Module,
    result: Path,
) -> None:
    """Be one of the processes that `launch` starts; the weights that it is given are in memory that all share."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "LOCAL_RANK": str(rank)}
    deterministic, warn_only, torch.backends.cudnn.benchmark = switches
    torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
    trained = make_fabric(config).launch(fit, copy.deepcopy(model))
    if rank == 0:
        torch.save(trained, result)
    _leave()


def _leave() -> None:
    """Leave the group that trained: its threads may else outlive the interpreter, and abort."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _switches() -> tuple[bool, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )


@contextlib.contextmanager
def _without_metrics() -> Iterator[None]:
    """Answer Fabric's question for the version of torchmetrics, which it imports for that: 5 seconds."""
    name = "torchmetrics"
    if name in sys.modules or importlib.util.find_spec(name) is None:
        yield
        return
    sys.modules[name] = stand_in = types.ModuleType(name)
    stand_in.__dict__["__version__"] = version(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


def _started() -> int:
    """Count the processes that torchrun or srun has started together; in a script of sbatch itself that is one."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"])
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))


def _environment(config: TrainConfig) -> Any:
    """Say how the processes find each other: left to itself Fabric takes every shell of a SLURM job for srun's task."""
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if not joins(config):
        return LightningEnvironment()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return TorchElasticEnvironment()
    try:
        return SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:  # a job of --ntasks without --ntasks-per-node
        raise InputError(f"the SLURM job cannot be used: {error}") from error
