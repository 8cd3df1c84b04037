"""What every network must do: a new line in `CASES` is tested everywhere; and what `build` makes and refuses."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import BUILDS, FIRST_LOSS_OFF, LARGE
from resolute import models
from resolute.errors import InputError
from resolute.models import loss, zoo
from resolute.models import loss as losses
from resolute.models.capsnet import CapsNet
from resolute.models.condensenet import CondenseNet
from resolute.models.inception_cifar import InceptionCifar
from resolute.models.layers import Normalize
from resolute.models.lenet import LeNet
from resolute.models.resnet_sd import ResNetSD
from resolute.models.shufflenet_v1 import ShuffleNetV1
from resolute.models.wrn import WideResNet
from resolute.noise.robustify import robustify
from resolute.noise.sites import sites

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSES = 4


class Case(NamedTuple):
    """How to build a small member of a family for 4 classes, its images, its rectifiers, its first loss, lr of Adam.

    A large one takes seconds a test.
    """

    make: Callable[[], nn.Module]
    shape: tuple[int, int, int]
    rectifiers: int
    loss: float = math.log(CLASSES)
    lr: float = 2e-3
    spread: float = 0.6
    large: bool = False

    def batch(self, n: int = 8) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        return torch.rand(n, *self.shape, generator=generator), torch.arange(n) % CLASSES


def own(make: Callable[..., nn.Module], *sizes: int, shape: tuple[int, int, int], **settings: object) -> nn.Module:
    return nn.Sequential(make(*sizes, CLASSES, shape, **settings))


def built(name: str, shape: tuple[int, int, int]) -> nn.Module:
    return models.build(name, classes=CLASSES, shape=shape)


SMALL_CONDENSENET = {"layers": (2, 2), "growth": (8, 16)}
MARGIN = (0.5 * 0.9**2 + 3 * 0.25 * 0.0) / CLASSES
CASES = {
    "lenet": Case(partial(own, LeNet, shape=(1, 8, 8)), (1, 8, 8), 3),
    "lenet-caffe": Case(partial(own, LeNet, shape=(1, 8, 8), caffe=True), (1, 8, 8), 1),
    "capsnet": Case(partial(own, CapsNet, shape=(1, 18, 18)), (1, 18, 18), 1, MARGIN, 1e-3, 0.06),
    "capsnet-decoder": Case(
        partial(own, CapsNet, shape=(1, 18, 18), decoder=True), (1, 18, 18), 3, MARGIN + 0.0005 * 18**2 / 12, 1e-3, 0.06
    ),
    "resnet-sd": Case(partial(own, ResNetSD, 14, shape=(3, 16, 16)), (3, 16, 16), 13),
    "wrn-dropout": Case(partial(own, WideResNet, 10, 1, shape=(3, 16, 16), dropout=0.3), (3, 16, 16), 7),
    "inception-cifar": Case(partial(own, InceptionCifar, shape=(3, 17, 17)), (3, 17, 17), 94, lr=1e-3, large=True),
    "condensenet": Case(partial(own, CondenseNet, 4, shape=(3, 16, 16), **SMALL_CONDENSENET), (3, 16, 16), 9),
    "condensed": Case(
        partial(own, CondenseNet, 4, shape=(3, 16, 16), condensed=True, **SMALL_CONDENSENET), (3, 16, 16), 9
    ),
    "shufflenet": Case(partial(own, ShuffleNetV1, shape=(3, 32, 32), width=0.25), (3, 32, 32), 33),
    "mobilenet-v1": Case(partial(built, "mobilenet-v1", (3, 32, 32)), (3, 32, 32), 27, spread=9, large=True),
    "inception-v1": Case(partial(built, "inception-v1", (3, 48, 48)), (3, 48, 48), 57, large=True),
}
"""Small members of each family. timm starts MobileNet's classifier wide for few classes, hence its spread."""

every = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
small = {key: case for key, case in CASES.items() if not case.large}
every_small = pytest.mark.parametrize("case", small.values(), ids=small)
every_but_large = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case.large else [], id=key) for key, case in CASES.items()]
)


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    outputs = model(x)
    return loss.loss(model[0] if type(model) is nn.Sequential and len(model) == 1 else model, x, y, outputs), (
        loss.logits(outputs)
    )


def settled(case: Case) -> nn.Module:
    """A network whose BatchNorm has seen a batch, in evaluation mode."""
    model = case.make()
    with torch.no_grad():
        model(case.batch()[0])
    return model.eval()


