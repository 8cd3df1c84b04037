"""Capsules with routing by agreement (Sabour, Frosst and Hinton 2017, arXiv:1710.09829).

Shapes: n images, i capsules below, 8 their atoms, j classes, 16 the atoms of a class capsule.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resolute.errors import InputError

ATOMS = 8
"""Length of a primary capsule's vector."""
POSE = 16
"""Length of a class capsule's vector."""
_TYPES = 32
_MARGIN = 0.4
_ABSENT_WEIGHT = 0.5
_RECONSTRUCTION_WEIGHT = 0.0005
_OUTPUTS = tuple[Tensor, Tensor]


class Squash(nn.Module):
    """Shorten each vector s to length |s|^2 / (1 + |s|^2), below 1: the capsules' nonlinearity."""

    # A module of its own, so that ``robustify(where="*squash*")`` puts noise on capsules. It is no rectifier and so not
    # among ``where="hidden"``.

    def forward(self, s: Tensor) -> Tensor:
        """Squash the vectors of the last dimension."""
        square = s.square().sum(-1, keepdim=True)
        return s * (square / (1 + square) * torch.rsqrt(square + 1e-12))


class CapsNet(nn.Module):
    """conv 256@9x9, ReLU, 32 types of primary capsules 8D by conv 9x9 stride 2, class capsules 16D by routing."""

    # At 28x28 and 10 classes 6,804,384 parameters, with the decoder 8,215,728. Logits are the lengths of the class
    # capsules, in [0, 1). Weights and biases start as in the authors' code: truncated normals of standard deviation
    # 0.05 (first convolution) and 0.1, biases of 0.1.

    def __init__(
        self, classes: int, shape: tuple[int, int, int] = (1, 28, 28), decoder: bool = False, routing: int = 3
    ) -> None:
        channels, *sides = shape
        if min(sides) < 18:
            raise InputError(f"capsnet got images of {sides[0]}x{sides[1]} pixels; it needs at least 18 a side.")
        if routing < 1:
            raise InputError(f"capsnet got routing={routing}; it must be at least 1.")
        super().__init__()
        self.classes, self.routing = classes, routing
        height, width = ((side - 8 - 9) // 2 + 1 for side in sides)
        self.conv = nn.Conv2d(channels, 256, 9)
        self.relu = nn.ReLU(inplace=True)
        self.primary = nn.Conv2d(256, _TYPES * ATOMS, 9, stride=2)
        self.primary_squash = Squash()
        self.weight = nn.Parameter(torch.empty(_TYPES * height * width, ATOMS, classes * POSE))
        self.bias = nn.Parameter(torch.empty(classes, POSE))
        self.class_squash = Squash()
        self.decoder = _decoder(classes, channels * sides[0] * sides[1]) if decoder else None
        for weight, spread in ((self.conv.weight, 0.05), (self.primary.weight, 0.1), (self.weight, 0.1)):
            nn.init.trunc_normal_(weight, std=spread, a=-2 * spread, b=2 * spread)
        for bias in (self.conv.bias, self.primary.bias, self.bias):
            nn.init.constant_(bias, 0.1)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor | _OUTPUTS:
        """Classify images."""
        maps = self.primary(self.relu(self.conv(x)))
        below = maps.unflatten(1, (_TYPES, ATOMS)).flatten(3).transpose(2, 3).flatten(1, 2)
        capsules = self.route(self.primary_squash(below))
        lengths = (capsules.square().sum(-1) + 1e-12).sqrt()
        return (lengths, capsules) if self.decoder is not None and self.training else lengths

    def route(self, below: Tensor) -> Tensor:
        """Vote for each class capsule and agree on the votes. Gradients flow through all iterations."""
        votes_nijd = torch.einsum("nia,iav->niv", below, self.weight).unflatten(2, (self.classes, POSE))
        votes_njid = votes_nijd.transpose(1, 2).contiguous()  # one copy here; each product below would make one
        capsules_njd: Tensor = self.class_squash(votes_njid.sum(2) / self.classes + self.bias)
        agreement_nji = torch.zeros_like(votes_njid[..., 0])
        for _ in range(self.routing - 1):
            agreement_nji = agreement_nji + (votes_njid @ capsules_njd[..., None])[..., 0]
            mixed_njd = (agreement_nji.softmax(1)[..., None, :] @ votes_njid)[..., 0, :]
            capsules_njd = self.class_squash(mixed_njd + self.bias)
        return capsules_njd

    def per_image_loss(self, x: Tensor, y: Tensor, outputs: Tensor | _OUTPUTS) -> Tensor:
        """Compute the margin loss, plus 0.0005 times the squared reconstruction error where capsules came along."""
        # 0.5 max(0, 0.9 - v)^2 for the image's class and 0.25 max(0, v - 0.1)^2 for the others, with v the lengths, as
        # the mean over the classes: the paper's sum divided by 20, as in the authors' code.
        lengths, capsules = (outputs, None) if isinstance(outputs, Tensor) else outputs
        centred = lengths.float() - 0.5
        present = F.one_hot(y, self.classes).to(centred.dtype)
        missed = present * (_MARGIN - centred).clamp_min(0).square()
        imagined = (1 - present) * (_MARGIN + centred).clamp_min(0).square()
        loss = 0.5 * (missed + _ABSENT_WEIGHT * imagined).mean(1)
        if capsules is None or self.decoder is None:
            return loss
        remade: Tensor = self.decoder((capsules.float() * present[:, :, None]).flatten(1))
        return loss + _RECONSTRUCTION_WEIGHT * (remade - x.flatten(1)).square().sum(1)


def _decoder(classes: int, pixels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(classes * POSE, 512),
        nn.ReLU(inplace=True),
        nn.Linear(512, 1024),
        nn.ReLU(inplace=True),
        nn.Linear(1024, pixels),
        nn.Sigmoid(),
    )
