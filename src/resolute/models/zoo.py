"""Every network of timm and torchvision, with its own normalisation inside."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from resolute.errors import InputError, unknown
from resolute.models.layers import Normalize
from resolute.run_folder import read_json
from resolute.safe_io import Maybe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resolute.config import Interpolation


IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel means and standard deviations that torchvision's classification weights were trained with."""
TENSORFLOW_STATISTICS = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_TWO_HEADED = ("googlenet", "inception_v3")
"""Networks of torchvision whose second classifier would make the output of training a tuple."""
_SECOND_HEADS = {"aux1", "aux2", "AuxLogits"}

Shape = tuple[int, int, int]


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


def _timm_config(name: str) -> Any:
    """Look up what timm knows of a network's published weights."""
    import timm

    if not timm.is_model(name):
        raise InputError(unknown("timm model", name, timm.list_models()))
    return timm.get_pretrained_cfg(name)


def _timm_network(name: str, config: Any, classes: int, shape: Shape, **settings: Any) -> nn.Module:
    import timm

    size: dict[str, Any] = {"img_size": shape[1:]} if config and config.fixed_input_size else {}
    return timm.create_model(name, num_classes=classes, in_chans=shape[0], **size, **settings)


def from_timm(name: str, classes: int, shape: Shape, pretrained: bool) -> tuple[nn.Module, Normalize]:  # noqa: ARG001
    """Build a network of timm's registry."""
    config = _timm_config(name)
    network = _built(f"timm/{name}", lambda: _timm_network(name, config, classes, shape), shape)
    mean, std = (config.mean, config.std) if config else IMAGENET_STATISTICS
    return network, Normalize(_for_channels(mean, shape[0]), _for_channels(std, shape[0]))


