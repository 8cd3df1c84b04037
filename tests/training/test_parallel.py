from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import torch

from cases import tiny_images, tiny_network
from ranks import killed, overflowing, watched
from resolute.config import Augment, Settings, TrainConfig
from resolute.data.dataset import epoch_order
from resolute.errors import InputError
from resolute.training.loop import train

if TYPE_CHECKING:
    from pathlib import Path

CONFIG = TrainConfig(epochs=2, batch_size=16, lr=0.1, device="cpu")
TWO = dataclasses.replace(CONFIG, devices=2)


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_batches(tmp_path: Path) -> None:
    images, together, alone = tiny_images(50), tiny_network(), tiny_network()
    torch.use_deterministic_algorithms(True)
    try:
        log = train(together, images, method=watched(tmp_path), config=TWO, seed=3, validation=images, on_step=print)
    finally:
        torch.use_deterministic_algorithms(False)
    expected = train(alone, images, config=CONFIG, seed=3, validation=images)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert [row.loss for row in log] == pytest.approx([row.loss for row in expected], rel=1e-4)
    assert [row.train_error for row in log] == pytest.approx([row.train_error for row in expected])
    assert [row.validation_error for row in log] == [row.validation_error for row in expected]

    for step in range(6):
        parts = [torch.load(tmp_path / f"{rank}-{step}.pt") for rank in (0, 1)]
        order = epoch_order(50, 3, step // 3)[16 * (step % 3) : 16 * (step % 3) + 16]
        assert torch.equal(torch.cat([part["y"] for part in parts]), images.y[order])
        assert not torch.equal(parts[0]["noise"], parts[1]["noise"])
        assert all(part["switched"] for part in parts)
    assert not (tmp_path / "0-6.pt").exists()


@pytest.mark.slow
def test_global_noise_is_what_one_process_draws() -> None:
    images, losses = tiny_images(48), []
    for config in (TWO, CONFIG):
        model = tiny_network()
        config = dataclasses.replace(config, global_noise=True)
        log = train(model, images, method="r", settings=Settings(0.5, 0.3, "both"), config=config)
        losses.append([row.loss for row in log])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_in_one_process_is_refused_by_all(tmp_path: Path) -> None:
    config = dataclasses.replace(TWO, lr=1e30, augment=Augment(shift=1), schedule="step")
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch 1"):
        train(tiny_network(), tiny_images(), config=config, out=tmp_path)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_training_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r"a process that trained has ended \(.*SIGKILL\)\. Is the memory full\?"):
        train(tiny_network(), tiny_images(), method=killed(), config=TWO)


@pytest.mark.slow
def test_a_process_without_memory_ends_the_training_with_a_sentence() -> None:
    with pytest.raises(InputError, match=r"^out of memory \(.*can't allocate memory"):
        train(tiny_network(), tiny_images(), method=overflowing(), config=TWO)
