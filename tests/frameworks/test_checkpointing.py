"""Activation checkpointing in both forms: what is computed again meets the same signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from frameworks.byhand import DEVICES, Net, SmoothNet, batches, net
from resolute.noise.robustify import robustify

if TYPE_CHECKING:
    from collections.abc import Callable


def gradients(run: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, seed: int = 3) -> list[Tensor]:
    device = next(model.parameters()).device
    x, y = (t.to(device) for t in batches()[0])
    x.requires_grad_()  # the reentrant form wants a gradient at its input
    model.zero_grad()
    torch.manual_seed(seed)
    cross_entropy(run(model, x), y).backward()
    return [leaf.grad.clone() for leaf in [x, *model.parameters()] if leaf.grad is not None]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [SmoothNet, Net])
def test_gradients_are_those_without_checkpointing(kind: type[nn.Module], device: str, reentrant: bool) -> None:
    model = net(kind).to(device)

    def checkpointed(model: nn.Module, x: Tensor, **options: Any) -> Tensor:
        return checkpoint(model, x, use_reentrant=reentrant, **options)  # type: ignore[no-any-return]

    wanted = gradients(lambda model, x: model(x), model)
    assert same(gradients(checkpointed, model), wanted)
    assert not same(gradients(checkpointed, model, seed=4), wanted)
    assert not same(gradients(lambda m, x: checkpointed(m, x, preserve_rng_state=False), model), wanted)
    assert not same(gradients(lambda model, x: model(x), net(kind, eps=0).to(device)), wanted)


@pytest.mark.parametrize("reentrant", [True, False])
def test_segments_of_a_network(reentrant: bool) -> None:
    model = net()
    assert isinstance(model, Net)
    # Noise at the input of the network belongs to its forward, which is not called here.
    features, head = model.features, model.head

    def segments(_: nn.Module, x: Tensor) -> Tensor:
        return head(checkpoint_sequential(features, 3, x, use_reentrant=reentrant))  # type: ignore[no-any-return]

    assert same(gradients(segments, model), gradients(lambda _, x: head(features(x)), model))


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_of_timm(reentrant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm
    from timm.layers import config

    monkeypatch.setattr(config, "_USE_REENTRANT_CKPT", reentrant)
    model = robustify(timm.create_model("test_vit", num_classes=3, img_size=32), 0.3, where="both")
    x, y = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])

    def step(checkpointing: bool, seed: int = 3) -> list[Tensor]:
        model.set_grad_checkpointing(checkpointing)  # type: ignore[operator]
        model.zero_grad()
        torch.manual_seed(seed)
        cross_entropy(model(x), y).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    wanted = step(False)
    assert same(step(True), wanted)
    assert not same(step(True, seed=4), wanted)
