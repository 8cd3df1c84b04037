"""How the processes come about that train one network: torchrun, SLURM's srun, our own, or this one alone."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from resolute.errors import InputError, out_of_memory
from resolute.training.stopping import held

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning_fabric import Fabric
    from torch import nn

    from resolute.training.config import TrainConfig


def joins(config: TrainConfig) -> bool:
    """Say whether this process is one of several that something outside has started, to train one network together.

    Args:
        config: How many devices and machines train it; with one each, processes that were started together go their
            own ways.

    Returns:
        True if it is.
    """
    return config.devices * config.nodes > 1 and _started() > 1


def rank(config: TrainConfig) -> int:
    """Say which of the processes that train together this is.

    Args:
        config: As in `joins`.

    Returns:
        Its number; 0 where nothing outside has started several.
    """
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0) if joins(config) else 0


def check_alone(config: TrainConfig) -> None:
    """Refuse to train one network several times over, in processes that were meant to share it.

    Args:
        config: As in `joins`.

    Raises:
        InputError: If several processes were started, and one device is to train.
    """
    if _started() > 1 and not joins(config):
        raise InputError(
            f"{_started()} processes were started, and each would train the whole network: say --devices N, which is "
            "torchrun's --nproc-per-node and srun's --ntasks-per-node."
        )


def make_fabric(config: TrainConfig) -> Fabric:
    """Make what knows devices, precision and the other processes.

    Args:
        config: Device, devices, nodes, strategy and precision.

    Returns:
        Lightning's Fabric, not launched yet.

    Raises:
        InputError: If other processes were started than the settings speak of.
    """
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
    strategy = "auto" if count == 1 else "ddp" if joins(config) else "ddp_spawn"
    return Fabric(
        accelerator=config.device,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=strategy,
        precision=config.precision,
        plugins=_environment(config),
    )


def launch(fabric: Fabric, fit: Callable[..., None], model: nn.Module) -> None:
    """Call a function in each process that trains, and wait.

    Args:
        fabric: Made by `make_fabric`.
        fit: Called with ``fabric`` and ``model``.
        model: The network.

    Raises:
        InputError: If a process is killed, or has too little memory.
        ProcessRaisedException: If one ends by another error.
    """
    spawns = fabric.strategy.launcher is not None
    try:
        with held(forward=True) if spawns else contextlib.nullcontext():
            fabric.launch(fit, model)
    except ProcessExitedException as error:
        memory = " Is the memory full? A smaller --batch-size needs less." if "SIGKILL" in str(error) else ""
        raise InputError(
            f"a process that trained has ended ({error}).{memory} The last checkpoint is kept, to go on from."
        ) from error
    except ProcessRaisedException as error:
        told = out_of_memory(error)
        if told is None:
            raise
        raise told from error


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
