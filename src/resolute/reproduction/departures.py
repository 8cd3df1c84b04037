"""Which measurement belongs to which row, and in what its training departs from the row's recipe."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from resolute.data import customs
from resolute.recipes import TRAINED, WEIGHTS
from resolute.report.formats import count, fraction
from resolute.reproduction.results import WEIGHTS as PRETRAINED
from resolute.reproduction.results import training_of

if TYPE_CHECKING:
    from resolute.paper import Row
    from resolute.records import Key
    from resolute.reproduction.results import Pool


COPIES = {"cifar10-jpeg": "cifar10"}
"""Folders that hold a data set in another form, by their names."""


def fits(row: Row, pool: Pool) -> bool:
    """Tell whether a pool measured a row: its method, its network and its data, in whatever copy.

    Args:
        row: The row.
        pool: The pool.

    Returns:
        Whether it did. Another rate of dropout is the same network; a folder named as in `COPIES` holds the same set;
        a part of the training set is another set.
    """
    if pool.method == PRETRAINED:
        weights = WEIGHTS.get(row.id)
        return row.method == "base" and weights is not None and weights.model == pool.training["model"]
    if row.id not in TRAINED or pool.method != row.method or pool.training["train_fraction"] < 1:
        return False
    recipe, data = TRAINED[row.id].recipe, _folder(pool.training["data"])
    same_network = _without_rate(pool.training["model"]) == _without_rate(recipe.model)
    return same_network and COPIES.get(data, data) == recipe.data


def departures(row: Row, pool: Pool, key: Key) -> tuple[str, ...]:
    """Say in what a measurement departs from the row's recipe.

    Args:
        row: The row.
        pool: A pool that fits it.
        key: What was measured: suite, shift and severity.

    Returns:
        ``"epochs 12 instead of 120"`` and so on; empty for the recipe as it stands. Published weights have none.
    """
    if pool.method == PRETRAINED:
        return WEIGHTS[row.id].deviations
    recipe = TRAINED[row.id].recipe.resolved(*customs(row.data))
    ours, theirs = training_of(recipe), {**pool.training, **pool.setting}
    ours |= {name: getattr(recipe.settings, name) for name in pool.setting}
    said = [
        f"{_plain(name)} {_shown(name, theirs[name])} instead of {_shown(name, ours[name])}"
        for name in theirs
        if name in ours and theirs[name] != ours[name]
    ]
    if (seeds := len(pool.errors(key))) < len(recipe.seeds):
        said.append(f"{seeds} of {len(recipe.seeds)} seeds")
    if lost := len(pool.asked - pool.counts.keys()):
        said.append(f"{count(lost, 'more seed')} asked for and without a result")
    return tuple(said)


def setting_words(pool: Pool) -> str:
    """Say how strong the method was and where.

    Args:
        pool: The pool.

    Returns:
        ``"eps 0.1 at hidden"``, ``"radius 0.1"``, or "".
    """
    setting = pool.setting
    if "eps" in setting:
        p = "" if setting["p"] == 0.5 else f", p {setting['p']:g}"
        return f"eps {setting['eps']:g} at {setting['where']}{p}"
    return f"radius {fraction(setting['radius'])}" if "radius" in setting else ""


def _folder(data: str) -> str:
    return PurePath(data).name


def _without_rate(model: str) -> str:
    return model.partition("-drop")[0]


def _plain(name: str) -> str:
    return name.removeprefix("train.").replace("augment.", "augmentation's ").replace("_", " ")


def _shown(name: str, value: Any) -> str:
    if name == "data":
        return _folder(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(f"{item:g}" for item in value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
