"""torch.compile: one graph, whichever comes first, whatever the batch size and eps; the noise is that of eager."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from frameworks.byhand import EPS, Net, SmoothNet, batches, net, sgd, state, train_by_hand
from resolute.surgery import robustify, set_eps

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("compiler")


def compiled(model: nn.Module, backend: Any = "aot_eager") -> nn.Module:
    return cast("nn.Module", torch.compile(model, fullgraph=True, backend=backend))


def robustify_first() -> nn.Module:
    return compiled(net())


def compile_first() -> nn.Module:
    return robustify(compiled(net(eps=0)), EPS, where="both")


def compile_and_call_first() -> nn.Module:
    model = compiled(net(eps=0)).eval()
    model(batches()[0][0])
    return robustify(model.train(), EPS, where="both")


def compile_in_place() -> nn.Module:
    model = net()
    model.compile(fullgraph=True, backend="aot_eager")
    return model


@pytest.mark.parametrize("build", [robustify_first, compile_first, compile_and_call_first, compile_in_place])
def test_trains_as_in_eager_mode(build: Callable[[], nn.Module]) -> None:
    trained = []
    for model, seed in ((net(), 11), (build(), 11), (net(), 12)):
        torch.manual_seed(seed)
        trained.append(state(train_by_hand(model, batches())))
    wanted, actual, other = trained
    torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(actual, other, rtol=1e-4, atol=1e-5)


def graphs(model: nn.Module, eps: list[float] | None = None, sizes: tuple[int, ...] = (8, 8, 8, 3), epochs: int = 2) -> int:
    """Count what is compiled while a network trains, with a smaller last batch, and is evaluated after each epoch."""
    counter = CompileCounterWithBackend("aot_eager")
    run, optimizer = compiled(model, counter), sgd(model)
    x, y = torch.randn(sum(sizes), 3, 6, 6), torch.arange(sum(sizes)) % 3
    for epoch in range(epochs):
        run.train()
        for step, (part, labels) in enumerate(zip(x.split(list(sizes)), y.split(list(sizes)), strict=True)):
            if eps:
                set_eps(model, eps[(len(sizes) * epoch + step) % len(eps)])
            train_by_hand(run, [(part, labels)], optimizer=optimizer)
        run.eval()
        with torch.no_grad():
            for part in x.split(list(sizes)):
                run(part)
    return cast("int", counter.frame_count)


@pytest.mark.parametrize("kind", [Net, SmoothNet])
def test_no_more_is_compiled_than_for_the_plain_network(kind: type[nn.Module]) -> None:
    plain = graphs(net(kind, eps=0))
    torch._dynamo.reset()
    assert graphs(net(kind)) == plain


@pytest.mark.parametrize("kind", [Net, SmoothNet])
def test_a_schedule_of_eps_compiles_nothing(kind: type[nn.Module]) -> None:
    still = graphs(net(kind), sizes=(8, 8, 8))
    torch._dynamo.reset()
    assert graphs(net(kind), eps=[0.3, 0.1, 0.25, 0.2, 0.05, 0.0, 0.15], sizes=(8, 8, 8), epochs=3) == still


def test_eps_acts_in_the_graph_that_is_there() -> None:
    model = net(SmoothNet)
    run = compiled(model)
    x = batches()[0][0]
    for eps in (0.3, 0.1, 0.0, 0.2):
        set_eps(model, eps)
        outs = []
        for forward in (run, model):
            torch.manual_seed(2)
            outs.append(forward(x))
        torch.testing.assert_close(*outs)
        assert torch.equal(outs[1], run(x)) == (eps == 0)


def test_evaluation_mode_is_the_plain_network() -> None:
    run, plain = compiled(net()), compiled(net(eps=0))
    x = batches()[0][0]
    for _ in range(2):
        assert not torch.equal(run.train()(x), run(x))
        plain.load_state_dict(run.state_dict())
        assert torch.equal(run.eval()(x), plain.eval()(x))


def test_a_whole_step_is_one_graph() -> None:
    model = net(SmoothNet)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return cross_entropy(checkpoint(model, x, use_reentrant=False), y)

    results = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        torch.manual_seed(4)
        function(*batches()[0]).backward()
        results.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*results, rtol=2e-2, atol=2e-3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor compiles C++")
def test_inductor_trains_as_eager_mode() -> None:
    trained = []
    for build, seed in ((net, 11), (lambda: compiled(net(), "inductor"), 11), (net, 12)):
        model = build()
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler says of itself
            trained.append(state(train_by_hand(model, batches())))
    wanted, actual, other = trained
    torch.testing.assert_close(actual, wanted, rtol=1e-3, atol=1e-4)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(actual, other, rtol=1e-3, atol=1e-4)
