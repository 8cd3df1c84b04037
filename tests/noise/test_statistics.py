"""BatchNorm's statistics without the noise: against torch's own estimation on a plain copy, and what must stay."""

from __future__ import annotations

import copy
from collections import UserDict
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.distributed import HashStore  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel
from torch.optim import swa_utils

from cases import as_float, tiny_images
from resolute.errors import InputError
from resolute.noise.baselines import gaussian
from resolute.noise.perturb import Perturb
from resolute.noise.robustify import attach, robustify, set_eps, unrobustify
from resolute.noise.sites import sites
from resolute.noise.statistics import update_bn
from resolute.training.loop import train
from training.watching import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = [torch.randn(8, 4, generator=torch.Generator().manual_seed(i)) + i for i in range(5)]


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(dropout), nn.Linear(6, 6), nn.BatchNorm1d(6),
        Perturb(0.5), nn.Linear(6, 3), nn.BatchNorm1d(3, momentum=0.3),
    )  # fmt: skip


def wanted() -> dict[str, Tensor]:
    """What torch's estimation gives a network without noise and dropout."""
    model = network()
    model[6] = nn.Identity()
    swa_utils.update_bn(BATCHES, model)
    return model.state_dict()


def same(model: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


NOISES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "none": lambda model: model,
    "hidden": lambda model: robustify(model, 0.5),
    "shifted": lambda model: robustify(model, 0.5, p=0.9, where="both"),
    "at BatchNorm itself": lambda model: robustify(model, 0.5, where=[nn.BatchNorm1d, "5:input"]),
    "gaussian": lambda model: attach(model, gaussian_of_half),
}


def gaussian_of_half(x: Tensor) -> Tensor:
    return gaussian(x, eps=0.5)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("training", [True, False])
def test_the_statistics_are_those_of_the_network_without_noise(kind: str, training: bool) -> None:
    model: Any = NOISES[kind](network(dropout=0.5)).train(training)
    for batch in BATCHES:
        model(batch)
    before, state = str(model), torch.get_rng_state()
    assert update_bn(model, BATCHES) is model
    assert torch.equal(torch.get_rng_state(), state)
    assert same(model, wanted())
    assert str(model) == before
    assert {module.training for module in model.modules()} == {training}
    assert [layer.momentum for layer in model if isinstance(layer, nn.BatchNorm1d)] == [0.1, 0.1, 0.3]
    if training and kind != "none":
        assert not torch.equal(model(BATCHES[0]), model(BATCHES[0]))


class Keyed(nn.Module):
    """Takes its images by name, as transformers' networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, pixels: Tensor, labels: Any = None) -> Tensor:
        return self.network(pixels)  # type: ignore[no-any-return]


def test_what_a_loader_may_give() -> None:
    for loader in ([(x, 1) for x in BATCHES], [[x] for x in BATCHES], iter(BATCHES)):
        assert same(update_bn(network(), loader, device="cpu"), wanted())
    for kind in (dict, UserDict):
        keyed = update_bn(Keyed(), [kind(pixels=x, labels=None) for x in BATCHES])
        assert same(keyed.network, wanted())
    assert same(update_bn(network(), [*BATCHES, BATCHES[0]], batches=5), wanted())
    never: Any = pytest.fail  # a network without BatchNorm does not ask for a batch
    update_bn(nn.Linear(4, 2), never)


@pytest.mark.parametrize(
    ("loader", "batches", "message"),
    [
        ([], None, "the loader gave no batch"),
        ([BATCHES[0], "x"], None, "the loader gave a str; wanted are tensors of images"),
        ([()], None, "the loader gave a tuple"),
        (BATCHES, 0, "batches is 0; it must be at least 1"),
    ],
)
def test_a_loader_of_no_use_leaves_all_as_it_was(loader: Any, batches: int | None, message: str) -> None:
    model: Any = robustify(network())
    model(BATCHES[0])
    before, shown = copy.deepcopy(model.state_dict()), str(model)
    with pytest.raises(InputError, match=message):
        update_bn(model, loader, batches=batches)
    assert same(model, before)
    assert str(model) == shown
    assert all(module.training for module in model.modules())
    assert model[1].momentum == 0.1
    with pytest.raises(InputError, match=r"the model is \[\]"):
        update_bn([], BATCHES)  # type: ignore[type-var]


class Aux(nn.Module):
    """A head that runs in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = network(), nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(x) if self.training else x


