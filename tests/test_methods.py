from __future__ import annotations

import dataclasses
import pickle
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cases import as_float, tiny_images, tiny_network
from resolute import attacks, config, methods
from resolute.config import Settings
from resolute.errors import InputError
from resolute.methods import METHODS, Method
from resolute.noise import signs
from resolute.noise.robustify import robustify
from resolute.noise.sites import sites

NAMES = [*METHODS, "r+fgsm", "dropout+fgsm"]
NOISES = ["r", "gaussian", "additive", "dropout"]
SETTINGS = Settings(eps=0.3, radius=0.05)


def test_every_name_is_that_of_its_method() -> None:
    assert [method.name for method in METHODS.values()] == list(METHODS)
    assert [method.name for method in map(methods.find_method, NAMES)] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_method_trains(name: str) -> None:
    method, (x, y) = methods.find_method(name), as_float(tiny_images())
    model = method.prepare(tiny_network(), SETTINGS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        inputs, targets = method.perturb_batch(model, x, y, SETTINGS)
        loss = F.cross_entropy(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert inputs.shape[1:] == x.shape[1:]
    assert len(inputs) == len(targets)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", NAMES)
def test_passes_count_the_images_that_a_step_shows(name: str) -> None:
    method, (x, y) = methods.find_method(name), as_float(tiny_images())
    model = method.prepare(tiny_network(), SETTINGS)
    shown = []
    model.register_forward_hook(lambda _module, args, _out: shown.append(len(args[0])))
    model(method.perturb_batch(model, x, y, SETTINGS)[0])
    assert sum(shown) == method.passes * len(x)


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_is_that_of_the_plain_network(name: str) -> None:
    x, _ = as_float(tiny_images())
    model = methods.find_method(name).prepare(tiny_network(), SETTINGS)
    assert torch.equal(model.eval()(x), tiny_network().eval()(x))


@pytest.mark.parametrize("name", NOISES)
def test_noise_acts_where_it_is_told_to_and_nowhere_else(name: str) -> None:
    x, _ = as_float(tiny_images())
    plain = tiny_network()
    outputs: dict[str, Tensor] = {}
    settings = Settings(eps=0.3, where="3")
    model = METHODS[name].prepare(tiny_network(), settings)
    assert sites(model, settings.where) == sites(model, "hidden")
    for index, layer in model.named_children():
        layer.register_forward_hook(lambda _module, _args, out, index=index: outputs.update({index: out}))
    noisy = model(x)
    assert torch.equal(outputs["2"], plain[:3](x))
    assert not torch.equal(outputs["3"], plain[:4](x))
    assert torch.equal(noisy, plain[5](outputs["3"]))


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_r_is_robustify(p: float) -> None:
    settings = Settings(eps=0.2, p=p, where=nn.Linear)
    (x, _), model = as_float(tiny_images()), METHODS["r"].prepare(tiny_network(), settings)
    torch.manual_seed(1)
    ours = model(x)
    torch.manual_seed(1)
    assert torch.equal(ours, robustify(tiny_network(), 0.2, p, nn.Linear)(x))


def test_fgsm_trains_on_the_clean_batch_and_its_attacked_copy() -> None:
    model, (x, y) = tiny_network(dropout=0.5), as_float(tiny_images())
    inputs, targets = METHODS["fgsm"].perturb_batch(model, x, y, SETTINGS)
    clean, attacked = inputs.chunk(2)
    assert torch.equal(clean, x)
    assert torch.equal(attacked, attacks.fgsm(model, x, y, 0.05))
    assert torch.equal(targets, torch.cat([y, y]))
    model.eval()
    halves = (F.cross_entropy(model(x), y) + F.cross_entropy(model(attacked), y)) / 2
    torch.testing.assert_close(F.cross_entropy(model(inputs), targets), halves)


def test_fgsm_examples_are_crafted_anew_against_the_weights_of_the_step() -> None:
    model, (x, y) = tiny_network(), as_float(tiny_images())
    before = METHODS["fgsm"].perturb_batch(model, x, y, SETTINGS)[0]
    with torch.no_grad():
        model[5].weight.neg_()  # type: ignore[operator]
    after = METHODS["fgsm"].perturb_batch(model, x, y, SETTINGS)[0]
    assert not torch.equal(before, after)


def test_several_act_in_turn() -> None:
    method, (x, y) = methods.find_method("r+fgsm"), as_float(tiny_images())
    model = method.prepare(tiny_network(), SETTINGS)
    assert sites(model) == sites(robustify(tiny_network(), SETTINGS.eps))
    inputs, _ = method.perturb_batch(model, x, y, SETTINGS)
    plain = METHODS["fgsm"].perturb_batch(tiny_network(), x, y, SETTINGS)[0]
    assert torch.equal(inputs, plain)
    assert method.about == f"{METHODS['r'].about}, and {METHODS['fgsm'].about}"


@pytest.mark.parametrize("name", NAMES)
def test_methods_travel_to_other_processes(name: str) -> None:
    method: Method = pickle.loads(pickle.dumps(methods.find_method(name)))
    assert method.name == name
    model: nn.Module = pickle.loads(pickle.dumps(method.prepare(tiny_network(), SETTINGS)))
    torch.manual_seed(1)
    ours = model(as_float(tiny_images())[0])
    torch.manual_seed(1)
    assert torch.equal(ours, methods.find_method(name).prepare(tiny_network(), SETTINGS)(as_float(tiny_images())[0]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fsgm", "unknown method 'fsgm': did you mean 'fgsm'"),
        ("R", "unknown method 'R': did you mean 'r'"),
        ("r+", "unknown method ''"),
        ("r+xyzzy", "unknown method 'xyzzy': there are: additive, base, dropout, fgsm, gaussian, pgd, r"),
        ("r+gaussian", "method 'r\\+gaussian': .* one of them may put noise"),
        ("fgsm+fgsm", "method 'fgsm\\+fgsm': each may stand there once"),
    ],
)
def test_what_is_no_method_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        methods.find_method(name)


def test_fgsm_without_a_radius_is_refused() -> None:
    x, y = as_float(tiny_images())
    with pytest.raises(InputError, match="needs a radius"):
        METHODS["fgsm"].perturb_batch(tiny_network(), x, y, Settings())


def test_pgd_trains_on_attacked_images_alone() -> None:
    """Seven steps of a quarter of the radius from a random start, written out."""
    model, (x, y) = tiny_network(), as_float(tiny_images())
    torch.manual_seed(2)
    shown, labels = METHODS["pgd"].perturb_batch(model, x, y, SETTINGS)
    torch.manual_seed(2)
    by_hand = (x + torch.empty_like(x).uniform_(-0.05, 0.05)).clamp(0, 1)
    model.eval()
    for _ in range(7):
        by_hand.requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(by_hand), y, reduction="sum"), by_hand)
        by_hand = (by_hand.detach() + 0.0125 * grad.sign()).clamp(x - 0.05, x + 0.05).clamp(0, 1)
    torch.testing.assert_close(shown, by_hand, atol=1e-6, rtol=0)
    assert torch.equal(labels, y)


VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "r@eps=0.5@where=both": ("r", {"eps": 0.5, "where": "both"}),
    "r@p=0.9": ("r", {"p": 0.9}),
    "gaussian@where=input": ("gaussian", {"where": "input"}),
    "fgsm@radius=0.2": ("fgsm", {"radius": 0.2}),
    "r+fgsm@eps=0.2@radius=0.1": ("r+fgsm", {"eps": 0.2, "radius": 0.1}),
    "r@where=[0-4]:input": ("r", {"where": "[0-4]:input"}),
    "r@grain=channel@spread=random@share=0.5": ("r", {"grain": "channel", "spread": "random", "share": 0.5}),
    "r@where=layers@grain=sample": ("r", {"where": "layers", "grain": "sample"}),
    "gaussian@eps=0.4@where=layers": ("gaussian", {"eps": 0.4, "where": "layers"}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_its_method_with_settings_of_its_own(name: str) -> None:
    plain, changes = VARIANTS[name]
    x, y = as_float(tiny_images())

    def outcome(method: Method, settings: Settings) -> Tensor:
        torch.manual_seed(1)
        model = method.prepare(tiny_network(), settings).train()
        out: Tensor = model(method.perturb_batch(model, x, y, settings)[0])
        return out

    variant = pickle.loads(pickle.dumps(methods.find_method(name)))
    assert (variant.name, variant.passes) == (name, methods.find_method(plain).passes)
    own = outcome(variant, SETTINGS)
    assert torch.equal(own, outcome(methods.find_method(plain), dataclasses.replace(SETTINGS, **changes)))
    assert not torch.equal(own, outcome(methods.find_method(plain), SETTINGS))
    assert methods.settings_of(name, SETTINGS) == dataclasses.replace(SETTINGS, **changes)


def test_forms_are_named_as_perturb_names_them() -> None:
    assert (get_args(config.Grain), get_args(config.Spread)) == (get_args(signs.Grain), get_args(signs.Spread))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("r@strength=1", "after each @ stands one of eps, ratio, where, p, grain, spread, share, radius"),
        ("r@0.3", "after each @ stands one of"),
        ("r@eps=0.1@eps=0.2", "each once"),
        ("fgsm@radius=8/0", "radius is '8/0'"),
        ("base@eps=0.1", "base has no eps. Leave @eps=0.1 out"),
        ("r@radius=0.1", "r has no radius"),
        ("gaussian+fgsm@p=0.3", "gaussian\\+fgsm has no p"),
        ("gaussian@grain=channel", "gaussian has no grain. Leave @grain=channel out"),
        ("dropout@spread=random", "dropout has no spread"),
        ("additive@share=0.5", "additive has no share"),
        ("fgsm@grain=sample", "fgsm has no grain"),
        ("r@grain=pixel", "grain is 'pixel'; it must be one of element, channel, sample"),
        ("r@share=1.5", "share is 1.5; it must be from 0 to 1"),
        ("r@eps=much", "'much' is no number"),
        ("r@eps=1.5", "eps is 1.5; it must be at least 0 and below 1"),
        ("s@eps=0.1", "unknown method 's'"),
        ("r@eps=0.1@ratio=0.5", "a ratio is what eps auto is chosen by. Leave @eps or @ratio out"),
        ("r@ratio=auto", "'auto' is no number"),
        ("r@ratio=-1", "ratio is -1.0; it must be above 0"),
        ("fgsm@ratio=1", "fgsm has no ratio"),
        ("@eps=0.1", "unknown method ''"),
    ],
)
def test_a_variant_that_cannot_be_read_is_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        methods.find_method(name)


