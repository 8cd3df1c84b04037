"""DDP and FSDP2 on two gloo processes: every rank has noise of its own, and the weights stay in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from frameworks.byhand import SmoothNet, batches, net, state, train_by_hand
from frameworks.processes import WRAPS, work

if TYPE_CHECKING:
    from pathlib import Path

Notes = list[dict[tuple[str, str], dict[str, Any]]]


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Notes:
    """What the two processes noted, one dictionary a rank."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("wrap", WRAPS)
def test_ranks_meet_different_noise_and_their_weights_agree(notes: Notes, wrap: str) -> None:
    zero, one = (note[wrap, "own seed"] for note in notes)
    assert not torch.equal(zero["first"], one["first"])
    assert all(a != b for a, b in zip(zero["losses"], one["losses"], strict=True))
    assert torch.isfinite(torch.tensor(zero["losses"] + one["losses"])).all()
    assert all(torch.equal(zero["weights"][name], one["weights"][name]) for name in zero["weights"])
    assert torch.equal(zero["silent"], zero["eval"])


@pytest.mark.parametrize("wrap", WRAPS)
def test_ranks_with_the_same_seed_and_data_train_as_one_process(notes: Notes, wrap: str) -> None:
    model, other = net(SmoothNet), net(SmoothNet)
    torch.manual_seed(10)
    wanted = state(train_by_hand(model, batches()))
    torch.manual_seed(11)
    train_by_hand(other, batches())
    for note in notes:
        actual = note[wrap, "one seed"]["weights"]
        torch.testing.assert_close(actual, wanted)
        with pytest.raises(AssertionError):
            torch.testing.assert_close(actual, state(other))


@pytest.mark.parametrize("wrap", WRAPS)
def test_weights_come_from_the_noise_of_both_ranks(notes: Notes, wrap: str) -> None:
    zero, _ = notes
    own, one = zero[wrap, "own seed"]["weights"], zero[wrap, "one seed"]["weights"]
    assert zero[wrap, "own seed"]["losses"][0] == zero[wrap, "one seed"]["losses"][0]
    assert not torch.equal(own["layers.1.weight"], one["layers.1.weight"])
