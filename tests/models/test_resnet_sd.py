from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.models.resnet_sd import DroppedBlock, ResNetSD


def blocks(model: ResNetSD) -> list[DroppedBlock]:
    return [module for module in model.modules() if isinstance(module, DroppedBlock)]


def test_survival_falls_linearly_to_a_half() -> None:
    survival = [block.survival for block in blocks(ResNetSD(110, 10))]
    assert survival == pytest.approx([1 - index / 54 * 0.5 for index in range(1, 55)])


def test_groups_have_16_32_and_64_channels() -> None:
    for depth in (8, 14, 110, 152):
        widths = [block.conv2.out_channels for block in blocks(ResNetSD(depth, 10))]
        n = (depth - 2) // 6
        assert widths == [16] * n + [32] * n + [64] * n


@pytest.mark.parametrize(("before", "after", "side"), [(4, 4, 6), (4, 8, 6), (4, 8, 7)])
def test_evaluation_is_the_expectation_of_training(before: int, after: int, side: int) -> None:
    """Over the gates, before the ReLU; BatchNorm held fixed. Within four standard errors of 1,000 draws."""
    block = DroppedBlock(before, after, 0.7).eval()
    x = torch.randn(2, before, side, side)
    residual = block.norm2(block.conv2(block.relu1(block.norm1(block.conv1(x)))))
    shrunk = F.avg_pool2d(x, 2, ceil_mode=True) if after > before else x
    shortcut = torch.cat([shrunk, torch.zeros(2, after - before, *shrunk.shape[2:])], 1)
    torch.testing.assert_close(block(x), (shortcut + 0.7 * residual).clamp(min=0))
    block.training = True
    with torch.no_grad():
        draws = [bool(torch.allclose(block(x), (shortcut + residual).clamp(min=0), atol=1e-5)) for _ in range(1000)]
        dead = block(x)
        while torch.allclose(dead, (shortcut + residual).clamp(min=0), atol=1e-5):
            dead = block(x)
        torch.testing.assert_close(dead, shortcut.clamp(min=0))
    assert sum(draws) / 1000 == pytest.approx(0.7, abs=4 * (0.21 / 1000) ** 0.5)


def test_a_dead_block_has_gradients_of_zero() -> None:
    block = DroppedBlock(4, 4, 1e-9)
    block(torch.randn(2, 4, 5, 5, requires_grad=True)).sum().backward()
    assert all(p.grad is not None and not p.grad.any() for p in block.parameters())


def test_residuals_that_overflow_do_not_reach_past_a_dead_block() -> None:
    block = DroppedBlock(4, 4, 1e-9)
    torch.nn.init.constant_(block.norm2.weight, torch.inf)
    assert bool(block(torch.randn(2, 4, 5, 5)).isfinite().all())


def test_one_gate_serves_the_whole_batch() -> None:
    block = DroppedBlock(4, 4, 0.5)
    x = torch.randn(1, 4, 5, 5).expand(16, 4, 5, 5)
    for _ in range(8):
        out = block(x)
        torch.testing.assert_close(out, out[:1].expand_as(out))


@pytest.mark.parametrize("depth", [2, 7, 9, 111])
def test_other_depths_are_refused(depth: int) -> None:
    with pytest.raises(InputError, match=rf"resnet{depth}-sd: the depth must be 6n \+ 2"):
        ResNetSD(depth, 10)


@pytest.mark.parametrize("survival", [0.0, -0.5, 1.5])
def test_survival_is_a_probability(survival: float) -> None:
    with pytest.raises(InputError, match=f"survival={survival}"):
        ResNetSD(8, 10, survival=survival)