def convert_timm(name: str, tensors: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Have timm read weights of any form that it knows, older names and other sizes of images say; it raises else."""
    config = _timm_config(name)
    head = tensors.get(f"{config.classifier}.weight")
    classes = config.num_classes if head is None else len(head)
    given = {"state_dict": dict(tensors), "num_classes": classes, "source": None, "custom_load": False}
    network = _timm_network(name, config, classes, shape, pretrained=True, pretrained_cfg_overlay=given)
    return network.state_dict()  # of as many classes as there are, so that timm was strict with every name


def from_torchvision(name: str, classes: int, shape: Shape, pretrained: bool) -> tuple[nn.Module, Normalize]:
    """Build a classification network of torchvision."""
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise InputError(unknown("torchvision model", name, names))
    if shape[0] != 3:
        raise InputError(f"torchvision/{name} takes 3 channels; these images have {shape[0]}. Use timm/ or wrn-D-K.")
    settings: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _TWO_HEADED else {}
    network = _built(
        f"torchvision/{name}",
        lambda: _adapted(torchvision.models.get_model(name, weights=None, num_classes=classes, **settings)),
        shape,
    )
    # With their published weights, the networks of two heads bring ImageNet's moments to those of TensorFlow first.
    return network, Normalize(*(TENSORFLOW_STATISTICS if pretrained and name in _TWO_HEADED else IMAGENET_STATISTICS))


def convert_torchvision(name: str, tensors: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:  # noqa: ARG001
    """Read published weights as torchvision does: without second classifiers, and DenseNet's by their later names."""
    kept = {key: each for key, each in tensors.items() if key.partition(".")[0] not in _SECOND_HEADS}
    return {re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)", r"\1\2", key): each for key, each in kept.items()}


def fetch_timm(name: str) -> tuple[Path, str]:
    """Find the file of a network's published weights, fetched once, and what its SHA-256 begins with, if known."""
    config = _timm_config(name)
    if config and config.hf_hub_id:
        files = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
        return _from_hub(config.hf_hub_id, files, f"timm/{name}")
    if config and config.url:
        return _from_url(config.url, f"timm/{name}")
    raise InputError(f"timm has no published weights of {name}. Give a file of its weights: --weights FILE.")


def fetch_torchvision(name: str) -> tuple[Path, str]:
    """Find the file of a network's published weights, fetched once, and what its SHA-256 begins with."""
    from torchvision.models import get_model_weights

    return _from_url(get_model_weights(name).DEFAULT.url, f"torchvision/{name}")


def from_hub(name: str, classes: int, shape: Shape, pretrained: bool) -> tuple[nn.Module, Normalize]:
    """Build a network of timm's as its config.json on the Hugging Face hub says."""
    own, config = _hub_config(name)
    network, _ = from_timm(own, classes, shape, pretrained)
    moments = (config.get(key) or usual for key, usual in zip(("mean", "std"), IMAGENET_STATISTICS, strict=True))
    return network, Normalize(*(_for_channels(values, shape[0]) for values in moments))


def fetch_hub(name: str) -> tuple[Path, str]:
    """Find the file of weights beside a config.json on the Hugging Face hub, fetched once, and its SHA-256."""
    return _from_hub(name, _HUB_FILES, f"hf-hub:{name}")


def convert_hub(name: str, tensors: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Have timm read the weights of a network of the hub."""
    return convert_timm(_hub_config(name)[0], tensors, shape)


def hub_architecture(name: str) -> str:
    """Name the network of timm that a name on the Hugging Face hub stands for."""
    return _hub_config(name)[0]


def _hub_config(name: str) -> tuple[str, dict[str, Any]]:
    """Read which network of timm a config.json is for, and what it says of its weights."""
    path, _ = _from_hub(name, ("config.json",), f"hf-hub:{name}")
    config = read_json(path, {"architecture": str, "model_args?": Maybe(dict), "pretrained_cfg?": Maybe(dict)})
    if config.get("model_args"):
        raise InputError(
            f"hf-hub:{name} has arguments of its own ({', '.join(config['model_args'])}), with which it could not be "
            "built again. Only networks that timm builds by their name alone can be trained."
        )
    return config["architecture"], config.get("pretrained_cfg") or config


_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Where networks of timm on the Hugging Face hub have their weights; nothing in either is executed."""


def _from_hub(repository: str, files: Sequence[str], what: str) -> tuple[Path, str]:
    """Find the first of these files in the hub's cache on this machine, else fetch it."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    plain, _, revision = repository.partition("@")
    reason = "nothing is there"
    for is_local in (True, False):
        for file in files:
            try:
                found = hf_hub_download(plain, file, revision=revision or None, local_files_only=is_local)
            except (EntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
                reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(". ")
                if isinstance(error, LocalEntryNotFoundError) and not is_local:
                    break  # no network, after half a minute of trying
                continue
            blob = Path(found).resolve().name  # the SHA-256 of a large file is its name in the cache
            return Path(found), blob if re.fullmatch("[0-9a-f]{64}", blob) else ""
    raise InputError(
        f"cannot fetch {what} ({reason}). Fetch {files[0]} of {plain} on the Hugging Face hub elsewhere and give it "
        f"by --weights; or copy models--{plain.replace('/', '--')} of another machine's cache to "
        f"{constants.HF_HUB_CACHE}."
    )


def _from_url(url: str, what: str) -> tuple[Path, str]:
    """Find a file where torch.hub keeps it, else fetch it; its name holds the first digits of its SHA-256."""
    file = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    begins = re.search(r"-([0-9a-f]{8,})\.", file.name)
    if not file.exists():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), begins[1] if begins else None, progress=False)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"cannot fetch the weights of {what} ({error}). Fetch {url} elsewhere, and put it at {file} or give "
                "it by --weights."
            ) from error
    return file, begins[1] if begins else ""


_OwnImages = tuple[int, "Interpolation"]


def _images(side: int, interpolation: str) -> _OwnImages:
    return side, "bicubic" if interpolation == "bicubic" else "bilinear"


def _timm_images(name: str) -> _OwnImages:
    config = _timm_config(name)
    return _images(int(config.input_size[-1]), config.interpolation)


def _torchvision_images(name: str) -> _OwnImages:
    from torchvision.models import get_model_weights

    own = get_model_weights(name).DEFAULT.transforms()
    return _images(int(own.crop_size[0]), own.interpolation.value)


def _hub_images(name: str) -> _OwnImages:
    own, config = _hub_config(name)
    side, interpolation = _timm_images(own)
    return _images(int((config.get("input_size") or [side])[-1]), config.get("interpolation") or interpolation)


class Library(NamedTuple):
    """Where published weights come from.

    Attributes:
        fetch: Finds the file of a network's, fetched once: ``(name) -> (path, what its SHA-256 begins with)``.
        convert: Reads weights of other forms, ``(name, tensors, shape) -> tensors``; raises if they are of none.
        images: Tells for images of which side, in pixels, they are, and how those were resized.
    """

    fetch: Callable[[str], tuple[Path, str]]
    convert: Callable[..., dict[str, Tensor]]
    images: Callable[[str], _OwnImages]


TIMM = Library(fetch_timm, convert_timm, _timm_images)
TORCHVISION = Library(fetch_torchvision, convert_torchvision, _torchvision_images)
HUB = Library(fetch_hub, convert_hub, _hub_images)


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
    for head in _SECOND_HEADS & dict(network.named_children()).keys():
        setattr(network, head, None)
    for module in [*network.modules()]:
        if type(module).__name__ == "BasicConv2d":
            module.__class__ = _BasicConv
            module.relu = nn.ReLU(inplace=True)
    return network


def _for_channels(values: Sequence[float], channels: int) -> list[float]:
    """Keep the three of an RGB network; other numbers of channels get their mean."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels


def _built(name: str, make: Callable[[], nn.Module], shape: Shape) -> nn.Module:
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
