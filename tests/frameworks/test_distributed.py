"""DDP and FSDP2 on two gloo processes: every rank has noise of its own, and the weights stay in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from frameworks.byhand import SmoothNet, batches, equal, net, state, train_by_hand
from frameworks.processes import WRAPS, work

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    Note = dict[str, Any]


@pytest.mark.slow
def test_ranks_meet_different_noise_and_their_weights_agree(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=2)  # type: ignore[attr-defined, no-untyped-call]
    zero, one = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    model, other = net(SmoothNet), net(SmoothNet)
    torch.manual_seed(10)
    alone = state(train_by_hand(model, batches()))
    torch.manual_seed(11)
    train_by_hand(other, batches())
    for wrap in WRAPS:
        check_own_seeds(zero[wrap, "own seed"], one[wrap, "own seed"])
        check_one_seed(zero[wrap, "one seed"], one[wrap, "one seed"], alone, state(other))
        assert not close(zero[wrap, "own seed"]["weights"], alone), wrap


def check_own_seeds(zero: Note, one: Note) -> None:
    assert not torch.equal(zero["first"], one["first"])
    assert all(a != b for a, b in zip(zero["losses"], one["losses"], strict=True))
    assert torch.isfinite(torch.tensor(zero["losses"] + one["losses"])).all()
    assert equal(zero["weights"], one["weights"])
    assert not torch.equal(zero["first"], zero["silent"])
    assert torch.equal(zero["silent"], zero["eval"])


def check_one_seed(zero: Note, one: Note, alone: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """Ranks with the same seed and the same data do what one process does."""
    assert torch.equal(zero["first"], one["first"])
    assert close(zero["weights"], alone)
    assert not close(zero["weights"], other)


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-5) for name in a)