@every
def test_it_starts_undecided_and_every_parameter_has_a_gradient(case: Case) -> None:
    model, (x, y) = case.make(), case.batch(16)
    loss, logits = loss_of(model, x, y)
    loss.backward()
    assert logits.shape == (16, CLASSES)
    assert loss.item() == pytest.approx(case.loss, abs=case.spread)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    moved = [bool((parameter.grad != 0).any()) for parameter in model.parameters()]  # type: ignore[union-attr]
    assert sum(moved) >= 0.6 * len(moved)


@every
def test_evaluation_is_a_function_of_each_image_alone(case: Case) -> None:
    model, (x, _) = settled(case), case.batch()
    with torch.no_grad():
        logits = model(x)
        assert torch.equal(logits, model(x))
        torch.testing.assert_close(model(x.flip(0)).flip(0), logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model(x[:1]), logits[:1], rtol=1e-3, atol=1e-4)
    assert bool((logits.std(0) > 0).any())


@every_but_large
def test_it_learns_one_batch_by_heart(case: Case) -> None:
    model, (x, y) = case.make(), case.batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=case.lr)
    first = None
    for _ in range(150):
        loss, logits = loss_of(model, x, y)
        first = first or loss.item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss.item() < 0.3 * first and torch.equal(logits.argmax(1), y):
            return
    pytest.fail(f"loss {first:.3f} came down to {loss.item():.3f} only, answers {logits.argmax(1).tolist()}")


