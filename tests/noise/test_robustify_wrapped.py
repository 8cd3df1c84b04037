"""Robust networks under PyTorch's other tools: compiled, distributed, sharded, exported, traced."""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]

from networks import small, strengths
from resolute.noise.robustify import is_robust, robustify, set_eps, unrobustify
from resolute.noise.sites import sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Net(nn.Module):
    """A root with a forward of its own: torch.compile treats a bare nn.Sequential in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("order", ["robustify first", "compile first", "compiled and called first", "compile in place"])
def test_compiled_networks_are_perturbed(order: str) -> None:
    model, x = Net(), torch.rand(6, 4)
    plain, run = model(x), cast("nn.Module", model)
    if order == "robustify first":
        robustify(model, where="both")
    if order == "compile in place":
        model.compile(fullgraph=True, backend="eager")
    else:
        run = cast("nn.Module", torch.compile(model, fullgraph=True, backend="eager"))
    if order == "compiled and called first":
        torch.testing.assert_close(run(x), plain)
    robustify(run, where="both")
    assert len([m for m in model.modules() if is_robust(m) and not list(m.children())]) == 2
    first, second = run(x), run(x)
    assert not torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert is_robust(pickle.loads(pickle.dumps(model)))
    torch.testing.assert_close(unrobustify(run)(x), plain)


@pytest.mark.usefixtures("compiler")
def test_a_schedule_of_eps_compiles_a_network_at_most_twice() -> None:
    graphs = []

    def backend(graph: fx.GraphModule, _: object) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    model = robustify(nn.Sequential(nn.Identity(), nn.ReLU()), eps=0.1, p=1.0)
    run = cast("nn.Module", torch.compile(model, fullgraph=True, backend=backend))
    for eps in (0.125, 0.25, 0.375, 0.5, 0.625, 0.75):
        set_eps(model, eps)
        assert strengths(run) == {eps}
    assert len(graphs) <= 2


@contextmanager
def single_process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("first", ["robustify", "wrap"])
def test_distributed_data_parallel_is_perturbed(first: str) -> None:
    x = torch.rand(6, 4)
    with single_process_group():
        if first == "robustify":
            model = nn.parallel.DistributedDataParallel(robustify(small(), where="both"))
        else:
            model = robustify(nn.parallel.DistributedDataParallel(small()), where="both")
        assert [site.name for site in sites(model, "both")] == ["module", "module.1", "module.3"]
        out = model(x)
        out.sum().backward()
        assert not torch.equal(out, model(x))
        assert type(unrobustify(model)) is nn.parallel.DistributedDataParallel
        assert not is_robust(model)


@pytest.mark.parametrize("first", ["robustify", "shard"])
def test_fully_sharded_networks_are_perturbed(first: str) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    x = torch.rand(6, 4)
    with single_process_group():
        model, mesh = small(), init_device_mesh("cpu", (1,))
        if first == "robustify":
            fully_shard(robustify(model, where="both"), mesh=mesh)
        else:
            fully_shard(model, mesh=mesh)
            robustify(model, where="both")
        out = model(x)
        out.sum().backward()
        assert not torch.equal(out, model(x))
        set_eps(model, 0)
        assert torch.equal(model(x), model(x))


def test_a_network_in_evaluation_mode_can_be_exported() -> None:
    model, x = robustify(small(), where="both").eval(), torch.rand(6, 4)
    assert torch.equal(torch.export.export(model, (x,)).module()(x), model(x))


def test_fx_traces_through_perturbed_activations() -> None:
    model, x = robustify(small()), torch.rand(6, 4)
    traced = fx.symbolic_trace(model)
    assert not torch.equal(traced(x), traced(x))
    assert torch.equal(traced.eval()(x), model.eval()(x))
