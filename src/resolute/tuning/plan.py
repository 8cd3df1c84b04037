"""What is tuned: the method, the settings to try, and how much may be spent."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resolute.errors import InputError, unknown
from resolute.methods import Settings
from resolute.recipes import identity

if TYPE_CHECKING:
    from resolute.recipes import Recipe

METHODS = ("r", "gaussian", "additive", "dropout")
"""Methods that have an eps and a place; only ``r`` has a p."""
EPS = (0.1, 0.3, 0.05, 0.6, 0.2)
"""Strengths that each place is tried with first; the ends of what the curve shows are among them."""
PLACES = ("hidden", "input", "both")
MARGIN = 0.005
"""Half a percentage point, chosen here: what a search is worth at least."""
SCREEN = 3
"""Seeds that each setting is tried with: the fewest whose t interval (factor 4.3) still says something."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try, on validation images only.

    Attributes:
        recipe: Data, network, training, suites and seeds; its split becomes ``"validation"``.
        method: What is tuned, one of `METHODS`.
        eps: Strengths that each place is tried with, before the search goes on by itself.
        places: Places of the noise.
        trials: Settings that are tried at most.
        margin: A gain below this, as a share of the images, is none: see `tune`. None is half of the baseline's error,
            at most `MARGIN`.
        timeout: Seconds after which no further setting is tried; None for no limit.
        jobs: Processes that share the networks of a setting.
    """

    recipe: Recipe
    method: str = "r"
    eps: tuple[float, ...] = EPS
    places: tuple[str, ...] = PLACES
    trials: int = 20
    margin: float | None = None
    timeout: float | None = None
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"{unknown('method', self.method, METHODS)} Those have an eps and a place to be tuned.")
        for eps in self.eps:
            Settings(eps=eps)
        wanted = {
            "eps": (bool(self.eps), "at least one strength"),
            "places": (bool(self.places), "at least one place"),
            "trials": (self.trials >= 1, "at least 1"),
            "margin": (
                self.margin is None or 0 < self.margin < 1,
                "above 0 and below 1, as a share of the images (--margin has points: 0.5 is 0.005)",
            ),
            "timeout": (self.timeout is None or self.timeout > 0, "a number of seconds above 0"),
            "jobs": (self.jobs >= 1, "at least 1"),
        }
        for name, (good, want) in wanted.items():
            if not good:
                raise InputError(f"{name} is {getattr(self, name)!r}; it must be {want}.")

    @property
    def held_out(self) -> Recipe:
        """The recipe as tuning runs it: judged on the validation images, which are kept out of training."""
        methods = (self.recipe.baseline, self.method)
        return replace(self.recipe, methods=methods, split="validation", hold_out=True)

    @property
    def grid(self) -> list[tuple[float, str]]:
        """The settings that are tried first, as (eps, place), places alternating."""
        return [(eps, place) for eps in self.eps for place in self.places]

    @property
    def identity(self) -> dict[str, Any]:
        """What a folder must agree in to be gone on with: not where the data lies, nor how much may be spent."""
        stored = identity(self.held_out)
        del stored["settings"]
        return {"recipe": stored, "method": self.method, "eps": list(self.eps), "places": list(self.places)}


def variant(method: str, settings: Settings) -> str:
    """Name a setting as `resolute.methods.find` reads it.

    Args:
        method: Name of the method.
        settings: Its eps, place and p; p is left out where it is 0.5.

    Returns:
        ``r@eps=0.3@where=input``.

    >>> variant("r", Settings(eps=0.3, p=0.4, where="input"))
    'r@eps=0.3@where=input@p=0.4'
    """
    p = "" if settings.p == 0.5 else f"@p={settings.p:g}"
    return f"{method}@eps={settings.eps:g}@where={settings.where}{p}"


def default_folder(plan: Plan) -> Path:
    """Name the folder of a study: the same one goes on where it stopped, another gets another folder.

    Args:
        plan: What is tuned.

    Returns:
        ``runs/tune-NAME-HASH`` below the current folder.
    """
    digest = hashlib.sha256(json.dumps(plan.identity).encode()).hexdigest()
    return Path("runs") / f"tune-{plan.recipe.name}-{digest[:8]}"
