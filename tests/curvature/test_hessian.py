from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from resolute import models
from resolute.curvature.hessian import Hessian, cross_entropy
from resolute.errors import InputError
from resolute.models import loss
from resolute.noise.robustify import is_robust, robustify

if TYPE_CHECKING:
    from collections.abc import Callable

Batches = list[tuple[Tensor, Tensor]]


def worst(found: Tensor, true: Tensor) -> float:
    return float((found - true).norm() / true.norm())


def test_products_are_those_of_the_dense_hessian(network: nn.Module, batches: Batches, matrix: Tensor) -> None:
    v = torch.randn(3, len(matrix), dtype=torch.float64)
    hessian = Hessian(network, cross_entropy, batches)
    assert hessian.size == len(matrix)
    assert worst(hessian(v), v @ matrix) < 1e-12
    assert worst(hessian(v[1]), matrix @ v[1]) < 1e-12


def test_the_micro_batch_size_does_not_matter(network: nn.Module, batches: Batches) -> None:
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    v = torch.randn(Hessian(network, cross_entropy, batches).size, dtype=torch.float64)
    products = [
        Hessian(network, cross_entropy, list(zip(x.split(size), y.split(size), strict=True)))(v) for size in (1, 7, 40)
    ]
    assert worst(products[0], products[2]) < 1e-13
    assert worst(products[1], products[2]) < 1e-13


def test_float32_is_as_near_as_float32_can_be(network: nn.Module, batches: Batches, matrix: Tensor) -> None:
    v = torch.randn(len(matrix), dtype=torch.float64)
    found = Hessian(copy.deepcopy(network).float(), cross_entropy, batches)(v.float())
    assert found.dtype == torch.float32
    assert worst(found.double(), matrix @ v) < 1e-5


@pytest.mark.filterwarnings("ignore::FutureWarning")  # it imports what uses torch.jit.script
def test_products_agree_with_curvlinops(network: nn.Module, batches: Batches) -> None:
    import curvlinops

    parameters = [p for p in network.parameters() if p.requires_grad]
    theirs = curvlinops.HessianLinearOperator(network, nn.CrossEntropyLoss(), parameters, batches)
    v = torch.randn(Hessian(network, cross_entropy, batches).size, dtype=torch.float64)
    assert worst(Hessian(network, cross_entropy, batches)(v), theirs @ v) < 1e-12


def test_quotients_of_the_micro_batches_average_to_that_of_all(
    network: nn.Module, batches: Batches, dense: Callable[..., Tensor], matrix: Tensor
) -> None:
    v = torch.randn(len(matrix), dtype=torch.float64)
    values, counts = Hessian(network, cross_entropy, batches).quotients(v)
    assert counts.tolist() == [12, 12, 12, 4]
    assert float(values[3]) == pytest.approx(float(v @ dense(network, batches[3:]) @ v / (v @ v)), rel=1e-10)
    assert float((values * counts).sum() / 40) == pytest.approx(float(v @ matrix @ v / (v @ v)), rel=1e-12)


def noisy_network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    return robustify(nn.Sequential(*layers).double(), 0.4)


def test_the_noise_is_the_mean_of_its_draws_and_leaves_the_generator_alone() -> None:
    model = noisy_network().train()
    data = [(torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1]))]
    v = torch.randn(Hessian(model, cross_entropy, data).size, dtype=torch.float64)
    state = torch.get_rng_state()
    quiet = Hessian(model, cross_entropy, data)(v)
    loud = Hessian(model, cross_entropy, data, draws=3)
    assert torch.equal(loud(v), loud(v))
    w = torch.randn_like(v)
    assert float(w @ loud(v)) == pytest.approx(float(v @ loud(w)), rel=1e-10)
    assert worst(loud(v), quiet) > 1e-3
    assert worst(Hessian(model, cross_entropy, data, draws=3, seed=1)(v), loud(v)) > 1e-3
    many = [Hessian(model, cross_entropy, data, draws=1, seed=seed)(v) for seed in range(2)]
    assert worst(many[0], many[1]) > 1e-3
    torch.set_rng_state(state)
    Hessian(model, cross_entropy, data, draws=2)(v)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())


def test_nothing_but_the_noise_is_in_training_mode() -> None:
    model = noisy_network()
    seen: dict[str, bool] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda module, _, __, name=name: seen.update({name: module.training}))
    data = [(torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.zeros(5, dtype=torch.int64))]
    mean = model.get_buffer("2.running_mean").clone()
    hessian = Hessian(model, cross_entropy, data, draws=1)
    hessian(torch.zeros(hessian.size, dtype=torch.float64))
    assert [name for name, training in seen.items() if training] == ["3"]
    assert torch.equal(model.get_buffer("2.running_mean"), mean)


def test_a_loss_that_is_linear_in_a_parameter_has_a_zero_block_there() -> None:
    model = nn.Linear(3, 1).double()
    data = [(torch.randn(4, 3, dtype=torch.float64), torch.zeros(4))]
    assert (
        Hessian(model, lambda model, x, _: model(x).mean(), data)(torch.ones(4, dtype=torch.float64)).tolist()
        == [0] * 4
    )


def test_the_loss_is_that_of_training() -> None:
    x, y = torch.rand(3, 1, 8, 8), torch.tensor([1, 2, 3])
    for name in ("lenet", "capsnet"):
        shape = (1, 28, 28) if name == "capsnet" else (1, 8, 8)
        model = models.build(name, classes=10, shape=shape).eval()
        images = torch.rand(3, *shape) if name == "capsnet" else x
        assert torch.equal(cross_entropy(model, images, y), loss.loss(model, images, y, model(images)))


def test_attention_can_be_differentiated_twice() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(4, 12)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.project(x.flatten(2)).chunk(3, -1)
            return nn.functional.scaled_dot_product_attention(q, k, v).mean(1)

    model = Attention()
    hessian = Hessian(model, cross_entropy, [(torch.rand(2, 3, 2, 2), torch.tensor([0, 1]))])
    v = torch.randn(hessian.size)
    before = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
    assert float(hessian(v).norm()) > 0
    assert torch.equal(before, torch.cat([p.detach().reshape(-1) for p in model.parameters()]))


def test_batches_are_counted_for_progress(network: nn.Module, batches: Batches) -> None:
    told: list[int] = []
    hessian = Hessian(network, cross_entropy, batches, on_batch=told.append)
    hessian(torch.zeros(2, hessian.size, dtype=torch.float64))
    assert told == [24, 24, 24, 8]


def test_what_cannot_be_measured_is_refused(network: nn.Module, batches: Batches) -> None:
    v = torch.zeros(Hessian(network, cross_entropy, batches).size, dtype=torch.float64)
    assert not is_robust(network)
    with pytest.raises(InputError, match="carries none"):
        Hessian(network, cross_entropy, batches, draws=1)(v)
    with pytest.raises(InputError, match="only once"):
        Hessian(network, cross_entropy, iter(batches))(v)
    with pytest.raises(InputError, match="no batches"):
        Hessian(network, cross_entropy, [])(v)
    with pytest.raises(InputError, match="vectors of 3"):
        Hessian(network, cross_entropy, batches)(v[:3])
    with pytest.raises(InputError, match="draws is -1"):
        Hessian(network, cross_entropy, batches, draws=-1)
    with pytest.raises(InputError, match="no parameter"):
        Hessian(nn.ReLU(), cross_entropy, batches)
