"""What robustify does to a module: the noise, its strength, its draws."""

from __future__ import annotations

import copy
import functools

import torch
from torch import Tensor, nn

from networks import Shared, strengths
from resolute.noise.robustify import attach, is_robust, robustify, set_eps, unrobustify
from resolute.noise.sites import sites


def test_eps_and_p_arrive() -> None:
    assert strengths(robustify(nn.ReLU(), eps=0.25)) == {0.25}
    x = torch.ones(100)
    assert (robustify(nn.ReLU(), eps=0.25, p=1.0)(x) == 1.25).all()
    assert (robustify(nn.ReLU(), eps=0.25, p=0.0)(x) == 0.75).all()


def test_a_second_robustify_replaces_the_first() -> None:
    model = robustify(nn.ReLU(), eps=0.1)
    own = type(model)
    robustify(model, eps=0.5, p=1.0)
    assert type(model) is own
    assert strengths(model) == {0.5}
    assert type(unrobustify(model)) is nn.ReLU


def test_input_and_hidden_may_differ() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    robustify(robustify(model, eps=0.5, p=1.0, where="input"), eps=0.25, p=1.0, where="hidden")
    assert strengths(model) == {0.875}


def test_a_shared_activation_stands_once_and_draws_at_each_call() -> None:
    model, x = robustify(Shared()), torch.ones(200)
    assert [site.name for site in sites(model)] == ["relu"]
    rows = torch.stack([model.relu(x) for _ in range(3)])
    assert len(rows.unique(dim=0)) == 3


def test_in_place_activations_work_and_have_the_right_gradient() -> None:
    x = torch.randn(50, 4, requires_grad=True)
    gradients = []
    for inplace in (False, True):
        torch.manual_seed(1)
        act = robustify(nn.Sequential(nn.Identity(), nn.ReLU(inplace)), eps=0.3)
        (gradient,) = torch.autograd.grad((act(x * 1) ** 2).sum(), x)
        gradients.append(gradient)
    assert torch.equal(*gradients)


def test_prelu_keeps_its_weight() -> None:
    act = robustify(nn.PReLU(3))
    assert list(act.state_dict()) == ["weight"]
    act(torch.randn(2, 3)).sum().backward()
    assert act.weight.grad is not None


def test_modules_in_evaluation_mode_stay_silent_in_a_model_that_trains() -> None:
    model = robustify(nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU())), eps=0.5, p=1.0)
    x = torch.ones(10)
    model.train()
    model[1].eval()
    assert strengths(model, x) == {0.5}
    model[0].eval()
    assert strengths(model, x) == {0.0}


def test_set_eps_changes_every_site_and_zero_silences() -> None:
    model = robustify(nn.Sequential(nn.Identity(), nn.ReLU()), eps=0.1, p=1.0, where="both")
    assert set_eps(model, 0.5) is model
    assert strengths(model) == {1.25}
    assert strengths(set_eps(model, 0)) == {0.0}
    assert strengths(set_eps(model, 0.25)) == {0.5625}, "p is kept"


def test_set_eps_of_a_copy_leaves_the_original() -> None:
    model = robustify(nn.ReLU(), eps=0.5)
    set_eps(copy.deepcopy(model), 0.1)
    assert strengths(model) == {0.5}


def test_other_noise_can_be_attached() -> None:
    model = attach(nn.Sequential(nn.ReLU()), functools.partial(torch.mul, other=3))
    assert strengths(model) == {2.0}
    assert not is_robust(unrobustify(model))


def test_forward_hooks_see_the_perturbed_activation() -> None:
    act, seen = robustify(nn.ReLU(), eps=0.5), list[Tensor]()
    act.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
    assert act(torch.ones(9)) is seen[0]
