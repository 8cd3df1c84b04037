from __future__ import annotations

import copy
import functools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.noise.perturb import Perturb, perturb
from resolute.noise.robustify import robustify
from resolute.noise.strength import calibrate, strength


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(4 * 36, 20),
        nn.ReLU(), nn.Linear(20, 5),
    )  # fmt: skip


def images(n: int = 24) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(5))


def test_of_one_layer_it_is_known() -> None:
    """Behind g, var between draws is eps^2 x^2, and between images var x."""
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(1)) + 2
    found = strength(nn.Sequential(nn.Identity()), x, eps=0.3, where="0", draws=20)
    wanted = 0.3 * float((x.square().mean() / x.var(0).mean()).sqrt())
    assert found.ratio == found.logits == pytest.approx(wanted, rel=0.02)
    assert found.places == {"0": pytest.approx(wanted, rel=0.02)}


def test_it_is_what_many_draws_written_out_give() -> None:
    model, x = network(), images()
    found = strength(model, x, eps=0.4, draws=60)
    conv, norm, _, _, _, first, _, last = copy.deepcopy(model).children()
    outs: list[torch.Tensor] = []
    places: list[torch.Tensor] = []
    with torch.no_grad():
        for _ in range(300):
            h = perturb(norm(conv(x)).relu(), 0.4)
            h2 = perturb(first(h.flatten(1)).relu(), 0.4)
            outs.append(last(h2))
            places.append(h2)
    for values, seen in ((outs, found.logits), (places, found.places["6"])):
        each = torch.stack(values)
        noise, signal = each.var(0).mean(), each.mean(0).var(0).mean() - each.var(0).mean() / 300
        assert seen == pytest.approx(float((noise / signal).sqrt()), rel=0.05)


def test_the_gradient_s_cosine_written_out() -> None:
    model, x, y = network(), images(), torch.arange(24) % 5
    found = strength(model, (x, y), eps=0.4, draws=100)
    twin = copy.deepcopy(model)
    twin[4].eval()

    def gradient() -> torch.Tensor:
        loss = F.cross_entropy(twin(x), y)
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(twin.parameters()))])

    plain = gradient()
    robustify(twin, 0.4)
    cosines = [float(F.cosine_similarity(plain, gradient(), 0)) for _ in range(100)]
    assert found.cosine == pytest.approx(sum(cosines) / 100, abs=0.02)
    assert strength(model, (x, y), eps=0.0).cosine == pytest.approx(1.0)


@pytest.mark.parametrize("grain", ["element", "channel", "sample", ("channel", 3)])
@pytest.mark.parametrize(("spread", "share"), [("fixed", 1.0), ("random", 1.0), ("fixed", 0.5)])
def test_of_a_form_it_is_what_robustify_draws(grain: Any, spread: Any, share: float) -> None:
    """At the logits, behind places whose channels lie along dimension 1, along the last, or where the grain says."""
    model, x = network()[:3].append(nn.Flatten()).append(nn.Linear(4 * 36, 5)), images()
    form = {"grain": grain, "spread": spread, "share": share}
    found = strength(model, x, eps=0.4, draws=200, **form)
    twin = robustify(copy.deepcopy(model), 0.4, **form)
    with torch.no_grad():
        each = torch.stack([twin(x) for _ in range(600)])
    noise = each.var(0).mean()
    signal = each.mean(0).var(0).mean() - noise / 600
    assert found.logits == pytest.approx(float((noise / signal).sqrt()), rel=0.08)


def test_forms_of_the_same_ratio_have_the_same_power() -> None:
    """At one place: a share keeps its root of the deviation, random strengths (uniform from 0 to eps) 1 / sqrt(3)."""
    model, x = network()[:3], torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    eps = calibrate(model, x, ratio=0.2)
    forms: list[tuple[dict[str, Any], float]] = [
        ({"grain": "channel"}, 1.0), ({"grain": "sample"}, 1.0), ({"spread": "random"}, 3**0.5), ({"share": 0.25}, 2.0),
    ]  # fmt: skip
    for form, factor in forms:
        assert calibrate(model, x, ratio=0.2, draws=40, **form) == pytest.approx(factor * eps, rel=0.04), form


