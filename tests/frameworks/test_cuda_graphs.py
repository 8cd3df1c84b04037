"""CUDA graphs: each replay draws new noise, from the generator that manual_seed seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
import torch
from torch.nn.functional import cross_entropy

from frameworks.byhand import SmoothNet, batches, needs_gpu, net

if TYPE_CHECKING:
    from torch import Tensor, nn

pytestmark = needs_gpu


def warm_up(model: nn.Module, x: Tensor) -> None:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model(x).sum().backward()
    torch.cuda.current_stream().wait_stream(stream)


def test_replays_draw_new_noise_and_a_seed_repeats_them() -> None:
    model, graph = net(SmoothNet).cuda(), torch.cuda.CUDAGraph()
    x, y = (t.cuda() for t in batches()[0])
    warm_up(model, x)
    model.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        loss = cross_entropy(model(x), y)
        loss.backward()

    def replays(seed: int) -> list[float]:
        torch.cuda.manual_seed(seed)
        losses = []
        for _ in range(4):
            graph.replay()
            losses.append(loss.item())
        return losses

    first = replays(3)
    assert len(set(first)) == 4
    assert replays(3) == first
    assert replays(4) != first


def test_a_replay_has_the_gradients_of_its_own_noise() -> None:
    """The signs of backward are those of forward, also in a replay: the loss and its gradients fit eager mode."""
    model = net(SmoothNet).cuda()
    x, y = (t.cuda() for t in batches()[0])
    graphed = cast("nn.Module", torch.cuda.make_graphed_callables(net(SmoothNet).cuda(), (x,)))
    for run in (model, graphed):
        torch.cuda.manual_seed(5)
        cross_entropy(run(x), y).backward()
    wanted = [p.grad for p in model.parameters()]
    torch.testing.assert_close([p.grad for p in graphed.parameters()], wanted)


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_compiled_with_reduced_overhead_draws_new_noise() -> None:
    run = torch.compile(net(SmoothNet).cuda(), mode="reduce-overhead")
    x = batches()[0][0].cuda()
    outs = [run(x).clone() for _ in range(5)]
    assert len(torch.stack(outs).unique(dim=0)) == 5
