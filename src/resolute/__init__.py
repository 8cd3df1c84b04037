"""Feed-forward robust training: one line puts sign noise into a network, one command tells whether it helped."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resolute import attacks, data, methods, models, recipes, suites
    from resolute.comparison import compare
    from resolute.evaluation import evaluate
    from resolute.op import Perturb, perturb
    from resolute.places import Site, sites
    from resolute.surgery import is_robust, robustify, set_eps, unrobustify
    from resolute.tracing import Unreached, unreached
    from resolute.training import train

_HOME = {
    "perturb": "op", "Perturb": "op",
    "robustify": "surgery", "unrobustify": "surgery", "is_robust": "surgery", "set_eps": "surgery",
    "sites": "places", "Site": "places", "unreached": "tracing", "Unreached": "tracing",
    "train": "training", "evaluate": "evaluation", "compare": "comparison",
}  # fmt: skip

__all__ = [
    "Perturb", "Site", "Unreached", "attacks", "compare", "data", "evaluate", "is_robust", "methods", "models",
    "perturb", "recipes", "robustify", "set_eps", "sites", "suites", "train", "unreached", "unrobustify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that `resolute --help` need not wait for torch."""
    if name in _HOME:
        return getattr(importlib.import_module(f"resolute.{_HOME[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"resolute.{name}")
    raise AttributeError(f"module 'resolute' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
