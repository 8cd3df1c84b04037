"""What a survey of curvature says: a row for each network, methods compared over paired seeds, relation to errors."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from resolute.errors import InputError
from resolute.records import read_json
from resolute.stats import Interval, holm, paired_t

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

QUANTITIES = {
    "input-jacobian": "input Jacobian, norm",
    "input-top": "input Hessian, largest",
    "input-trace": "input Hessian, trace",
    "parameter-top": "parameter Hessian, largest",
    "parameter-top-of-a-part": "the same on a quarter of the images",
    "parameter-lowest": "parameter Hessian, most negative",
    "parameter-trace": "parameter Hessian, trace",
}
"""What is measured, by its key in the files. Of the input: the mean over images; intervals are over images, of the
trace by the parameters over random vectors, of the most negative eigenvalue the bound on its own error."""

OUTCOMES = tuple(key for key in QUANTITIES if key != "parameter-top-of-a-part")
"""What methods are compared in; the eigenvalue on a part says how much the number of images matters."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method against the first one in a quantity, over paired seeds.

    Attributes:
        method: Its name.
        quantity: A key of `QUANTITIES`.
        ratio: Geometric mean of its value over the first method's, with the t interval of the logarithm.
        seeds: Pairs.
        p: Of the paired t test on logarithms.
        p_holm: Adjusted for all comparisons of the survey.
    """

    method: str
    quantity: str
    ratio: Interval
    seeds: int
    p: float
    p_holm: float


def load_survey(folder: Path) -> dict[str, Any]:
    """Read the files of a survey.

    Args:
        folder: The folder.

    Returns:
        ``{"stamp", "environment", "networks"}``; the networks that are measured, in the order that they
        were given; all that are asked for are in the stamp.

    Raises:
        InputError: If none is measured yet.
    """
    stamp = read_json(folder / "survey.json")
    files = [folder / "networks" / f"{network['file']}.json" for network in stamp["networks"]]
    networks = [read_json(file) for file in files if file.exists()]
    if not networks:
        raise InputError(f"{folder} holds no measured network yet: its survey goes on by the command that began it.")
    return {"stamp": stamp, "environment": read_json(folder / "environment.json"), "networks": networks}


def interval(quantity: Mapping[str, Any]) -> Interval:
    """Bound a quantity by 1.96 standard errors.

    Args:
        quantity: ``{"value", "se", "n"}``.

    Returns:
        The interval; NaN bounds without a standard error.
    """
    half = math.nan if quantity["se"] is None else 1.96 * quantity["se"]
    return Interval(quantity["value"], quantity["value"] - half, quantity["value"] + half)


def by_method(networks: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Group networks that are called METHOD-seedN.

    Args:
        networks: The networks.

    Returns:
        Method to seed to network; without the networks that have other names.
    """
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for network in networks:
        if match := re.fullmatch(r"(.+)-seed(\d+)", network["name"]):
            groups.setdefault(match[1], {})[int(match[2])] = network
    return groups


def compare_methods(networks: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """Compare each method with the first over the seeds that both have, by the ratio of each quantity.

    Args:
        networks: The networks.

    Returns:
        The comparisons with two pairs or more whose values have one sign and are not zero.
    """
    groups = by_method(networks)
    if not groups:
        return []
    first, *others = groups
    found = []
    for method in others:
        seeds = sorted(groups[first].keys() & groups[method].keys())
        for quantity in OUTCOMES:
            pairs = [[groups[m][seed]["quantities"].get(quantity) for m in (method, first)] for seed in seeds]
            if len(pairs) < 2 or any(one is None for pair in pairs for one in pair):
                continue
            ratios = [own["value"] / base["value"] if base["value"] else 0.0 for own, base in pairs]
            if min(ratios) <= 0:
                continue
            change, p = paired_t([math.log(ratio) for ratio in ratios])
            ratio = Interval(*(math.exp(v) for v in (change.mean, change.low, change.high)))
            found.append((method, quantity, ratio, len(seeds), p))
    if not found:
        return []
    adjusted = holm([row[-1] for row in found])
    return [Comparison(*row, p_holm=float(p)) for row, p in zip(found, adjusted, strict=True)]


def relate(
    networks: Sequence[Mapping[str, Any]], errors: Mapping[str, Mapping[str, float]]
) -> list[tuple[str, str, float, float, int]]:
    """Correlate each quantity with the errors of the same networks under each suite, by Spearman's rank correlation.

    Args:
        networks: The networks.
        errors: Network name to suite to error in [0, 1].

    Returns:
        ``(quantity, suite, rho, p, networks)``, where five networks or more have both and neither is constant.
    """
    from scipy.stats import spearmanr

    suites = sorted({suite for own in errors.values() for suite in own})
    rows = []
    for quantity in OUTCOMES:
        for suite in suites:
            pairs = [
                (network["quantities"][quantity]["value"], errors[network["name"]][suite])
                for network in networks
                if quantity in network["quantities"] and suite in errors.get(network["name"], {})
            ]
            if len(pairs) < 5 or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
                continue
            values, shares = zip(*pairs, strict=True)
            rho, p = spearmanr(list(values), list(shares))
            rows.append((quantity, suite, float(rho), float(p), len(pairs)))
    return rows
