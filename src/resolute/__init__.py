"""Feed-forward robust training: one line puts sign noise into a network, one command tells whether it helped.

The method (`resolute.noise`) needs torch and numpy alone. Everything else is the lab: it needs the packages of
``pip install "resolute[lab]"``, and without them each of its names raises an ImportError of one sentence.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resolute import attacks, data, methods, models, shifts
    from resolute.experiment import recipe as recipes
    from resolute.experiment.evaluation import evaluate
    from resolute.experiment.grid import compare
    from resolute.noise.perturb import Perturb, perturb
    from resolute.noise.robustify import is_robust, quiet, robustify, set_eps, unrobustify
    from resolute.noise.schedule import EpsSchedule
    from resolute.noise.sites import Site, sites
    from resolute.noise.statistics import update_bn
    from resolute.noise.strength import Strength, calibrate, strength
    from resolute.noise.unreached import Unreached, unreached
    from resolute.training.loop import train

_HOME = {
    "perturb": "noise.perturb", "Perturb": "noise.perturb",
    "robustify": "noise.robustify", "unrobustify": "noise.robustify",
    "is_robust": "noise.robustify", "set_eps": "noise.robustify", "quiet": "noise.robustify",
    "update_bn": "noise.statistics", "EpsSchedule": "noise.schedule",
    "sites": "noise.sites", "Site": "noise.sites",
    "strength": "noise.strength", "Strength": "noise.strength", "calibrate": "noise.strength",
    "unreached": "noise.unreached", "Unreached": "noise.unreached",
    "train": "training", "evaluate": "experiment.evaluation", "compare": "experiment.grid",
}  # fmt: skip

_MODULES = {"recipes": "experiment.recipe", "suites": "shifts"}
"""Modules by other names: recipes is short for experiment.recipe, suites is what shifts was called before."""

_LAB = frozenset({
    "cli", "curvature", "data", "evaluation", "experiment", "methods", "models", "paper", "progress", "report",
    "run_folder", "safe_io", "shifts", "stats", "training", "transforms",
})  # fmt: skip
"""Modules that need the extra ``lab``; `attacks`, `config`, `errors` and `noise` do without."""

_LAB_PACKAGES = {
    "filelock": "filelock", "jinja2": "jinja2", "lightning_fabric": "lightning-fabric", "matplotlib": "matplotlib",
    "PIL": "pillow", "pyarrow": "pyarrow", "rich": "rich", "safetensors": "safetensors", "scipy": "scipy",
    "sklearn": "scikit-learn", "tensorboard": "tensorboard", "timm": "timm", "torchvision": "torchvision",
    "typer": "typer",
}  # fmt: skip
"""What that extra brings: each by the name that it is imported by, and the one that it is installed by."""

_NAMED = 3
"""Missing packages that a message names."""

__all__ = [
    "EpsSchedule", "Perturb", "Site", "Strength", "Unreached", "attacks", "calibrate", "compare", "data", "evaluate",
    "is_robust", "methods", "models", "perturb", "quiet", "recipes", "robustify", "set_eps", "shifts", "sites",
    "strength", "train", "unreached", "unrobustify", "update_bn",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for, so that `resolute --help` need not wait for torch."""
    if name == "__version__":
        return importlib.metadata.version("resolute")
    home = _MODULES.get(name) or _HOME.get(name) or (name if name in __all__ else None)
    if home is None:
        raise AttributeError(f"module 'resolute' has no attribute {name!r}; it has {', '.join(__all__)}")
    if home.partition(".")[0] in _LAB:
        check_lab(f"resolute.{name}")
    module = importlib.import_module(f"resolute.{home}")
    return getattr(module, name) if name in _HOME else module


def __dir__() -> list[str]:
    return __all__


def check_lab(user: str) -> None:
    """Refuse, in the name of what needs it, to continue without the packages of the extra ``lab``."""
    missing = [package for module, package in _LAB_PACKAGES.items() if not _is_there(module)]
    if missing:
        from resolute.errors import MissingPackageError

        names, more = ", ".join(missing[:_NAMED]), len(missing) - _NAMED
        which = f"{names} and {more} more" if more > 0 else names
        raise MissingPackageError(
            f'{user} needs {which}, which {"are" if missing[1:] else "is"} not installed: pip install "resolute[lab]"'
        )


def _is_there(module: str) -> bool:
    return sys.modules.get(module) is not None or importlib.util.find_spec(module) is not None


class _LabFinder:
    """Asked before Python's own finders, for ``import resolute.data`` and its like; it finds nothing itself."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> None:  # noqa: ARG002
        package, _, module = name.partition(".")
        if package == "resolute" and module in _LAB:
            check_lab(name)


sys.meta_path.insert(0, _LabFinder())
