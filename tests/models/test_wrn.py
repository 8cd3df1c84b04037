from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.models.wrn import WideBlock, WideResNet


@pytest.mark.parametrize(
    ("depth", "width", "classes", "parameters"),
    [(16, 8, 10, 10_961_370), (28, 10, 10, 36_479_194), (28, 10, 100, 36_536_884)],
)
def test_it_has_the_published_number_of_parameters(depth: int, width: int, classes: int, parameters: int) -> None:
    with torch.device("meta"):
        model = WideResNet(depth, width, classes)
    assert sum(p.numel() for p in model.parameters()) == parameters


def written_out(w: dict[str, Tensor], blocks: int, x: Tensor) -> Tensor:
    """Evaluate the network from its weights, with the equations of BatchNorm and ReLU as the papers print them."""

    def active(name: str, x: Tensor) -> Tensor:
        mean, variance, gain, bias = (
            w[f"{name}.{part}"].view(-1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * gain + bias).clamp(min=0)

    x = F.conv2d(x, w["stem.weight"], padding=1)
    for group, stride in enumerate((1, 2, 2)):
        for index in range(blocks):
            name, step = f"groups.{group}.{index}", stride if index == 0 else 1
            a = active(f"{name}.norm1", x)
            h = F.conv2d(a, w[f"{name}.conv1.weight"], stride=step, padding=1)
            h = F.conv2d(active(f"{name}.norm2", h), w[f"{name}.conv2.weight"], padding=1)
            shortcut = w.get(f"{name}.shortcut.weight")
            x = h + (x if shortcut is None else F.conv2d(a, shortcut, stride=step))
    return active("norm", x).mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"]


@pytest.mark.parametrize(("depth", "width"), [(10, 1), (16, 2), (22, 1)])
def test_it_is_the_published_network_written_out(depth: int, width: int) -> None:
    model = WideResNet(depth, width, 10, (3, 16, 16)).double()
    for _ in range(3):
        model(torch.randn(8, 3, 16, 16, dtype=torch.float64))
    for name, buffer in model.named_parameters():
        if "norm" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    x = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), written_out(model.state_dict(), (depth - 4) // 6, x))


def test_it_equals_timm_s_pre_activation_network() -> None:
    from timm.layers.create_conv2d import create_conv2d
    from timm.layers.norm_act import BatchNormAct2d
    from timm.models.resnetv2 import ResNetV2

    theirs: Any = ResNetV2(
        [2, 2, 2],
        channels=(32, 64, 128),
        num_classes=10,
        stem_chs=16,
        preact=True,
        basic=True,
        bottle_ratio=1.0,
        norm_layer=BatchNormAct2d,
        conv_layer=partial(create_conv2d, bias=False),
    )
    theirs.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
    ours = WideResNet(16, 2, 10)
    assert sum(p.numel() for p in theirs.parameters()) == sum(p.numel() for p in ours.parameters())

    def in_their_order(block: WideBlock) -> list[Tensor]:
        parts = [block.shortcut, block.norm1, block.conv1, block.norm2, block.conv2]
        return [tensor for part in parts if part is not None for tensor in part.state_dict().values()]

    blocks = [block for block in ours.modules() if isinstance(block, WideBlock)]
    tensors = [ours.stem.weight, *(t for block in blocks for t in in_their_order(block))]
    tensors += [*ours.norm.state_dict().values(), ours.fc.weight[:, :, None, None], ours.fc.bias]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), tensors, strict=True)))
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", [4, 8, 32, 33])
def test_any_size_of_image_fits(side: int) -> None:
    model = WideResNet(10, 1, 3, (2, side, side))
    logits = model(torch.randn(4, 2, side, side))
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    assert logits.shape == (4, 3)
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in model.parameters())


def test_weights_start_as_he_et_al_s() -> None:
    model = WideResNet(16, 4, 10)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            wanted = (2 / (module.in_channels * module.kernel_size[0] ** 2)) ** 0.5
            tolerance = 5 * wanted / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(wanted, abs=tolerance)
            assert module.bias is None
    assert not model.fc.bias.any()


def test_dropout_lies_between_the_convolutions() -> None:
    block = WideBlock(4, 4, 1, dropout=0.75)
    seen: list[Tensor] = []
    block.relu2.register_forward_hook(lambda _module, _args, out: torch.ones_like(out))
    block.conv2.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    block(torch.randn(8, 4, 16, 16))
    assert set(seen[0].unique().tolist()) == {0.0, 4.0}


@pytest.mark.parametrize(("depth", "width"), [(17, 2), (4, 1), (11, 1), (16, 0), (16, -1)])
def test_other_depths_and_widths_are_refused(depth: int, width: int) -> None:
    with pytest.raises(InputError, match=rf"wrn-{depth}-{width}: the depth must be 6n \+ 4 .* and the width >= 1"):
        WideResNet(depth, width, 10)
