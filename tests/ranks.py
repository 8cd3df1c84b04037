"""A method that notes what each process of a distributed training drew; importable where test files are not."""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING

import torch

from resolute.methods import METHODS, Method

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from resolute.config import Settings


def _note(model: nn.Module, x: Tensor, y: Tensor, settings: Settings, *, folder: Path) -> tuple[Tensor, Tensor]:
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    step = len(list(folder.glob(f"{rank}-*.pt")))
    # Drawing must not change what dropout and noise will draw: networks with either are not watched.
    switched = torch.are_deterministic_algorithms_enabled()
    torch.save({"x": x, "y": y, "noise": torch.rand(8), "switched": switched}, folder / f"{rank}-{step}.pt")
    return x, y


def watched(folder: Path) -> Method:
    """Train as base does; leave in ``folder`` a file RANK-STEP.pt with images, labels and noise of each step."""
    return Method("watched", METHODS["base"].prepare, functools.partial(_note, folder=folder), 1, "base, watched")


def _ask_to_stop(model: nn.Module, x: Tensor, y: Tensor, settings: Settings, *, folder: Path) -> tuple[Tensor, Tensor]:
    if torch.distributed.get_rank() == 0:
        step = len(list(folder.glob("step-*")))
        (folder / f"step-{step}").touch()
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
    return x, y


def _die(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    if torch.distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x, y


def _overflow(model: nn.Module, x: Tensor, y: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    if torch.distributed.get_rank() == 1:
        torch.empty(2**60, dtype=torch.uint8)
    return x, y


def overflowing() -> Method:
    """Train as base does; process 1 asks for more memory than there is."""
    return Method("overflowing", METHODS["base"].prepare, _overflow, 1, "base, overflowing")


def killed() -> Method:
    """Train as base does; process 1 is killed at its first step."""
    return Method("killed", METHODS["base"].prepare, _die, 1, "base, killed")


def stopped(folder: Path) -> Method:
    """Train as r does; process 0 leaves a file for each step in ``folder``, and is asked to stop in its fifth."""
    return Method("stopped", METHODS["r"].prepare, functools.partial(_ask_to_stop, folder=folder), 1, "r, stopped")
