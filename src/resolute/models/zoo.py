"""Every network of timm and torchvision, with its own normalisation inside."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from resolute.errors import InputError, unknown
from resolute.models.layers import Normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel means and standard deviations that torchvision's classification weights were trained with."""
_TWO_HEADED = ("googlenet", "inception_v3")
"""Networks of torchvision whose second classifier would make the output of training a tuple."""


def suggestions(name: str) -> list[str]:
    """Find the networks of timm and torchvision with the same letters and digits as a name, else the nearest three."""
    import timm
    import torchvision

    libraries = {"timm": timm.list_models(), "torchvision": torchvision.models.list_models(module=torchvision.models)}
    plain, names = re.sub(r"^(timm|torchvision)\W", "", name), {*libraries["timm"], *libraries["torchvision"]}
    near = [each for each in sorted(names) if _letters(each) == _letters(plain)]
    near = near or difflib.get_close_matches(plain.lower(), sorted(names), cutoff=0.8)
    return [f"{library}/{each}" for each in near for library in libraries if each in libraries[library]]


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def from_timm(name: str, classes: int, shape: tuple[int, int, int], pretrained: bool) -> tuple[nn.Module, Normalize]:
    """Build a network of timm's registry."""
    import timm

    if not timm.is_model(name):
        raise InputError(unknown("timm model", name, timm.list_models()))
    config = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = {"img_size": shape[1:]} if config and config.fixed_input_size else {}
    network = _built(
        f"timm/{name}",
        lambda: timm.create_model(name, pretrained, num_classes=classes, in_chans=shape[0], **size),
        shape,
    )
    mean, std = (config.mean, config.std) if config else IMAGENET_STATISTICS
    return network, Normalize(_for_channels(mean, shape[0]), _for_channels(std, shape[0]))


def from_torchvision(
    name: str, classes: int, shape: tuple[int, int, int], pretrained: bool
) -> tuple[nn.Module, Normalize]:
    """Build a classification network of torchvision."""
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise InputError(unknown("torchvision model", name, names))
    if shape[0] != 3:
        raise InputError(f"torchvision/{name} takes 3 channels; these images have {shape[0]}. Use timm/ or wrn-D-K.")
    weights = "DEFAULT" if pretrained else None
    single = name in _TWO_HEADED and not pretrained
    settings: dict[str, Any] = {"aux_logits": False, "init_weights": True} if single else {}
    network = _built(
        f"torchvision/{name}",
        lambda: _adapted(torchvision.models.get_model(name, weights=weights, num_classes=classes, **settings)),
        shape,
    )
    return network, Normalize(*IMAGENET_STATISTICS)


class _BasicConv(nn.Module):
    """conv-BN-ReLU as in torchvision's Inception networks, with the ReLU as a module that noise can be put at."""

    conv: nn.Module
    bn: nn.Module
    relu: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.conv(x)))
        return out


def _adapted(network: nn.Module) -> nn.Module:
    """Make modules of the activations of GoogLeNet and Inception V3, and leave them one classifier."""
    if type(network).__name__ not in {"GoogLeNet", "Inception3"}:
        return network
    vars(network)["aux_logits"] = False
    for head in {"aux1", "aux2", "AuxLogits"} & dict(network.named_children()).keys():
        setattr(network, head, None)
    for module in [*network.modules()]:
        if type(module).__name__ == "BasicConv2d":
            module.__class__ = _BasicConv
            module.relu = nn.ReLU(inplace=True)
    return network


def _for_channels(values: Sequence[float], channels: int) -> list[float]:
    """Keep the three of an RGB network; other numbers of channels get their mean."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def _built(name: str, make: Callable[[], nn.Module], shape: tuple[int, int, int]) -> nn.Module:
    """Build a network and show it one image: some notice only then that their images are too small."""
    try:
        network = make().eval()
        with torch.no_grad():
            network(torch.zeros(1, *shape))
    except (AssertionError, OSError, RuntimeError, ValueError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        height, width = shape[1:]
        raise InputError(f"cannot build {name} for images of {height}x{width} pixels: {reason}") from error
    return network.train()
