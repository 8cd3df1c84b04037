"""What a training run writes: checkpoint, table of epochs, TensorBoard; and how it is taken up again."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import torch

from resolute.errors import InputError
from resolute.run_folder import read_part, write_atomic, write_part
from resolute.safe_io import check_stored

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row of the training log.

    Attributes:
        epoch: From 1.
        lr: Learning rate at the end of the epoch.
        loss: Mean training loss.
        train_error: Share of wrong answers on the batches as the method made them, in [0, 1].
        validation_error: Share of wrong answers on the validation images in evaluation mode; None without them, and
            after most epochs where they outnumber the training images (not after the last).
        step_ms: Mean wall time of a step in milliseconds.
        seconds: Wall time of the epoch with its validation.
    """

    epoch: int
    lr: float
    loss: float
    train_error: float
    validation_error: float | None
    step_ms: float
    seconds: float


CHECKPOINT = "checkpoint.pt"


def save_state(
    out: Path,
    identity: Mapping[str, Any],
    state: dict[str, Any],
    log: list[Epoch],
    within: dict[str, Any] | None = None,
) -> None:
    """Write the checkpoint and ``train.csv``, each atomically."""
    rows = [dataclasses.asdict(row) for row in log]
    buffer = io.BytesIO()
    torch.save({"state": state, "log": rows, "within": within}, buffer)
    table = io.StringIO()
    writer = csv.DictWriter(table, [field.name for field in dataclasses.fields(Epoch)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(out / "train.csv", table.getvalue())
    write_part(out / CHECKPOINT, buffer.getvalue(), identity)


def load_state(
    out: Path, identity: Mapping[str, Any], device: torch.device
) -> tuple[dict[str, Any], list[Epoch], dict[str, Any] | None] | None:
    """Read the checkpoint of a run that was interrupted, by torch's safe unpickler only."""
    path = out / CHECKPOINT
    raw = read_part(path, identity)
    if raw is None:
        return None
    try:
        with ZipFile(io.BytesIO(raw)) as archive:
            check_stored(archive.infolist(), len(raw))
        stored = torch.load(io.BytesIO(raw), map_location=device, weights_only=True)
        return stored["state"], [Epoch(**row) for row in stored["log"]], stored["within"]
    except Exception as error:  # a broken archive raises half a dozen unrelated types
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path} is no checkpoint ({reason}). Delete it: this run then starts anew.") from error


def tensorboard(out: Path) -> Any:
    """Open a TensorBoard log."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(out / "tensorboard"))


def add_row(writer: Any, row: Epoch) -> None:
    """Log one epoch to TensorBoard."""
    for name, value in dataclasses.asdict(row).items():
        if name != "epoch" and value is not None:
            writer.add_scalar(name, value, row.epoch)
