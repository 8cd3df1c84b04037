"""Other people's architectures: all of torchvision's built without memory, small ones of timm and transformers trained.

benchmarks/sweep.py builds every name of timm, and looks at what each computes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from resolute.errors import InputError
from resolute.noise.robustify import robustify, set_eps
from resolute.noise.sites import find_sites, functional
from resolute.noise.unreached import unreached

if TYPE_CHECKING:
    from collections.abc import Callable


class EmptyOnMeta(TorchFunctionMode):
    """Make parameters without memory, other tensors with it: torchvision's RegNet computes widths in tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})


def check_training_and_evaluation(model: nn.Module, run: Callable[[], Tensor], where: Any) -> None:
    """In training noise is at work and gradients are finite; evaluation is untouched bit for bit."""
    state = {name: value.clone() for name, value in model.state_dict().items()}
    plain = run_as(model, run, training=False)
    robustify(model, eps=0.2, where=where)
    torch.manual_seed(1)
    out = run_as(model, run, training=True)
    loss = out.square().mean()
    loss.backward()
    assert loss.isfinite()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert not torch.equal(run_as(model, run, training=True), out)
    set_eps(model, 1e-6)
    torch.manual_seed(1)
    assert not torch.equal(run_as(model, run, training=True), out), "the same draws of dropout"
    model.load_state_dict(state)
    assert torch.equal(run_as(model, run, training=False), plain)


def run_as(model: nn.Module, run: Callable[[], Tensor], *, training: bool) -> Tensor:
    model.train(training)
    with torch.set_grad_enabled(training):
        return run()


# torchvision


def _torchvision(name: str) -> nn.Module:
    import torchvision

    with EmptyOnMeta(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # two builders announce another default initialisation
        model: nn.Module = torchvision.models.get_model(name).to("meta")
    return model


BY_FUNCTIONS = {
    "densenet121": "1 DenseNet (relu)", "densenet161": "1 DenseNet (relu)", "densenet169": "1 DenseNet (relu)",
    "densenet201": "1 DenseNet (relu)", "googlenet": "59 BasicConv2d (relu), 2 InceptionAux (relu)",
    "inception_v3": "96 BasicConv2d (relu)",
}  # fmt: skip


@pytest.mark.slow
def test_every_classification_network_of_torchvision_is_reached_or_told_of() -> None:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    assert len(names) >= 80
    for name in names:
        model = _torchvision(name)
        try:
            found = find_sites(model, "hidden")
        except InputError:
            found = {}
        assert found or name in {"googlenet", "inception_v3"}, name
        assert functional(model, found) == BY_FUNCTIONS.get(name, ""), name


@pytest.mark.parametrize(("name", "calls"), [("googlenet", 61), ("inception_v3", 96)])
def test_networks_of_functions_only_are_reached_by_what_is_named(name: str, calls: int) -> None:
    model = _torchvision(name)
    with torch.device("meta"):
        x = torch.rand(2, 3, 299, 299)
    found = unreached(model, x)
    assert len(found) == calls
    assert unreached(model, x, where=["hidden", *{u.where for u in found}]) == []


# transformers


def _bert() -> tuple[nn.Module, Callable[[], Tensor], int]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    model, ids = BertForSequenceClassification(config), torch.arange(14).view(2, 7)
    return model, lambda: model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, 2


def _vit() -> tuple[nn.Module, Callable[[], Tensor], int]:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16, patch_size=8
    )
    model, x = ViTForImageClassification(config), torch.rand(2, 3, 16, 16)
    return model, lambda: model(pixel_values=x).logits, 2


def _layers() -> tuple[nn.Module, Callable[[], Tensor], int]:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3)
    x = torch.rand(2, 5, 8)
    return model, lambda: model(x), 0


TRANSFORMERS = {"bert": _bert, "vit": _vit, "torch's own": _layers}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    model, run, hidden = TRANSFORMERS[name]()
    where = "hidden" if hidden else ["hidden", "layers.*.dropout:input"]
    found = find_sites(model, where)
    assert len(found) == (hidden or 3)
    assert functional(model, found) == ""
    check_training_and_evaluation(model, run, where)


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_transformers_are_entirely_reached(name: str) -> None:
    model, _, hidden = TRANSFORMERS[name]()
    key = {"bert": {"input_ids": torch.arange(14).view(2, 7)}, "vit": {"pixel_values": torch.rand(2, 3, 16, 16)}}[name]
    assert unreached(model, **key) == []  # type: ignore[arg-type]
    assert len(unreached(model, **key, where="no such")) == hidden


# timm: of its 97 families the 45 whose smallest member trains fastest at 32 px

ANY_SIZE = (
    "cpubone_nano", "cs3darknet_focus_s", "cspnext_tiny", "davit_tiny", "densenet121", "dla46x_c", "dpn48b",
    "edgenext_xx_small", "efficientvim_m1", "efficientvit_b0", "ese_vovnet19b_slim_dw", "fasternet_t0", "hgnetv2_b0",
    "lcnetv2_small", "legacy_seresnet18", "mobilenetv3_small_050", "mobilevit_xxs", "poolformerv2_s12", "regnetx_002",
    "resnest14d", "resnetv2_18", "shvit_s1", "skresnet18", "starnet_s050", "test_byobnet", "test_convnext",
    "test_efficientnet", "test_mambaout", "test_nfnet", "test_resnet", "test_vit", "vit_tiny_patch16_dinov3_qkvb",
)  # fmt: skip
OWN_SIZE = (
    "cait_xxs24_224", "convit_tiny", "deit_tiny_patch16_224", "gcvit_xxtiny", "gmlp_ti16_224", "levit_128s",
    "pit_ti_224", "swinv2_cr_tiny_224", "swinv2_tiny_window8_256", "test_coatnet", "test_vit_relpos", "visformer_tiny",
    "vit_tiny_r_s16_p8_224",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* is evaluated with BatchNorm statistics")
def test_a_small_member_of_families_of_timm_trains() -> None:
    import timm

    for name in ANY_SIZE + OWN_SIZE:
        model = timm.create_model(name, num_classes=10, **({"img_size": 32} if name in OWN_SIZE else {}))  # type: ignore[arg-type]
        for weight in model.parameters():
            if weight.abs().max() < 1e-4:  # a last layer of zeros, or branches times 1e-5, hide what comes before them
                nn.init.normal_(weight, std=0.1)
        x = torch.rand(2, 3, 32, 32)
        assert functional(model, find_sites(model, "hidden")) == "", name

        def run(model: nn.Module = model, x: Tensor = x) -> Tensor:
            out = model(x)
            return out if isinstance(out, Tensor) else out[0]

        try:
            check_training_and_evaluation(model, run, "hidden")
        except (AssertionError, RuntimeError) as error:
            raise AssertionError(name) from error


UNUSUAL = {
    "resnetv2_50d_evos": {"EvoNorm2dS0"}, "resnetv2_50d_frn": {"FilterResponseNormTlu2d"},
    "dm_nfnet_f0": {"GammaAct", "ReLU"}, "mobilevitv2_050": {"SiLU"},
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_activations_of_timm(name: str) -> None:
    import timm

    with torch.device("meta"):
        model = timm.create_model(name)
    found = find_sites(model, "hidden")
    assert [site for site, _ in found] == [n for n, m in model.named_modules() if type(m).__name__ in UNUSUAL[name]]
    assert functional(model, found) == ("9 LinearSelfAttention (relu)" if name == "mobilevitv2_050" else "")