@pytest.mark.parametrize(
    ("names", "one"),
    [
        (["r@eps=0.1", "r@eps=0.10", "r@eps=1e-1", "r@eps=.1"], "r@eps=0.1"),
        (["r@eps=0.2@where=both@p=0.4", "r@p=0.40@where=both@eps=.2"], "r@eps=0.2@where=both@p=0.4"),
        (["fgsm@radius=8/255", f"fgsm@radius={8 / 255}"], "fgsm@radius=0.03137254901960784"),
        (["r+fgsm", "fgsm+r", "base+fgsm+r"], "r+fgsm"),
        (["r@eps=0", "r@eps=0.0", "r@eps=0e3"], "r@eps=0"),
        (["r@p=1", "r@p=1.0"], "r@p=1"),
        (["r@share=.5@grain=channel", "r@grain=channel@share=0.50"], "r@grain=channel@share=0.5"),
        (["r@ratio=0.50", "r@eps=auto@ratio=.5", "r@ratio=0.5@eps=auto"], "r@ratio=0.5"),
        (["r@where=both@eps=auto"], "r@eps=auto@where=both"),
        (["r@eps=0.123456789"], "r@eps=0.123456789"),
    ],
)
def test_equal_variants_have_one_name(names: list[str], one: str) -> None:
    assert {methods.canonical(name) for name in names} == {one}
    assert {methods.find_method(name).name for name in names} == {one}
    assert len({methods.settings_of(name, SETTINGS) for name in names}) == 1


