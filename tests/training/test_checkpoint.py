from __future__ import annotations

import csv
import io
import pickle
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from resolute.errors import InputError
from resolute.run_folder import write_part
from resolute.training import checkpoint as files
from resolute.training.checkpoint import Epoch

CPU = torch.device("cpu")
MINE, OTHERS = {"seed": 0}, {"seed": 1}
ROWS = [Epoch(1, 0.1, 2.0, 0.5, None, 3.25, 1.0), Epoch(2, 0.05, 1.0, 0.25, 0.125, 3.0, 1.5)]


class Bomb:
    """Executes something when it is unpickled without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def save(out: Path) -> Path:
    files.save_state(out, MINE, {"model": {"w": torch.arange(3.0)}}, ROWS)
    return out / "checkpoint.pt"


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    save(tmp_path / "cell")
    stored = files.load_state(tmp_path / "cell", MINE, CPU)
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
    assert files.load_state(tmp_path, MINE, CPU) is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    told = r"checkpoint.pt belongs to other work: seed is 0 there and 1 here. Delete it, or choose .* --out"
    with pytest.raises(InputError, match=told):
        files.load_state(tmp_path, OTHERS, CPU)


def test_a_checkpoint_is_never_executed(tmp_path: Path) -> None:
    """Not even one whose checksum is right."""
    buffer = io.BytesIO()
    torch.save({"state": Bomb()}, buffer)
    for content in (buffer.getvalue(), pickle.dumps(Bomb())):
        write_part(tmp_path / "checkpoint.pt", content, MINE)
        with pytest.raises(InputError, match=r"checkpoint.pt is no checkpoint .* Delete it: this run then starts anew"):
            files.load_state(tmp_path, MINE, CPU)
        (tmp_path / "checkpoint.pt").write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint.pt is damaged: its first line is no header. Delete it"):
            files.load_state(tmp_path, MINE, CPU)
        assert not Path("exploded").exists()


def test_the_bomb_would_explode(tmp_path: Path) -> None:
    torch.save({"identity": Bomb()}, tmp_path / "bomb.pt")
    torch.load(tmp_path / "bomb.pt", weights_only=False)
    assert Path("exploded").exists()


@pytest.mark.parametrize("part", [0, 1, 100, -1])
def test_a_truncated_checkpoint_is_refused(part: int, tmp_path: Path) -> None:
    path = save(tmp_path)
    path.write_bytes(path.read_bytes()[:part])
    with pytest.raises(InputError, match=f"{path} is damaged: .* Delete it, or restore it, and give the same command"):
        files.load_state(tmp_path, MINE, CPU)


def test_a_checkpoint_with_a_flipped_bit_is_refused_or_loaded_as_it_was(tmp_path: Path) -> None:
    path = save(tmp_path)
    whole, rng = path.read_bytes(), random.Random(0)
    for place in (*range(120), *(rng.randrange(len(whole)) for _ in range(80)), len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :])
        with pytest.raises(InputError, match=re.escape(str(path))):
            files.load_state(tmp_path, MINE, CPU)


@pytest.mark.parametrize("content", [[], {}, {"state": {}}, {"state": {}, "log": [{"epoch": 1}], "within": None}])
def test_another_file_of_torch_s_is_refused(content: object, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_part(tmp_path / "checkpoint.pt", buffer.getvalue(), MINE)
    with pytest.raises(InputError, match=r"checkpoint.pt is no checkpoint"):
        files.load_state(tmp_path, MINE, CPU)
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt is damaged: its first line is no header"):
        files.load_state(tmp_path, MINE, CPU)


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
