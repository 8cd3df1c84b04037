from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from resolute import attacks, models
from resolute.config import Augment, TrainConfig
from resolute.data.dataset import DataInfo, Images
from resolute.errors import InputError
from resolute.models import loss
from resolute.models.capsnet import CapsNet, Squash
from resolute.noise.sites import sites
from resolute.training.loop import train

SHAPE = (1, 18, 18)


def shorten(s: Tensor) -> Tensor:
    length = math.sqrt(sum(float(v) ** 2 for v in s))
    return s * (length**2 / (1 + length**2) / length)


def routed(below: Tensor, weight: Tensor, bias: Tensor, classes: int, iterations: int) -> Tensor:
    """Route one image as Procedure 1 of the paper prints it: loops over capsules, no tensor algebra beyond a vector."""
    votes = [[u @ weight[i, :, 16 * j : 16 * j + 16] for j in range(classes)] for i, u in enumerate(below)]
    b = [[0.0] * classes for _ in votes]
    for iteration in range(iterations):
        v = []
        shares = [[math.exp(value) / sum(map(math.exp, row)) for value in row] for row in b]
        for j in range(classes):
            s = bias[j].clone()
            for i, row in enumerate(votes):
                s = s + shares[i][j] * row[j]
            v.append(shorten(s))
        if iteration < iterations - 1:
            b = [[b[i][j] + float(votes[i][j] @ v[j]) for j in range(classes)] for i in range(len(votes))]
    return torch.stack(v)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_routing_is_the_plain_loop_over_capsules(iterations: int) -> None:
    model = CapsNet(3, SHAPE, routing=iterations).double()
    below = model.primary_squash(torch.randn(2, len(model.weight), 8, dtype=torch.float64))
    with torch.no_grad():
        expected = [routed(image, model.weight, model.bias, 3, iterations) for image in below]
        torch.testing.assert_close(model.route(below), torch.stack(expected))


def test_squash_shortens_and_keeps_the_direction() -> None:
    s = torch.randn(5, 7, 8, dtype=torch.float64)
    out = Squash()(s)
    torch.testing.assert_close(out[2, 3], shorten(s[2, 3]))
    x = torch.zeros(1, 8, requires_grad=True)
    Squash()(x).sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_primary_capsules_are_eight_maps_of_one_type_at_one_place() -> None:
    model, seen = CapsNet(3, (1, 20, 22)), list[Tensor]()
    model.primary_squash.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    x = torch.rand(2, 1, 20, 22)
    model(x)
    maps = model.primary(model.relu(model.conv(x)))
    assert maps.shape == (2, 256, 2, 3)
    place = 0
    for kind in range(32):
        for row in range(2):
            for column in range(3):
                torch.testing.assert_close(seen[0][:, place], maps[:, 8 * kind : 8 * kind + 8, row, column])
                place += 1
    assert seen[0].shape[1] == place == len(model.weight)


def test_the_margin_loss_is_the_paper_s_sum_over_twenty() -> None:
    lengths, y = torch.rand(6, 10), torch.tensor([0, 3, 9, 9, 1, 5])
    loss = CapsNet(10, SHAPE).per_image_loss(torch.rand(6, *SHAPE), y, lengths)
    for i, label in enumerate(y.tolist()):
        total = 0.0
        for k, v in enumerate(lengths[i].tolist()):
            total += max(0, 0.9 - v) ** 2 if k == label else 0.5 * max(0, v - 0.1) ** 2
        assert loss[i].item() == pytest.approx(total / 20, rel=1e-5)


def test_the_image_is_remade_from_the_capsule_of_its_class() -> None:
    model = CapsNet(3, SHAPE, decoder=True)
    x, y = torch.rand(4, *SHAPE), torch.tensor([0, 1, 2, 1])
    lengths, capsules = model(x)
    torch.testing.assert_close(lengths, torch.linalg.vector_norm(capsules, dim=2))
    loss = model.per_image_loss(x, y, (lengths, capsules))
    assert isinstance(model.decoder, nn.Sequential)
    for i in range(4):
        masked = torch.zeros(3, 16)
        masked[y[i]] = capsules[i, y[i]]
        error = (model.decoder(masked.flatten()[None]) - x[i].flatten()).square().sum()
        margin = model.per_image_loss(x, y, lengths)[i]
        torch.testing.assert_close(loss[i], margin + 0.0005 * error)
    assert isinstance(model.eval()(x), Tensor)


def test_weights_start_as_the_authors() -> None:
    model = CapsNet(10, SHAPE)
    for weight, spread in ((model.conv.weight, 0.05), (model.primary.weight, 0.1), (model.weight, 0.1)):
        assert weight.std().item() == pytest.approx(0.88 * spread, rel=0.02)
        assert weight.abs().max().item() <= 2 * spread
    for bias in (model.conv.bias, model.primary.bias, model.bias):
        assert bias is not None
        assert bool((bias == 0.1).all())


def test_hidden_is_the_relu_and_capsules_are_reached_by_name() -> None:
    model = models.build("capsnet", classes=3, shape=SHAPE)
    assert [site.name for site in sites(model)] == ["network.relu"]
    assert [site.name for site in sites(model, "*squash*")] == ["network.primary_squash", "network.class_squash"]


def test_attacks_move_images_whose_margin_loss_is_flat() -> None:
    """An attack on the margin loss would leave them alone: its gradient is zero where the answer is sure."""
    model = models.build("capsnet", classes=2, shape=SHAPE).eval()
    x = torch.rand(4, *SHAPE)
    with torch.no_grad():
        y = model(x).argmax(1)
    moved = attacks.fgsm(model, x, y, 0.1)
    assert (moved - x).abs().amax((1, 2, 3)).tolist() == pytest.approx([0.1] * 4, abs=1e-6)


@pytest.mark.parametrize("routing", [0, -1])
def test_routing_takes_an_iteration(routing: int) -> None:
    with pytest.raises(InputError, match=f"routing={routing}; it must be at least 1"):
        CapsNet(3, SHAPE, routing=routing)


@pytest.mark.parametrize("method", ["r", "fgsm"])
def test_its_loss_is_what_the_loop_trains_on(method: str) -> None:
    y = torch.arange(16) % 2
    x = (100 * torch.rand(16, *SHAPE) + 100 * y[:, None, None, None]).to(torch.uint8)
    info = DataInfo("bright", 2, SHAPE, (0.4,), (0.3,), ("dark", "bright"), Augment(), 0.02, (0.02,))
    model = models.build("capsnet-decoder", classes=2, shape=SHAPE)
    config = TrainConfig(epochs=3, batch_size=8, optimizer="adam", lr=1e-3, weight_decay=0, device="cpu")
    log = train(model, Images(info, x, y, "train"), method=method, config=config)
    assert log[0].loss < 0.5 * 0.81 / 2 + 0.0005 * 18**2 / 3
    assert log[-1].loss < log[0].loss
    smoothed = TrainConfig(epochs=1, label_smoothing=0.1, device="cpu")
    with pytest.raises(InputError, match="CapsNet has its own loss, without labels to smooth"):
        train(model, Images(info, x, y, "train"), config=smoothed)


def test_the_loss_is_found_under_wrappers_and_behind_normalize() -> None:
    model = models.build("capsnet", classes=3, shape=SHAPE)
    wrapped: Any = torch.compile(model, backend="eager")
    assert loss.network(nn.DataParallel(wrapped)) is model.network
    assert loss.network(nn.ReLU()).__class__ is nn.ReLU
