"""Tools that change, read or save modules: each works with noise, or says what to do."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrizations, parametrize, prune

from networks import NETWORKS, small
from resolute.errors import InputError
from resolute.noise.robustify import is_robust, robustify, unrobustify
from resolute.noise.sites import sites

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from resolute.noise.sites import Where


@pytest.mark.parametrize("where", [nn.Linear, "0:input", ["0", "2", "hidden"]])
def test_lazy_modules_keep_their_noise_through_their_first_call(where: Where) -> None:
    model = robustify(nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3)), eps=0.5, where=where)
    listed = [(site.name, site.side) for site in sites(model)]
    other, x = copy.deepcopy(model), torch.rand(5, 6)
    for net in (model, pickle.loads(pickle.dumps(other))):
        assert net(x).shape == (5, 3)
        assert not torch.equal(net(x), net(x))
        assert [(site.name, site.side) for site in sites(net)] == listed
        assert torch.equal(net.eval()(x), net(x))
        assert [type(m) for m in unrobustify(net)] == [nn.Linear, nn.ReLU, nn.Linear]
    assert [type(m) for m in unrobustify(other)] == [nn.LazyLinear, nn.ReLU, nn.LazyLinear]
    assert not torch.nn.parameter.is_lazy(other(x))


class Act(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x).square()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("where", ["hidden", ["hidden", "0"]])
def test_fx_keeps_the_noise_of_modules_of_every_kind(training: bool, where: Where) -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), Act()), nn.ReLU())
    robustify(model, eps=0.5, where=lambda name, _: name in {"0", "0.1", "1"}) if where != "hidden" else robustify(
        model, 0.5
    )
    traced, x = fx.symbolic_trace(model.train(training)), torch.rand(50, 4)
    assert len(sites(traced)) == len(sites(model))
    assert not torch.equal(traced.train()(x), traced(x))
    assert torch.equal(traced.eval()(x), unrobustify(model).eval()(x))


def test_fx_refuses_noise_at_the_model_itself_in_training_mode() -> None:
    model, x = robustify(small(), where="input"), torch.rand(5, 4)
    with pytest.raises(InputError, match=r"^torch.fx cannot trace noise at the model itself, where='input'\. Trace"):
        fx.symbolic_trace(model)
    assert torch.equal(fx.symbolic_trace(model.eval())(x), model(x))


def test_fusing_for_quantisation_says_what_to_do() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.ReLU()).eval()
    robustify(model)
    with pytest.raises(
        (AssertionError, NotImplementedError), match=r"ReLU with noise; resolute.unrobustify\(model\) gives"
    ):
        torch.ao.quantization.fuse_modules(model, ["0", "1", "2"])
    assert torch.ao.quantization.fuse_modules(unrobustify(model), ["0", "1", "2"])


@pytest.mark.parametrize("build", [nn.ReLU, nn.LSTM, Act, NETWORKS["torchvision resnet18"].build])
def test_the_name_of_the_class_stays(build: Any) -> None:
    """save_pretrained writes it, and others choose by it."""
    model = build() if build is not nn.LSTM else nn.LSTM(2, 2)
    name = type(model).__name__
    assert type(robustify(model, where=type(model))).__name__ == name
    assert repr(model).startswith(f"Perturbed{name}(")


def test_save_pretrained_writes_the_architecture(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, image_size=8, patch_size=4
    )
    model, x = ViTForImageClassification(config), torch.rand(2, 3, 8, 8)
    robustify(model, eps=0.5, where="both")
    batch = {"labels": torch.tensor([0, 1]), "pixel_values": x}  # as transformers' collator gives it
    torch.manual_seed(1)
    first = model(**batch).logits
    torch.manual_seed(1)
    torch.testing.assert_close(model(pixel_values=x).logits, first)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["ViTForImageClassification"]
    loaded = ViTForImageClassification.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(x).logits, model.eval()(x).logits)


PARAMETRIZED: dict[str, tuple[Callable[[nn.Linear], Any], Callable[[nn.Linear], Any]]] = {
    "spectral_norm": (parametrizations.spectral_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
    "weight_norm": (parametrizations.weight_norm, lambda m: parametrize.remove_parametrizations(m, "weight")),
    "prune": (lambda m: prune.l1_unstructured(m, "weight", 0.5), lambda m: prune.remove(m, "weight")),
}


@pytest.mark.parametrize("name", PARAMETRIZED)
@pytest.mark.parametrize("first", ["robustify", "other"])
@pytest.mark.parametrize("out", ["robustify", "other"])
def test_parametrizations_come_and_go_in_any_order(name: str, first: str, out: str) -> None:
    put, remove = PARAMETRIZED[name]
    model, x = small(), torch.rand(50, 4)
    for step in (first, "other" if first == "robustify" else "robustify"):
        put(model[2]) if step == "other" else robustify(model, eps=0.5, where=["hidden", "2"])  # type: ignore[arg-type]
    assert not torch.equal(model(x), model(x))
    if name != "prune":  # PyTorch does not copy what is pruned
        other = copy.deepcopy(model)
        assert not torch.equal(other(x), other(x))
    if out == "other":
        plain = model.eval()(x)
        remove(model[2])  # type: ignore[arg-type]
        torch.testing.assert_close(model(x), plain)
        assert not torch.equal(model.train()(x), model(x))
        assert [type(m) for m in unrobustify(model)] == [type(m) for m in small()]
    elif first == "robustify" and name != "prune":
        with pytest.raises(InputError, match=r"^a ParametrizedLinear had its class exchanged after robustify"):
            unrobustify(model)
    else:
        unrobustify(model)
        assert torch.equal(model.eval()(x), model(x))
        remove(model[2])  # type: ignore[arg-type]
        assert [type(m) for m in model] == [type(m) for m in small()]


def test_a_second_parametrization_after_robustify_is_not_lost() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)))
    robustify(model, where=nn.Linear)
    parametrize.register_parametrization(model[0], "bias", nn.Identity())
    with pytest.raises(InputError, match=r"^a ParametrizedLinear had its class exchanged"):
        unrobustify(model)
    parametrize.remove_parametrizations(model[0], "bias")
    assert torch.equal(unrobustify(model)(torch.ones(4)), model(torch.ones(4)))


@pytest.mark.filterwarnings(r"ignore:.*torch\.jit")
def test_torchscript_says_what_to_do() -> None:
    model, x = robustify(small()), torch.rand(5, 4)
    for net in (model, model.eval(), model[1]):
        with pytest.raises(InputError, match=r"^torch.jit.script cannot compile the noise\. Script a copy"):
            torch.jit.script(net)
    assert is_robust(model)
    torch.testing.assert_close(torch.jit.script(unrobustify(copy.deepcopy(model)).eval())(x), model(x))
    with pytest.raises(InputError, match=r"^torch.jit.trace cannot record the noise\. Call model.eval\(\) b"):
        torch.jit.trace(model.train(), x)
    torch.testing.assert_close(torch.jit.trace(model.eval(), x)(x), model(x))