@every_small
def test_its_state_makes_another_network_the_same(case: Case) -> None:
    model, (x, _) = settled(case), case.batch()
    again = case.make().eval()
    with torch.no_grad():
        assert not torch.equal(again(x), model(x))
        again.load_state_dict({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert torch.equal(again(x), model(x))
        assert torch.equal(copy.deepcopy(model)(x), model(x))


@pytest.mark.usefixtures("compiler")
@every_small
def test_its_graph_is_one_whole(case: Case) -> None:
    """Also in training mode, with the same dropout and the same dead blocks as without the compiler."""
    model, (x, _) = case.make(), case.batch(4)
    compiled = torch.compile(copy.deepcopy(model), backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.manual_seed(3)
        expected = model(x)
        torch.manual_seed(3)
        torch.testing.assert_close(compiled(x), expected)


@every
def test_noise_reaches_its_activations_in_training_only(case: Case) -> None:
    model, (x, _) = settled(case), case.batch()
    with torch.no_grad():
        before = model(x)
        assert len(sites(model)) == case.rectifiers
        robustify(model, eps=0.3)
        assert torch.equal(model(x), before)
        model.train()
        assert not torch.equal(loss.logits(model(x)), loss.logits(model(x)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is evaluated with BatchNorm statistics")
@pytest.mark.parametrize(
    ("name", "shape", "rectifiers"),
    [("inception-v3", (3, 75, 75), 94), ("nasnet-a-large", (3, 64, 64), 264), ("senet-154", (3, 64, 64), 103)],
)
def test_the_large_ones_train_and_answer(name: str, shape: tuple[int, int, int], rectifiers: int) -> None:
    """All that is asked of the small ones and fits in one build."""
    model = built(name, shape)
    x, y = torch.rand(2, *shape), torch.tensor([0, 3])
    assert len(sites(model)) == rectifiers
    loss, logits = loss_of(robustify(model, eps=0.1), x, y)
    loss.backward()
    assert logits.shape == (2, CLASSES)
    assert loss.item() == pytest.approx(math.log(CLASSES), abs=0.9)
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    with torch.no_grad():
        assert torch.equal(model.eval()(x), model(x))


def test_every_entry_has_a_case() -> None:
    assert BUILDS.keys() == models.MODELS.keys() - {"hf-hub:NAME"}, "which is built from what was fetched: test_zoo.py"


@pytest.mark.parametrize("key", [key for key in BUILDS if key not in LARGE])
def test_each_kind_builds_trains_and_starts_undecided(key: str) -> None:
    name, shape = BUILDS[key]
    model = models.build(name, classes=5, shape=shape)
    x, y = torch.rand(20, *shape), torch.arange(20) % 5
    assert all(module.training for module in model.modules())
    outputs = model(x)
    logits, loss = losses.logits(outputs), F.cross_entropy(losses.logits(outputs), y)
    losses.loss(model, x, y, outputs).backward()
    assert logits.shape == (20, 5)
    assert logits.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(5), abs=FIRST_LOSS_OFF.get(key, 0.6))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("key", [key for key in BUILDS if key not in LARGE])
def test_layer_0_is_the_normalisation_of_the_data(key: str) -> None:
    name, shape = BUILDS[key]
    mean, std = [0.1, 0.4, 0.6][: shape[0]], [0.3, 0.2, 0.5][: shape[0]]
    model = models.build(name, classes=3, shape=shape, mean=mean, std=std)
    assert isinstance(model, nn.Sequential)
    first, network = model
    assert isinstance(first, Normalize)
    x = torch.rand(2, *shape)
    by_hand = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(shape[0])], 1)
    model.eval()
    torch.testing.assert_close(model(x), network(by_hand))


def test_without_moments_a_network_brings_its_own() -> None:
    def moments(name: str, shape: tuple[int, int, int]) -> tuple[list[float], list[float]]:
        normalize = models.build(name, classes=2, shape=shape)[0]  # type: ignore[index]
        return normalize.mean.flatten().tolist(), normalize.std.flatten().tolist()

    assert moments("lenet", (1, 8, 8)) == ([0.5], [0.5])
    for name in ("torchvision/resnet18", "timm/resnet18"):
        mean, std = moments(name, (3, 32, 32))
        assert mean == pytest.approx(zoo.IMAGENET_STATISTICS[0])
        assert std == pytest.approx(zoo.IMAGENET_STATISTICS[1])
    mean, std = moments("timm/resnet18", (1, 32, 32))
    assert mean == pytest.approx([0.449])
    assert std == pytest.approx([0.226])


def test_without_a_shape_the_customary_one_is_taken() -> None:
    assert models.build("lenet", classes=2)(torch.rand(1, 1, 28, 28)).shape == (1, 2)
    assert models.build("wrn-10-1", classes=2)(torch.rand(2, 3, 32, 32)).shape == (2, 2)


def test_weights_follow_torch_s_seed() -> None:
    def build(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return list(models.build("wrn-10-1", classes=2, shape=(1, 8, 8)).parameters())

    assert all(torch.equal(a, b) for a, b in zip(build(1), build(1), strict=True))
    assert not torch.equal(build(1)[0], build(2)[0])


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lennet", None, "unknown model 'lennet': did you mean 'lenet'"),
        ("wrn-16", None, "unknown model 'wrn-16': did you mean 'wrn-16-2'"),
        ("nasnet-b", None, "nasnet-b is not built: the operations of its cell are in Figure 8"),
        ("resnet111-sd", None, "unknown model 'resnet111-sd': did you mean 'resnet110-sd'"),
        ("wrn-16-8-drop", None, "unknown model 'wrn-16-8-drop'"),
        ("wrn-16-8-drop100", None, "wrn-16-8: the dropout is 1.0; it must be at least 0 and below 1"),
        ("capsnet", (1, 17, 28), "capsnet got images of 17x28 pixels; it needs at least 18 a side"),
        ("inception-v3-cifar", (3, 32, 16), "inception-v3-cifar got images of 32x16 pixels; it needs at least 17"),
        ("inception-v3", (3, 32, 32), "cannot build timm/inception_v3 for images of 32x32 pixels"),
        ("wrn-17-2", None, "wrn-17-2: the depth must be 6n \\+ 4"),
        ("wrn-4-2", None, "wrn-4-2: the depth must be 6n \\+ 4"),
        ("wrn-16-0", None, "the width >= 1"),
        ("timm/resnett18", None, "unknown timm model 'resnett18': did you mean 'resnet18'"),
        ("torchvision/resnet_18", None, "unknown torchvision model 'resnet_18': did you mean 'resnet18'"),
        ("torchvision/maskrcnn_resnet50_fpn", None, "unknown torchvision model"),
        ("torchvision/resnet18", (1, 32, 32), "takes 3 channels; these images have 1. Use timm/ or wrn-D-K"),
        (
            "torchvision/alexnet",
            (3, 32, 32),
            "cannot build torchvision/alexnet for images of 32x32 pixels: .*too small",
        ),
        ("timm/test_vit", (3, 30, 30), "cannot build timm/test_vit for images of 30x30 pixels: .*divisible"),
        ("lenet", (1, 3, 28), "lenet got images of 3x28 pixels; it needs at least 4 a side"),
    ],
)
def test_what_cannot_be_built_is_refused(name: str, shape: tuple[int, int, int] | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.build(name, classes=10, shape=shape)


@pytest.mark.parametrize("name", ["lenet", "wrn-16-8", "wrn-16-8-drop40", "capsnet", "condensenet-g8"])
def test_pretrained_weights_that_do_not_exist_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no published weights"):
        models.build(name, classes=10, pretrained=True)


@pytest.mark.parametrize("classes", [-1, 0, 1])
def test_a_classifier_has_two_classes(classes: int) -> None:
    with pytest.raises(InputError, match=f"needs at least 2 classes; got {classes}"):
        models.build("lenet", classes=classes)


def test_a_network_with_a_second_classifier_trains_with_one() -> None:
    model = models.build("torchvision/googlenet", classes=3, shape=(3, 32, 32))
    logits = model(torch.rand(2, 3, 32, 32))
    assert model.training
    assert logits.shape == (2, 3)
