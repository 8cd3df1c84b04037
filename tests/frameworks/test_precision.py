"""Narrow dtypes: the noise of autocast is that of float32, rounded, and loss scaling does not meet it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from frameworks.byhand import DEVICES, EPS, SmoothNet, batches, equal, net, sgd, state
from resolute.noise.robustify import robustify

DTYPES = [torch.bfloat16, torch.float16]


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().float().flatten().cpu() for p in model.parameters()])


def train(dtype: torch.dtype, seed: int, eps: float = EPS, device: str = "cpu") -> Tensor:
    """Train with autocast and loss scaling, as PyTorch's own recipe has it; float32 without both."""
    model = net(SmoothNet, eps).to(device)
    optimizer, narrow = sgd(model), dtype != torch.float32
    scaler = torch.amp.GradScaler(device, enabled=narrow, init_scale=1024.0)
    torch.manual_seed(seed)
    for x, y in batches():
        optimizer.zero_grad()
        with torch.autocast(device, dtype, enabled=narrow):
            loss = cross_entropy(model(x.to(device)), y.to(device))
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return flat(model)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_autocast_and_grad_scaler_follow_float32(dtype: torch.dtype, device: str) -> None:
    narrow, plain = train(dtype, 3, device=device), train(dtype, 3, eps=0, device=device)
    same, other = train(torch.float32, 3, device=device), train(torch.float32, 4, device=device)
    error = (narrow - same).norm()
    assert error < 0.1 * (narrow - other).norm()
    assert error < 0.1 * (narrow - plain).norm()


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_that_overflows_is_skipped(device: str) -> None:
    model = net(SmoothNet).to(device)
    optimizer, scaler, before = sgd(model), torch.amp.GradScaler(device, init_scale=2.0**60), state(model)
    (x, y), *_ = batches()
    with torch.autocast(device, torch.float16):
        loss = cross_entropy(model(x.to(device)), y.to(device))
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert equal(state(model), before)
    assert scaler.get_scale() == 2.0**59


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.LeakyReLU, nn.PReLU])
def test_autocast_keeps_the_dtype_and_moves_by_eps(dtype: torch.dtype, activation: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(20, 50), activation())
    x = torch.randn(30, 20)
    with torch.autocast("cpu", dtype):
        plain = model(x)
        noisy = robustify(model, EPS)(x)
    assert noisy.dtype == plain.dtype
    moved = (noisy.double() - plain.double()).abs() / plain.double().abs()
    normal = plain.abs() > 1e-3
    assert normal.sum() > 500
    assert (moved[normal] - EPS).abs().max() < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_a_network_of_another_dtype_trains(dtype: torch.dtype) -> None:
    """`model.to(bfloat16)`, without autocast: it follows float32 as far as its weights can."""
    results = []
    for wide, seed in ((torch.float32, 3), (dtype, 3), (torch.float32, 4)):
        model = net(SmoothNet).to(wide)
        torch.manual_seed(seed)
        (x, y), *_ = batches()
        cross_entropy(model(x.to(wide)).float(), y).backward()
        results.append(torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None]))
    wanted, actual, other = results
    assert (actual - wanted).norm() < 0.1 * (actual - other).norm()