def test_channels_that_are_nowhere_certain_are_not_guessed() -> None:
    model = nn.Sequential(nn.ReLU())
    with pytest.raises(InputError, match="where the channels are at '0' is not certain"):
        strength(model, torch.rand(8, 3, 4, 4), grain="channel")
    assert strength(model, torch.rand(8, 3, 4, 4), grain=("channel", 1)).ratio > 0


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed_and_it_is_the_same_each_time(training: bool) -> None:
    model = robustify(network(), 0.1, where="2").train(training)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    printed, modes = str(model), [module.training for module in model.modules()]
    first = strength(model, images(), eps=0.3, where="both")
    assert first == strength(model, images(), eps=0.3, where="both")
    assert calibrate(model, images()) == calibrate(model, images())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert (printed, modes) == (str(model), [module.training for module in model.modules()])
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_the_noise_that_a_network_carries_does_not_count() -> None:
    found = strength(robustify(network(), 0.9), images(), eps=0.3)
    assert found == strength(network(), images(), eps=0.3)
    by_hand = nn.Sequential(network(), Perturb(0.9))
    assert strength(by_hand, images(), eps=0.3).logits == found.logits


def test_frozen_statistics_stay_frozen() -> None:
    """With BatchNorm in evaluation mode the first layers' noise is that of the running statistics."""
    model = network().train()
    model[1].eval()
    model.get_buffer("1.running_var").fill_(100.0)
    frozen, own = strength(model, images(), eps=0.3), strength(network(), images(), eps=0.3)
    assert frozen.places["2"] != pytest.approx(own.places["2"], rel=0.01)


def test_a_module_that_is_called_twice_counts_by_its_worse_call() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(6, 6), relu, nn.Linear(6, 6), relu)
    assert set(strength(model, torch.rand(9, 6), eps=0.2).places) == {"1"}


@pytest.mark.parametrize("ratio", [0.02, 0.5, 0.9])
@pytest.mark.parametrize("where", ["hidden", "input", "both", "5:input"])
def test_calibrate_meets_the_ratio_at_half_of_the_places(ratio: float, where: str) -> None:
    eps = calibrate(network(), images(), ratio=ratio, where=where)
    found = strength(network(), images(), eps=eps, where=where)
    assert found.ratio == pytest.approx(ratio, rel=0.01)
    assert sorted(found.places.values())[len(found.places) // 2] == found.ratio
    assert eps == float(f"{eps:.3g}")


def test_what_cannot_be_reached_is_told() -> None:
    with pytest.warns(UserWarning, match=r"noise-to-signal 100.* is more than eps can give here: at eps 0.95"):
        assert calibrate(network(), images(), ratio=1e6) == 0.95
    with pytest.raises(InputError, match="all alike"):
        calibrate(network(), torch.ones(9, 1, 8, 8))
    with pytest.raises(InputError, match="all alike, or what the network makes of them is not finite"):
        calibrate(network(), images() * math.nan)
    with pytest.raises(InputError, match="no eps gives noise here: at p = 1"):
        calibrate(network(), images(), p=1.0)


def test_a_network_whose_forward_was_replaced_is_refused() -> None:
    """A copy of it would run the original, and move its statistics."""
    model, x = robustify(network(), 0.9), images()
    own = model.forward
    vars(model)["forward"] = functools.partial(own)
    with pytest.raises(InputError, match=r"'the model' \(Sequential\) has had its forward replaced"):
        strength(model, x)
    model(x)
    assert int(model.get_buffer("1.num_batches_tracked")) == 1


def test_places_that_are_not_passed_do_not_count() -> None:
    model = network()
    model.add_module("frozen", nn.Sequential(nn.ReLU()))
    model[2].eval()
    assert set(strength(model, images(), eps=0.1).places) == {"6", "frozen.0"}
    model[6].eval()
    model.get_submodule("frozen").eval()
    with pytest.raises(InputError, match=r"passes none of the 3 places of the noise, such as '2', in training mode"):
        calibrate(model, images())


def test_keyword_arguments_and_a_dataclass_of_logits() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, *, pixel_values: torch.Tensor) -> tuple[torch.Tensor, str]:
            return self.inner(pixel_values), "more"

    found = strength(Named(), {"pixel_values": images()}, eps=0.2)
    plain = strength(network(), images(), eps=0.2)
    assert (found.ratio, found.logits) == (plain.ratio, plain.logits)


@pytest.mark.parametrize(
    ("batch", "more", "said"),
    [
        (torch.rand(1, 1, 8, 8), {}, "1 images and 8 draws"),
        (torch.rand(4, 1, 8, 8), {"draws": 1}, "4 images and 1 draws"),
        ((1, 2, 3), {}, "a batch of type tuple"),
        (torch.rand(4, 1, 8, 8), {"eps": 1.0}, "eps"),
        (torch.rand(4, 1, 8, 8), {"where": "nothing"}, "nothing"),
    ],
)
def test_what_makes_no_sense_is_refused(batch: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        strength(network(), batch, **more)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.inf, math.nan, "much", True])
def test_a_ratio_is_a_positive_number(ratio: Any) -> None:
    with pytest.raises(InputError, match="positive number"):
        calibrate(network(), images(), ratio=ratio)
