"""Attacks in pixel space: pure functions of (model, images, labels, radius)."""

from __future__ import annotations

from resolute.attacks.gradient import fgsm, input_gradient, losses, pgd
from resolute.attacks.library import autoattack, square, torchattacks
from resolute.attacks.network import answer, evaluating
from resolute.attacks.radius import parse_radius

__all__ = [
    "answer", "autoattack", "evaluating", "fgsm", "input_gradient", "losses", "parse_radius", "pgd", "square",
    "torchattacks",
]  # fmt: skip
