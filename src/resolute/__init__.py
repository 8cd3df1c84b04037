"""Feed-forward robust training: one line puts sign noise into a network, one command tells whether it helped."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resolute import attacks, data, methods, models, shifts
    from resolute.experiment import recipes
    from resolute.experiment.evaluation import evaluate
    from resolute.experiment.grid import compare
    from resolute.noise.perturb import Perturb, perturb
    from resolute.noise.robustify import is_robust, robustify, set_eps, unrobustify
    from resolute.noise.sites import Site, sites
    from resolute.noise.unreached import Unreached, unreached
    from resolute.training.loop import train

_HOME = {
    "perturb": "noise.perturb", "Perturb": "noise.perturb",
    "robustify": "noise.robustify", "unrobustify": "noise.robustify",
    "is_robust": "noise.robustify", "set_eps": "noise.robustify",
    "sites": "noise.sites", "Site": "noise.sites",
    "unreached": "noise.unreached", "Unreached": "noise.unreached",
    "train": "training", "evaluate": "experiment.evaluation", "compare": "experiment.grid",
}  # fmt: skip

_MODULES = {"recipes": "experiment.recipes", "suites": "shifts"}
"""Modules by other names: recipes is short for experiment.recipes, suites is what shifts was called before."""

__all__ = [
    "Perturb", "Site", "Unreached", "attacks", "compare", "data", "evaluate", "is_robust", "methods", "models",
    "perturb", "recipes", "robustify", "set_eps", "shifts", "sites", "train", "unreached", "unrobustify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that `resolute --help` need not wait for torch."""
    if name in _MODULES:
        return importlib.import_module(f"resolute.{_MODULES[name]}")
    if name in _HOME:
        return getattr(importlib.import_module(f"resolute.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"resolute.{name}")
    raise AttributeError(f"module 'resolute' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