def test_layers_that_are_frozen_or_not_reached_or_keep_nothing_are_left_alone() -> None:
    model: Any = network()
    model[1].eval()
    model[5] = nn.BatchNorm1d(6, track_running_stats=False)
    update_bn(model, BATCHES)
    assert (model[1].num_batches_tracked, model[8].num_batches_tracked) == (0, 5)
    assert model[5].running_mean is None
    assert not model[1].training
    aux: Any = Aux()
    aux(BATCHES[0])
    mean = aux.head.running_mean.clone()
    update_bn(aux, BATCHES)
    assert torch.equal(aux.head.running_mean, mean)
    assert same(aux.body, wanted())


def test_it_works_on_batch_norm_with_an_activation_inside() -> None:
    from timm.layers.norm_act import BatchNormAct2d

    model = robustify(nn.Sequential(BatchNormAct2d(3), BatchNormAct2d(3)), 0.5)
    plain = unrobustify(copy.deepcopy(model))
    images = [torch.randn(4, 3, 5, 5) for _ in range(3)]
    update_bn(model, images)
    swa_utils.update_bn(images, plain)
    assert same(model, plain.state_dict())


@pytest.mark.usefixtures("compiler")
def test_a_compiled_network_is_run_as_it_is_and_compiled_no_further() -> None:
    graphs = CompileCounter()
    model: Any = robustify(network(), 0.5)
    compiled: Any = torch.compile(model, backend=graphs)
    model[1].momentum = 0.2
    compiled(BATCHES[0])
    count = graphs.frame_count
    assert update_bn(compiled, BATCHES) is compiled
    assert same(model, wanted())
    compiled(BATCHES[0])
    assert (graphs.frame_count, sites(model)[0].eps) == (count, 0.5)


@pytest.fixture
def one_process() -> Any:
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
def test_a_network_of_ddp_is_its_module() -> None:
    model = robustify(network(), 0.5)
    update_bn(DistributedDataParallel(model), BATCHES)
    assert same(model, wanted())


# What tells a loop of its own that it is wanted


TOLD = r"Sequential is evaluated with BatchNorm statistics that were learned .*resolute\.update_bn\(model, loader\)"


def trained(model: nn.Module) -> nn.Module:
    model.train()
    for batch in BATCHES:
        model(batch)
    return model.eval()


@pytest.mark.parametrize("kind", [kind for kind in NOISES if kind != "none"])
def test_the_first_evaluation_after_training_says_it_once(kind: str) -> None:
    model = NOISES[kind](network())
    model.eval()(BATCHES[0])
    with pytest.warns(UserWarning, match=TOLD):
        trained(model)(BATCHES[0])
    trained(model)(BATCHES[0])


def test_nothing_is_said_where_all_is_well() -> None:
    model = update_bn(trained(robustify(network(), 0.5)), BATCHES)
    model(BATCHES[0])
    with pytest.warns(UserWarning, match=TOLD):  # it was trained on
        trained(model)(BATCHES[0])
    behind = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    trained(robustify(behind))(BATCHES[0])
    outside = nn.Sequential(nn.Sequential(nn.BatchNorm1d(4), nn.ReLU()), nn.Linear(4, 2))
    trained(robustify(outside, where=lambda name, _: name == "0"))(BATCHES[0])
    nothing = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4, track_running_stats=False))
    trained(robustify(nothing))(BATCHES[0])
    silenced = trained(robustify(network(), 0.5))
    set_eps(silenced, 0)
    silenced(BATCHES[0])
    frozen = robustify(network(), 0.5).train()
    for layer in frozen:
        layer.train(not isinstance(layer, nn.BatchNorm1d))
    frozen(BATCHES[0])
    frozen.eval()(BATCHES[0])


@pytest.mark.usefixtures("compiler")
def test_a_compiled_network_says_it_too() -> None:
    compiled: Any = torch.compile(robustify(network(), 0.5), backend="aot_eager")
    with pytest.warns(UserWarning, match=TOLD):
        trained(compiled)(BATCHES[0])
    model = update_bn(trained(robustify(network(), 0.5)), BATCHES)
    torch.compile(model, backend="aot_eager")(BATCHES[0])


def test_the_loop_of_the_package_has_nothing_to_be_told() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(32, 3))
    images = tiny_images()
    train(model, images, method="r+fgsm", config=CONFIG, validation=images)
    model.eval()(as_float(images)[0])