def test_a_meaning_is_the_settings_that_matter() -> None:
    def same(one: str, two: str) -> bool:
        return methods.meaning(one, SETTINGS) == methods.meaning(two, SETTINGS)

    assert same("r", "r@eps=0.3")
    assert same("r@where=hidden", "r@p=0.5")
    assert same("fgsm", "fgsm@radius=0.05")
    assert not same("r", "r@eps=0.1")
    assert same("r", "r@grain=element@share=1.0")
    assert not same("r", "r@grain=channel")
    assert not same("r", "gaussian")
    assert not same("fgsm", "pgd")
    assert methods.meaning("base", SETTINGS) == ("base",)
    assert same("r@eps=auto", "r@ratio=0.5")
    assert not same("r@ratio=1", "r@ratio=0.5")


AUTO = dataclasses.replace(SETTINGS, eps="auto", ratio=0.7)


@pytest.mark.parametrize(
    ("name", "settings", "eps", "ratio"),
    [
        ("r", SETTINGS, SETTINGS.eps, None),
        ("r@eps=auto", SETTINGS, "auto", 0.5),
        ("r@ratio=2", SETTINGS, "auto", 2.0),
        ("r", AUTO, "auto", 0.7),
        ("r@eps=auto", AUTO, "auto", 0.7),
        ("r@ratio=2@where=both", AUTO, "auto", 2.0),
        ("r@eps=0.2", AUTO, 0.2, None),
        ("r@where=both", dataclasses.replace(AUTO, ratio=None), "auto", 0.5),
    ],
)
def test_a_ratio_goes_with_auto_alone(name: str, settings: Settings, eps: Any, ratio: float | None) -> None:
    own = methods.settings_of(name, settings)
    assert (own.eps, own.ratio) == (eps, ratio)


@pytest.mark.parametrize("name", ["r", "r@ratio=2@where=both", "gaussian@eps=auto", "r+fgsm@eps=auto", "mine"])
def test_what_was_chosen_stands_for_auto(name: str) -> None:
    method = dataclasses.replace(methods.METHODS["r"], name="mine") if name == "mine" else methods.find_method(name)
    asked: list[Settings] = []

    def choose(settings: Settings) -> float:
        asked.append(settings)
        return 0.25

    chosen, settings = methods.with_eps(method, AUTO, choose)
    assert asked == [methods.settings_of(name, AUTO)]
    assert (chosen.name, chosen.passes) == (method.name, method.passes)
    assert settings == dataclasses.replace(asked[0], eps=0.25, ratio=None)
    assert {site.eps for site in sites(chosen.prepare(tiny_network(), settings))} == {0.25}
    x, y = as_float(tiny_images())
    assert len(chosen.perturb_batch(tiny_network(), x, y, settings)[0]) == len(x) * (1 + ("fgsm" in name))


@pytest.mark.parametrize("name", ["r", "gaussian"])
def test_a_form_of_the_signs_is_measured_for_r_alone(name: str) -> None:
    """The controls have the power of R's element signs, whatever form R has in the comparison."""
    form = dataclasses.replace(AUTO, grain="channel", share=0.5)
    asked: list[Settings] = []

    def choose(own: Settings) -> float:
        asked.append(own)
        return 0.1

    methods.with_eps(methods.find_method(name), form, choose)
    assert asked == [form if name == "r" else AUTO]


@pytest.mark.parametrize(
    ("name", "settings"), [("base", AUTO), ("fgsm@radius=0.1", AUTO), ("r", SETTINGS), ("r@eps=0", AUTO)]
)
def test_nothing_is_chosen_where_there_is_no_auto_noise(name: str, settings: Settings) -> None:
    method = methods.find_method(name)
    assert methods.with_eps(method, settings, lambda _: pytest.fail("asked")) == (method, settings)


@pytest.mark.parametrize("name", ["r", "gaussian", "additive", "dropout"])
def test_auto_that_nobody_chose_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"eps='auto' measures on a batch|eps is 'auto', a str"):
        methods.find_method(name).prepare(tiny_network(), AUTO)
