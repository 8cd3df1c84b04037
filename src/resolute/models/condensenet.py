"""CondenseNet (Huang et al. 2017, arXiv:1711.09224): convolutions learn their groups and are then condensed."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError
from resolute.models.layers import shuffle, start_as_he

if TYPE_CHECKING:
    from collections.abc import Sequence


class LearnedGroupConv(nn.Module):
    """BN-ReLU-conv 1x1 with a mask. Group i owns the outputs i, i + G, i + 2G, ..., which shuffles the channels."""

    mask: Tensor

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(before, after, 1, bias=False)
        self.register_buffer("mask", torch.ones(groups, before))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the masked weights."""
        weight, after = self.conv.weight, self.conv.out_channels
        mask = self.mask.repeat(after // self.groups, 1)[:, :, None, None]
        return F.conv2d(self.relu(self.norm(x)), weight * mask)

    @torch.no_grad()
    def condense_to(self, stage: int) -> None:
        """Drop the inputs with the smallest sum of absolute weights, group by group."""
        part = self.mask.shape[1] // self.groups
        dropped = round(float((self.mask[0] < 0.5).sum()) / part)
        for _ in range(dropped, stage):
            use = self.conv.weight.abs().view(-1, self.groups, self.mask.shape[1]).sum(0)
            least = use.masked_fill(self.mask < 0.5, torch.inf).topk(part, largest=False).indices
            self.mask.scatter_(1, least, 0.0)


class CondensedConv(nn.Module):
    """What `condense` makes of a learned group convolution: index, BN-ReLU, group conv 1x1, shuffle."""

    index: Tensor

    def __init__(self, before: int, after: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.register_buffer("index", torch.arange(before))
        self.norm = nn.BatchNorm2d(before)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(before, after, 1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Select, convolve and shuffle."""
        return shuffle(self.conv(self.relu(self.norm(x.index_select(1, self.index)))), self.groups)


class IndexedLinear(nn.Module):
    """A linear layer that sees some of its inputs."""

    index: Tensor

    def __init__(self, before: int, kept: int, after: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.arange(kept) * before // kept)
        self.whole = kept == before
        self.linear = nn.Linear(kept, after)

    def forward(self, x: Tensor) -> Tensor:
        """Select and map."""
        out: Tensor = self.linear(x if self.whole else x.index_select(1, self.index))
        return out


_LAYERS = (4, 6, 8, 10, 8)
_GROWTH = (8, 16, 32, 64, 128)
_BOTTLENECK = 4


class CondenseNet(nn.Module):
    """conv 3x3 stride 2, dense blocks with average pools between, BN-ReLU, mean, fc."""

    # With the defaults and 1,000 classes CondenseNet-74: in training 11,103,608 parameters (G=C=8) and 11,922,680
    # (G=C=4), condensed 2,935,416 and 4,773,944. Every block and every later block sees all features. Weights start as
    # He et al.'s (fan-out).

    def __init__(
        self,
        groups: int,
        classes: int,
        shape: tuple[int, int, int] = (3, 224, 224),
        *,
        condensed: bool = False,
        layers: Sequence[int] = _LAYERS,
        growth: Sequence[int] = _GROWTH,
        classifier: float = 0.5,
    ) -> None:
        if groups < 2 or any(step % groups for step in growth):
            raise InputError(f"condensenet got {groups} groups; they must be at least 2 and divide {tuple(growth)}.")
        super().__init__()
        self.groups = groups
        self.settings: dict[str, Any] = {
            "classes": classes,
            "shape": shape,
            "layers": tuple(layers),
            "growth": tuple(growth),
        }
        self._stage: int | None = None
        channels = 2 * growth[0]
        self.conv = nn.Conv2d(shape[0], channels, 3, 2 if max(shape[1:]) > 64 else 1, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for repeats, step in zip(layers, growth, strict=True):
            if blocks:
                blocks.append(nn.AvgPool2d(2))
            for _ in range(repeats):
                blocks.append(Layer(channels, step, groups, condensed))
                channels += step
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.fc = IndexedLinear(channels, round(channels * classifier) if condensed else channels, classes)
        start_as_he(self, "fan_out")
        nn.init.zeros_(self.fc.linear.bias)
        self.register_load_state_dict_post_hook(_forget_stage)  # type: ignore[no-untyped-call]

    def forward(self, x: Tensor) -> Tensor:
        """Classify images."""
        x = self.relu(self.norm(self.blocks(self.conv(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits

    def on_progress(self, done: float) -> None:
        """Drop inputs when the next stage has come: stage s of the C - 1 stages at s / (2 (C - 1)) of the training."""
        stage = min(int(2 * done * (self.groups - 1) + 1e-9), self.groups - 1)
        if stage == self._stage:
            return
        for module in self.modules():
            if isinstance(module, LearnedGroupConv):
                module.condense_to(stage)
        self._stage = stage


class Layer(nn.Module):
    """BN-ReLU-(learned group conv 1x1)-BN-ReLU-(group conv 3x3), concatenated to the input."""

    def __init__(self, before: int, growth: int, groups: int, condensed: bool) -> None:
        super().__init__()
        first = CondensedConv if condensed else LearnedGroupConv
        inner = _BOTTLENECK * growth
        self.squeeze = first(before, inner, groups)
        self.norm = nn.BatchNorm2d(inner)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(inner, growth, 3, padding=1, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Add channels."""
        return torch.cat([x, self.conv(self.relu(self.norm(self.squeeze(x))))], 1)


def condense(model: nn.Module, classifier: float = 1.0) -> nn.Module:
    """Convert a trained CondenseNet for inference: a quarter of the parameters, the same outputs.

    Args:
        model: A `CondenseNet`, or one behind its Normalize layer as `models.build` gives it, trained to the last stage.
        classifier: Share of the classifier's inputs that is kept, those of largest absolute weights. 1 keeps the
            outputs as they are; the source drops half (0.5), which changes them a little.

    Returns:
        A new network in evaluation mode; the old one is left as it was.

    Raises:
        InputError: If the network is no CondenseNet or is not condensed to the end.

    Example:
        >>> model = CondenseNet(2, classes=3, shape=(3, 8, 8), layers=(2,), growth=(4,))
        >>> model.on_progress(1)  # as the training loop does
        >>> type(condense(model).blocks[0].squeeze).__name__
        'CondensedConv'
    """
    own = getattr(model, "network", model)
    if not isinstance(own, CondenseNet):
        raise InputError(f"condense got a {type(model).__name__}; it takes a CondenseNet before conversion.")
    plain = CondenseNet(own.groups, condensed=True, classifier=classifier, **own.settings)
    for name in ("conv", "norm"):
        getattr(plain, name).load_state_dict(getattr(own, name).state_dict())
    for old, new in zip(own.blocks, plain.blocks, strict=True):
        if isinstance(old, Layer) and isinstance(new, Layer):
            _fill(old, new)
    weight = own.fc.linear.weight.detach()
    plain.fc.index.copy_(weight.abs().sum(0).topk(len(plain.fc.index)).indices.sort().values)
    plain.fc.linear.load_state_dict({"weight": weight[:, plain.fc.index], "bias": own.fc.linear.bias})
    plain.to(weight.device)
    if own is model:
        return plain.eval()
    built = nn.Sequential()
    for name, child in model.named_children():
        built.add_module(name, plain if child is own else copy.deepcopy(child))
    return built.eval()


def _fill(old: Layer, new: Layer) -> None:
    for name in ("norm", "conv"):
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    learned, plain = old.squeeze, new.squeeze
    if not isinstance(learned, LearnedGroupConv) or not isinstance(plain, CondensedConv):
        raise InputError("condense got a network that is condensed already.")
    kept = [row.nonzero().flatten() for row in learned.mask > 0.5]
    if sum(map(len, kept)) != len(plain.index):
        raise InputError(
            "condense got a CondenseNet whose groups have not yet dropped all that they shall. Train it for half of "
            "its steps or more, or call on_progress(1) to drop the rest now."
        )
    plain.index.copy_(torch.cat(kept))
    norm = {name: tensor[plain.index] if tensor.ndim else tensor for name, tensor in learned.norm.state_dict().items()}
    plain.norm.load_state_dict(norm)
    weight = learned.conv.weight.detach()
    groups = [weight[group :: old.squeeze.groups, inputs] for group, inputs in enumerate(kept)]
    plain.conv.load_state_dict({"weight": torch.cat(groups)})


def _forget_stage(network: nn.Module, keys: Any) -> None:  # noqa: ARG001 the hook's signature
    """Look at the masks again: others have been loaded."""
    network._stage = None  # type: ignore[assignment]
