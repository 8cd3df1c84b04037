from __future__ import annotations

import csv
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from resolute.errors import InputError
from resolute.training import checkpoint as files
from resolute.training.config import Epoch

CPU = torch.device("cpu")
ROWS = [Epoch(1, 0.1, 2.0, 0.5, None, 3.25, 1.0), Epoch(2, 0.05, 1.0, 0.25, 0.125, 3.0, 1.5)]


class Bomb:
    """Executes something when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def save(out: Path) -> Path:
    files.save_state(out, "this run", {"model": {"w": torch.arange(3.0)}}, ROWS)
    return out / "checkpoint.pt"


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "cell")
    stored = files.load_state(tmp_path / "cell", "this run", CPU)
    assert stored is not None
    state, rows, _ = stored
    assert torch.equal(state["model"]["w"], torch.arange(3.0))
    assert rows == ROWS


def test_the_table_holds_a_row_an_epoch(tmp_path: Path) -> None:
    save(tmp_path)
    with (tmp_path / "train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "lr", "loss", "train_error", "validation_error", "step_ms", "seconds"]
    assert [list(row.values()) for row in rows] == [
        ["1", "0.1", "2.0", "0.5", "", "3.25", "1.0"],
        ["2", "0.05", "1.0", "0.25", "0.125", "3.0", "1.5"],
    ]


def test_no_checkpoint_is_no_run(tmp_path: Path) -> None:
    assert files.load_state(tmp_path, "this run", CPU) is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(InputError, match=r"checkpoint.pt is of another run: this run. Choose another folder"):
        files.load_state(tmp_path, "that run", CPU)


def test_a_checkpoint_is_never_executed(tmp_path: Path) -> None:
    path = save(tmp_path)
    for write in (lambda: torch.save({"identity": Bomb()}, path), lambda: path.write_bytes(pickle.dumps(Bomb()))):
        write()
        with pytest.raises(InputError, match=f"{path} is no checkpoint .* Delete it: this run then starts anew"):
            files.load_state(tmp_path, "this run", CPU)
        assert not Path("exploded").exists()


def test_the_bomb_would_explode(tmp_path: Path) -> None:
    torch.save({"identity": Bomb()}, tmp_path / "bomb.pt")
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert Path("exploded").exists()


@pytest.mark.parametrize("part", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_refused(part: int, tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(InputError, match=f"{path} is no checkpoint"):
        files.load_state(tmp_path, "this run", CPU)


@pytest.mark.parametrize(
    "content", [[], {}, {"identity": "this run"}, {"identity": "this run", "state": {}, "log": [{"epoch": 1}]}]
)
def test_another_file_of_torch_s_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt is no checkpoint"):
        files.load_state(tmp_path, "this run", CPU)


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    writer = files.tensorboard(tmp_path)
    for row in ROWS:
        files.add_row(writer, row)
    writer.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    scalars = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars["loss"] == [(1, 2.0), (2, 1.0)]
    assert scalars["validation_error"] == [(2, 0.125)]
    assert scalars.keys() == {"lr", "loss", "train_error", "validation_error", "step_ms", "seconds"}
