from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    SequentialLR,
    StepLR,
)

from resolute.config import TrainConfig
from resolute.training.loop import learning_rate

STEPS = 7
"""Steps in an epoch."""


def ours(config: TrainConfig) -> list[float]:
    return [learning_rate(config, step / STEPS) for step in range(config.epochs * STEPS)]


def torchs(config: TrainConfig, schedule: Any) -> list[float]:
    """Step torch's scheduler, made by ``schedule(optimizer)``, through a training run."""
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    scheduler: LRScheduler = schedule(optimizer)
    rates = []
    for _ in range(config.epochs * STEPS):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return rates


def test_cosine_is_torch_s() -> None:
    config = TrainConfig(epochs=5, lr=0.3)
    assert ours(config) == pytest.approx(torchs(config, lambda o: CosineAnnealingLR(o, 5 * STEPS)))
    assert ours(config)[0] == 0.3
    assert learning_rate(config, 5) == pytest.approx(0)


def test_steps_are_torch_s() -> None:
    config = TrainConfig(epochs=6, lr=0.3, schedule="step", milestones=(2, 5), gamma=0.2)
    theirs = torchs(config, lambda o: MultiStepLR(o, [2 * STEPS, 5 * STEPS], gamma=0.2))
    assert ours(config) == pytest.approx(theirs)
    assert len(set(ours(config))) == 3


def test_linear_is_torch_s() -> None:
    config = TrainConfig(epochs=5, lr=0.3, schedule="linear")
    theirs = torchs(config, lambda o: LinearLR(o, start_factor=1, end_factor=0, total_iters=5 * STEPS))
    assert ours(config) == pytest.approx(theirs, abs=1e-9)


def test_exponential_is_torch_s_step_by_step() -> None:
    """0.96 for 2 epochs is the STEPS * 2-th root of it for a step."""
    config = TrainConfig(epochs=6, lr=0.3, schedule="exponential", gamma=0.96, decay_epochs=2)
    assert ours(config) == pytest.approx(torchs(config, lambda o: ExponentialLR(o, 0.96 ** (1 / (2 * STEPS)))))


def test_staircase_is_torch_s() -> None:
    config = TrainConfig(epochs=6, lr=0.3, schedule="staircase", gamma=0.94, decay_epochs=2)
    assert ours(config) == pytest.approx(torchs(config, lambda o: StepLR(o, 2 * STEPS, gamma=0.94)))
    assert len(set(ours(config))) == 3


def test_the_rate_does_not_fall_below_its_floor() -> None:
    config = TrainConfig(epochs=4, lr=1.0, schedule="exponential", gamma=0.1, lr_floor=0.01, warmup_epochs=1)
    rates = [learning_rate(config, done) for done in (0, 0.5, 1, 2, 3, 4)]
    assert rates == pytest.approx([0, 0.5, 0.1, 0.01, 0.01, 0.01])


def test_warm_up_is_torch_s_from_zero() -> None:
    config = TrainConfig(epochs=6, lr=0.3, warmup_epochs=2)

    def schedule(optimizer: SGD) -> SequentialLR:
        rise = LinearLR(optimizer, start_factor=1e-12, total_iters=2 * STEPS)
        return SequentialLR(optimizer, [rise, CosineAnnealingLR(optimizer, 4 * STEPS)], milestones=[2 * STEPS])

    assert ours(config) == pytest.approx(torchs(config, schedule), abs=1e-9)
    assert ours(config)[0] == 0
    assert max(ours(config)) == 0.3


def test_a_warm_up_may_last_part_of_an_epoch_or_all_of_them() -> None:
    assert learning_rate(TrainConfig(epochs=1, lr=0.2, warmup_epochs=0.5), 0.25) == 0.1
    rising = ours(TrainConfig(epochs=2, lr=0.2, warmup_epochs=2))
    assert rising == pytest.approx([0.2 * step / (2 * STEPS) for step in range(2 * STEPS)])


def test_milestones_count_from_the_beginning_of_training() -> None:
    config = TrainConfig(epochs=4, lr=1.0, schedule="step", milestones=(2, 3), warmup_epochs=1)
    assert [learning_rate(config, done) for done in (0.5, 1, 1.99, 2, 2.99, 3)] == pytest.approx(
        [0.5, 1, 1, 0.1, 0.1, 0.01]
    )
