"""torch.compile: one graph, whichever comes first, whatever the batch size and eps; the noise is that of eager."""

from __future__ import annotations

import functools
import itertools
import shutil
import warnings
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._inductor.utils import run_and_get_code
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from frameworks.byhand import EPS, batches, net, sgd, state, train_by_hand
from resolute.noise.robustify import robustify, set_eps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = pytest.mark.usefixtures("compiler")


class Small(nn.Module):
    """One activation: each place of noise costs the compiler a second or more."""

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3), nn.Linear(64, 3)
        self.norm, self.act = nn.BatchNorm2d(4), nn.ReLU(inplace)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.norm(self.first(x))).flatten(1))  # type: ignore[no-any-return]


InPlace = functools.partial(Small, inplace=True)


def robust(kind: Callable[[], nn.Module] = Small, eps: float = EPS) -> nn.Module:
    return robustify(net(kind, eps=0), eps)


def compiled(model: nn.Module, backend: Any = "eager") -> nn.Module:
    return cast("nn.Module", torch.compile(model, fullgraph=True, backend=backend))


def robustify_first() -> nn.Module:
    return compiled(robust())


def compile_first() -> nn.Module:
    return robustify(compiled(net(Small, eps=0)), EPS)


def compile_and_call_first() -> nn.Module:
    model = compiled(net(Small, eps=0)).eval()
    model(batches()[0][0])
    return robustify(model.train(), EPS)


def compile_in_place() -> nn.Module:
    model = robust()
    model.compile(fullgraph=True, backend="eager")
    return model


def trained(model: nn.Module, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return state(train_by_hand(model, batches()))


def check_trained(actual: dict[str, Tensor], make: Callable[[], nn.Module]) -> None:
    """Compare weights of a compiled network, trained with seed 11, with eager mode: equal, and not for another seed."""
    torch.testing.assert_close(actual, trained(make(), 11), rtol=1e-3, atol=1e-4)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(actual, trained(make(), 12), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("build", [robustify_first, compile_first, compile_and_call_first, compile_in_place])
def test_trains_as_in_eager_mode_whichever_comes_first(build: Callable[[], nn.Module]) -> None:
    check_trained(trained(build(), 11), robust)


def test_trains_in_place_as_in_eager_mode_through_the_compiled_backward() -> None:
    check_trained(trained(compiled(robust(InPlace), "aot_eager"), 11), lambda: robust(InPlace))


def test_trains_in_channels_last_as_in_eager_mode() -> None:
    def last() -> nn.Module:
        return robust().to(memory_format=torch.channels_last)

    check_trained(trained(compiled(last(), "aot_eager"), 11), last)


def graphs(model: nn.Module, sizes: Sequence[int] = (8, 8, 3), eps: Sequence[float] = ()) -> int:
    """Count what is compiled while a network trains on batches of these sizes and, after each epoch, is evaluated."""
    counter = CompileCounterWithBackend("eager")
    run, optimizer = compiled(model, counter), sgd(model)
    strengths = itertools.cycle(eps)
    parts = [batches(n, n)[0] for n in sizes]
    for _ in range(3):
        run.train()
        for batch in parts:
            if eps:
                set_eps(model, next(strengths))
            train_by_hand(run, [batch], optimizer=optimizer)
        run.eval()
        for x, _y in parts:
            run(x)
    return int(counter.frame_count)


@pytest.mark.parametrize("sizes", [(8, 8, 3), (64, 3, 40)], ids=["smaller last", "all sizes"])
def test_no_more_is_compiled_than_for_the_plain_network(sizes: tuple[int, ...]) -> None:
    plain = graphs(net(Small, eps=0), sizes)
    torch._dynamo.reset()
    assert graphs(robust(), sizes) == plain


@pytest.mark.parametrize("kind", [Small, InPlace], ids=["new", "in place"])
def test_a_schedule_of_eps_compiles_nothing(kind: Callable[[], nn.Module]) -> None:
    """One graph to train and one to evaluate."""
    assert graphs(robust(kind), (8,), eps=(0.3, 0.1, 0.25, 0.2, 0.05, 0.0, 0.15)) == 2


def test_eps_acts_in_the_graph_that_is_there() -> None:
    model = robust()
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
    run, plain = compiled(robust()), compiled(net(Small, eps=0))
    x = batches()[0][0]
    for _ in range(2):
        assert not torch.equal(run.train()(x), run(x))
        plain.load_state_dict(run.state_dict())
        assert torch.equal(run.eval()(x), plain.eval()(x))


def test_a_whole_step_is_one_graph() -> None:
    model = robust()

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
@torch._inductor.config.patch(fallback_random=True)  # else Inductor draws other seeds than eager mode, as for Dropout
def test_inductor_trains_as_eager_mode_and_keeps_no_mask() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the compiler says of itself
        actual, (_, backward) = run_and_get_code(lambda: trained(compiled(robust(), "inductor"), 11))
    check_trained(actual, robust)
    kept = [line for line in backward.splitlines() if "rand_strided(" in line]
    assert sum("torch.bool" in line for line in kept) == 1, "the mask of the ReLU itself, and none of signs"
    seeds = [line for line in kept if "torch.int" in line]
    assert len(seeds) == 1
    assert "rand_strided((), ()" in seeds[0]
