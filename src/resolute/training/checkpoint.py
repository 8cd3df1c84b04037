"""What a training run writes: checkpoint, table of epochs, TensorBoard; and how it is taken up again."""

from __future__ import annotations

import csv
import dataclasses
import io
from typing import TYPE_CHECKING, Any

import torch

from resolute.errors import InputError
from resolute.run_folder import write_atomic
from resolute.safe_io import check_tensors
from resolute.training.config import Epoch

if TYPE_CHECKING:
    from pathlib import Path


CHECKPOINT = "checkpoint.pt"


def save(
    out: Path, identity: str, state: dict[str, Any], log: list[Epoch], within: dict[str, Any] | None = None
) -> None:
    """Write the checkpoint and ``train.csv``, each atomically.

    Args:
        out: Folder of the run.
        identity: What a run must agree in to go on from this checkpoint.
        state: State dicts of network, optimizer and average.
        log: The epochs so far.
        within: Where the next epoch is, if it has begun.
    """
    rows = [dataclasses.asdict(row) for row in log]
    buffer = io.BytesIO()
    torch.save({"identity": identity, "state": state, "log": rows, "within": within}, buffer)
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in dataclasses.fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(out / "train.csv", table.getvalue())
    write_atomic(out / CHECKPOINT, buffer.getvalue())


def load(
    out: Path, identity: str, device: torch.device
) -> tuple[dict[str, Any], list[Epoch], dict[str, Any] | None] | None:
    """Read the checkpoint of a run that was interrupted, by torch's safe unpickler only.

    Args:
        out: Folder of the run.
        identity: What the checkpoint must agree in.
        device: Where its tensors go.

    Returns:
        State dicts, epochs and place in the next one as given to `save`; None if there is no checkpoint.

    Raises:
        InputError: If the checkpoint is of another run, or is none.
    """
    path = out / CHECKPOINT
    if not path.exists():
        return None
    try:
        check_tensors(path)
        stored = torch.load(path, map_location=device, weights_only=True)
        theirs, state, rows = stored["identity"], stored["state"], [Epoch(**row) for row in stored["log"]]
        within = stored["within"]
    except Exception as error:  # a broken archive raises half a dozen unrelated types
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} is no checkpoint ({reason}). Delete it: this run then starts anew.") from error
    if theirs != identity:
        raise InputError(f"{path} is of another run: {theirs}. Choose another folder (--out).")
    return state, rows, within


def tensorboard(out: Path) -> Any:
    """Open a TensorBoard log.

    Args:
        out: Folder of the run.

    Returns:
        A ``torch.utils.tensorboard.SummaryWriter``.
    """
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"))


def add_row(writer: Any, row: Epoch) -> None:
    """Log one epoch to TensorBoard.

    Args:
        writer: As returned by `tensorboard`.
        row: The epoch.
    """
    for name, value in dataclasses.asdict(row).items():
        if name != "epoch" and value is not None:
            writer.add_scalar(name, value, row.epoch)
