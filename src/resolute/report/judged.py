"""What the files of an evaluation say: errors with intervals, and pairs of networks on the same images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.errors import InputError
from resolute.records import read_bits, read_json
from resolute.report.benchmarks import Benchmark, benchmarks
from resolute.report.formats import fraction, severity
from resolute.stats import Interval, Verdict, error_interval, holm, mcnemar_clustered, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from resolute.records import Key

Z = NormalDist().inv_cdf(0.975)
ATTACKS = ("fgsm", "pgd", "square", "autoattack")
"""Shifts whose severity is a radius: each has a line of its own in tables. Of others the mean is shown."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    Attributes:
        suite: Name of the suite.
        shift: Name of the shift, or "" for the mean over a suite.
        severity: The severity; NaN for a mean over several.
        errors: For each network its error and 95 % interval.
        pairs: For each network but the first how it compares with the first.
    """

    suite: str
    shift: str
    severity: float
    errors: dict[str, Interval]
    pairs: dict[str, Pair]

    @property
    def label(self) -> str:
        """The row's name below its suite's."""
        if not self.shift:
            return "mean"
        if math.isnan(self.severity) or not self.severity:
            return self.shift
        return f"{self.shift} {fraction(self.severity) if self.shift in ATTACKS else severity(self.severity)}"


@dataclass(frozen=True, slots=True)
class Pair:
    """A network against the first one, on the same images.

    Attributes:
        difference: Its error minus the first one's, with a 95 % interval over images.
        p: McNemar's test; images that enter several shifts count once.
        p_holm: The same, adjusted over all rows of the table.
        verdict: ``"better"``, ``"worse"`` or ``"no difference seen"``: of these two networks, for new images.
    """

    difference: Interval
    p: float
    p_holm: float
    verdict: Verdict


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """An evaluation, read from its folder.

    Attributes:
        stamp: evaluation.json.
        environment: The machine and the versions.
        networks: Names, the first one to compare with.
        rows: The table: each suite's shifts, then its mean.
        details: A line for each shift and severity.
        benchmarks: The figures of each suite of 15 corruptions at 5 severities.
        checks: What the sanity checks found; see `resolute.evaluation.checks`.
        examples: Images that were got wrong.
    """

    stamp: dict[str, Any]
    environment: dict[str, Any]
    networks: tuple[str, ...]
    rows: tuple[Row, ...]
    details: tuple[Row, ...]
    benchmarks: tuple[Benchmark, ...]
    checks: dict[str, Any]
    examples: list[dict[str, Any]]

    @property
    def n(self) -> int:
        """How many images were shown."""
        return int(self.stamp["n"])


def load_judged(folder: Path) -> Judged:
    """Read the folder of an evaluation.

    Args:
        folder: The folder.

    Returns:
        Errors, intervals and comparisons.

    Raises:
        InputError: If the folder holds no finished evaluation.
    """
    stamp = read_json(folder / "evaluation.json")
    bits = {network["name"]: _bits(folder / "networks" / network["folder"]) for network in stamp["networks"]}
    keys: list[Key] = [(suite, shift, float(severity)) for suite, shift, severity in stamp["keys"]]
    missing = [key for key in keys for found in bits.values() if key not in found]
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} shifts: the evaluation is not finished. Run it again.")
    checks = folder / "checks.json"
    return Judged(
        stamp=stamp,
        environment=read_json(folder / "environment.json"),
        networks=tuple(bits),
        rows=_compared(bits, _grouped(keys)),
        details=_compared(bits, [(*key, [key]) for key in keys]),
        benchmarks=benchmarks(bits, stamp["data"]),
        checks=read_json(checks) if checks.exists() else {},
        examples=read_json(folder / "examples.json"),
    )


def _bits(folder: Path) -> dict[Key, NDArray[np.bool_]]:
    return {key: right for file in sorted(folder.glob("*.npz")) for key, right in read_bits(file).items()}


_Group = tuple[str, str, float, list["Key"]]


def _grouped(keys: Sequence[Key]) -> list[_Group]:
    """Name the lines of the table and the columns that each is the mean of."""
    shifts: dict[tuple[str, str], list[Key]] = {}
    suites: dict[str, list[Key]] = {}
    for key in keys:
        shifts.setdefault(key[:2], []).append(key)
        suites.setdefault(key[0], []).append(key)
    lines: list[_Group] = []
    for suite, all_keys in suites.items():
        for own in (own for (name, _), own in shifts.items() if name == suite):
            together = len(own) > 1 and own[0][1] not in ATTACKS
            lines += [(suite, own[0][1], math.nan, own)] if together else [(*key, [key]) for key in own]
        if len({shift for _, shift, _ in all_keys} - set(ATTACKS)) > 1:
            lines.append((suite, "", math.nan, all_keys))
    return lines


def _compared(bits: Mapping[str, Mapping[Key, NDArray[np.bool_]]], lines: Sequence[_Group]) -> tuple[Row, ...]:
    first, *others = bits
    wrong = [{name: _wrong(found, keys) for name, found in bits.items()} for *_, keys in lines]
    p = {name: [mcnemar_clustered(own[name][None], own[first][None]) for own in wrong] for name in others}
    together = holm([value for name in others for value in p[name]])
    adjusted = {name: together[len(lines) * at :] for at, name in enumerate(others)}
    rows = []
    for at, ((suite, shift, level, _), own) in enumerate(zip(lines, wrong, strict=True)):
        errors = {name: bounded(array) for name, array in own.items()}
        pairs = {}
        for name in others:
            difference, p_holm = paired_interval(own[name], own[first]), float(adjusted[name][at])
            pairs[name] = Pair(difference, p[name][at], p_holm, verdict(difference.mean, p_holm))
        rows.append(Row(suite, shift, level, errors, pairs))
    return tuple(rows)


def _wrong(found: Mapping[Key, NDArray[np.bool_]], keys: Sequence[Key]) -> NDArray[np.bool_]:
    return ~np.stack([found[key] for key in keys])


def bounded(wrong: NDArray[np.bool_]) -> Interval:
    """Bound the mean error over some shifts of the same images.

    The images are the independent units: the interval is Wilson's for the mean error and n images, which is exact for
    one shift and wider than needed for several.

    Args:
        wrong: bool [shifts, n].

    Returns:
        The mean error and its 95 % bounds.
    """
    return error_interval([wrong.mean()], wrong.shape[1])


def paired_interval(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> Interval:
    """Bound the difference of two networks' errors on the same images.

    Wald's interval of the mean of ``d_i``, the difference of image i's mean errors, after half an image that only the
    first gets wrong, half an image that only the second does, and one on which both agree were added (Agresti and Min
    2005), so that it has a width where the two never disagree.

    Args:
        wrong_a: Where the first erred, bool [shifts, n].
        wrong_b: The same for the second.

    Returns:
        The difference, first minus second, and its 95 % bounds.
    """
    d = wrong_a.mean(0) - wrong_b.mean(0)
    n = len(d) + 2
    centre = float(d.sum()) / n
    half = Z * math.sqrt(((float((d * d).sum()) + 1) / n - centre**2) / n)
    mean = float(d.mean())
    return Interval(mean, min(mean, centre - half), max(mean, centre + half))
