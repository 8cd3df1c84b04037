"""The report of an evaluation: errors with intervals, networks compared on the same images, mCE, the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.errors import InputError
from resolute.evaluation.measure import RIGHT, not_finite, part_file
from resolute.report import figures, numbers, page
from resolute.report.figures import UNITS, Picture, label_ends, line, margin, mark, panel
from resolute.report.numbers import bounds, fraction, percent, points, severity
from resolute.report.page import VERDICT_COLOURS
from resolute.run_folder import file_name, read_sealed, write_atomic, write_json
from resolute.shifts.released import ALEXNET, ALEXNET_CLEAN
from resolute.stats import Interval, Verdict, error_interval, holm, mcnemar_clustered, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import RenderableType
    from rich.text import Text

    from resolute.run_folder import Key


SEVERITIES = (1.0, 2.0, 3.0, 4.0, 5.0)

Z_OLD = 1.96


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What one suite of 15 corruptions at 5 severities comes to.

    Attributes:
        suite: Name of the suite.
        figures: For each network its figures by name: ``"mean error"``; for ImageNet ``"mCE"`` and ``"relative mCE"``
            too, as shares: 1 is AlexNet's.
    """

    suite: str
    figures: dict[str, dict[str, Interval]]

    def told(self, network: str) -> str:
        """Write a network's figures on one line."""
        own = self.figures[network]
        return ", ".join(f"{name} {percent(value.mean)} % ({bounds(value)})" for name, value in own.items())


def benchmarks(bits: Mapping[str, Mapping[Key, NDArray[np.bool_]]], data: str) -> tuple[Benchmark, ...]:
    """Sum up every suite that was run on all 15 corruptions at all 5 severities."""
    # AlexNet's errors are those on the released ImageNet-C: for data of another name there is the plain mean alone,
    # which is the figure for CIFAR-10-C and CIFAR-100-C.
    found = next(iter(bits.values()))
    suites = dict.fromkeys(suite for suite, _, _ in found)
    whole = [s for s in suites if all((s, name, severity) in found for name in ALEXNET for severity in SEVERITIES)]
    return tuple(
        Benchmark(suite, {name: _figures(own, suite, alexnet=data == "imagenet") for name, own in bits.items()})
        for suite in whole
    )


def _figures(right: Mapping[Key, NDArray[np.bool_]], suite: str, *, alexnet: bool) -> dict[str, Interval]:
    wrong = np.stack([np.mean([~right[suite, name, s] for s in SEVERITIES], axis=0) for name in ALEXNET])
    clean = ~right["clean", "clean", 0.0]
    theirs = np.array(list(ALEXNET.values()))[:, None]
    scores = {"mean error": wrong}
    if alexnet:
        scores |= {"mCE": wrong / theirs, "relative mCE": (wrong - clean) / (theirs - ALEXNET_CLEAN)}
    return {name: _over_images(score.mean(0)) for name, score in scores.items()}


def _over_images(score: NDArray[np.float64]) -> Interval:
    """The mean of one score an image, with the normal interval over images."""
    mean, n = float(score.mean()), len(score)
    half = Z_OLD * float(score.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half)


Z = NormalDist().inv_cdf(0.975)
ATTACKS = ("fgsm", "pgd", "square", "autoattack")
"""Shifts whose severity is a radius: each has a line of its own in tables. Of others the mean is shown."""


@dataclass(frozen=True, slots=True)
class ShiftRow:
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
        checks: What the sanity checks found; see `resolute.evaluation.sanity`.
        examples: Images that were got wrong.
        warnings: What a reader has to know before the figures: answers that are no numbers.
    """

    stamp: dict[str, Any]
    environment: dict[str, Any]
    networks: tuple[str, ...]
    rows: tuple[ShiftRow, ...]
    details: tuple[ShiftRow, ...]
    benchmarks: tuple[Benchmark, ...]
    checks: dict[str, Any]
    examples: list[dict[str, Any]]
    warnings: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many images were shown."""
        return int(self.stamp["n"])

    @property
    def shown(self) -> str:
        """Which images were shown."""
        if self.n == self.stamp["total"]:
            return f"{self.n:,} images of {self.stamp['data']}"
        return f"{self.n:,} of {self.stamp['total']:,} images of {self.stamp['data']}, balanced by class"


def load_judged(folder: Path) -> Judged:
    """Read the folder of an evaluation."""
    stored = read_sealed(folder / "evaluation.json")
    stamp = {**stored["identity"], "command": stored["command"], "info": stored["info"]}
    keys: list[Key] = [(suite, shift, float(severity)) for suite, shift, severity in stamp["keys"]]
    names = [network["name"] for network in stamp["networks"]]
    answers = {name: part_file(folder, name, stored["identity"]).load() for name in names}
    missing = sum(len(own.get(key, ())) != stamp["n"] for own in answers.values() for key in keys)
    if missing:
        raise InputError(f"{folder} lacks {missing} shifts: the evaluation is not finished. Run it again.")
    bits = {name: {key: own[key] == RIGHT for key in keys} for name, own in answers.items()}
    return Judged(
        stamp=stamp,
        environment=read_sealed(folder / "environment.json"),
        networks=tuple(bits),
        rows=_compared(bits, _grouped(keys)),
        details=_compared(bits, [(*key, [key]) for key in keys]),
        benchmarks=benchmarks(bits, stamp["data"]),
        checks=read_sealed(folder / "checks.json"),
        examples=read_sealed(folder / "examples.json")["examples"],
        warnings=tuple(sentence for name, own in answers.items() for sentence in not_finite(name, own)),
    )


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


def _compared(bits: Mapping[str, Mapping[Key, NDArray[np.bool_]]], lines: Sequence[_Group]) -> tuple[ShiftRow, ...]:
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
        rows.append(ShiftRow(suite, shift, level, errors, pairs))
    return tuple(rows)


def _wrong(found: Mapping[Key, NDArray[np.bool_]], keys: Sequence[Key]) -> NDArray[np.bool_]:
    return ~np.stack([found[key] for key in keys])


def bounded(wrong: NDArray[np.bool_]) -> Interval:
    """Bound the mean error over some shifts of the same images."""
    # The images are the independent units: the interval is Wilson's for the mean error and n images, which is exact for
    # one shift and wider than needed for several.
    return error_interval([wrong.mean()], wrong.shape[1])


def paired_interval(wrong_a: NDArray[np.bool_], wrong_b: NDArray[np.bool_]) -> Interval:
    """Bound the difference of two networks' errors on the same images."""
    # Wald's interval of the mean of ``d_i``, the difference of image i's mean errors, after half an image that only the
    # first gets wrong, half an image that only the second does, and one on which both agree were added (Agresti and Min
    # 2005), so that it has a width where the two never disagree.
    d = wrong_a.mean(0) - wrong_b.mean(0)
    n = len(d) + 2
    centre = float(d.sum()) / n
    half = Z * math.sqrt(((float((d * d).sum()) + 1) / n - centre**2) / n)
    mean = float(d.mean())
    return Interval(mean, min(mean, centre - half), max(mean, centre + half))


RESULTS = {"passed": "green", "failed": "red", "not run": "dim"}


def console_judged(judged: Judged) -> list[RenderableType]:
    """Lay an evaluation out for a terminal: errors, then what can be said of attacks."""
    from rich.text import Text

    shown: list[RenderableType] = [Text(f"error in % on {judged.shown}, 95 % intervals over images"), _table(judged)]
    shown += [Text(f"warning: {sentence}", "bold yellow") for sentence in judged.warnings]
    for benchmark in judged.benchmarks:
        shown += [Text(f"{benchmark.suite}, 15 at 5 severities, {n}: {benchmark.told(n)}") for n in judged.networks]
    for name, found in judged.checks.items():
        shown.append(Text(f"{name}: {found['sentence']}", "bold"))
        for check in found["checks"]:
            result = Text(f"  {check['result']:8}", RESULTS[check["result"]])
            shown.append(result + Text(f" {check['name']}. {check['found']}", ""))
    return shown


def _table(judged: Judged) -> RenderableType:
    from rich import box
    from rich.table import Table

    first, *others = judged.networks
    caption = f"change: less {first}, in percentage points, images paired" if others else None
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=caption, caption_justify="left",
        caption_style="dim",
    )  # fmt: skip
    table.add_column("", overflow="fold", min_width=20)
    table.add_column("network", overflow="fold")
    table.add_column("error", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    if others:
        table.add_column("change", justify="right", no_wrap=True)
        table.add_column("verdict", no_wrap=True)
    for row, following in zip(judged.rows, [*judged.rows[1:], None], strict=True):
        for name in judged.networks:
            last = name == judged.networks[-1] and (following is None or following.suite != row.suite)
            table.add_row(*_line(row, name, first, paired=bool(others)), end_section=last)
    return table


def _line(row: ShiftRow, name: str, first: str, *, paired: bool) -> list[Text]:
    from rich.text import Text

    label = row.label if row.shift else f"{row.suite}: mean"
    error = row.errors[name]
    cells = [
        Text(label if name == first else "", "" if row.shift else "bold"),
        Text(name),
        Text(percent(error.mean)),
        Text(f"({bounds(error).replace(' to ', '-')})", "dim"),
    ]
    if not paired:
        return cells
    pair = row.pairs.get(name)
    if pair is None:
        return [*cells, Text(""), Text("")]
    word = pair.verdict.replace("no difference seen", "none seen")
    return [*cells, Text(points(pair.difference.mean)), Text(word, VERDICT_COLOURS[pair.verdict])]


def write_judged(folder: Path) -> Path:
    """Rebuild an evaluation's reports from its other files."""
    judged = load_judged(folder)
    write_json(folder / "results.json", as_json(judged))
    write_atomic(folder / "results.csv", as_csv(judged))
    for name, entry in robustbench(judged).items():
        write_json(folder / "robustbench" / f"{name}.json", entry)
    write_atomic(folder / "report.html", render(judged))
    return folder / "report.html"


SHOWN = ("data", "split", "n", "total", "seed", "images_sha256", "labels_sha256")
"""What identifies the images of an evaluation."""


def as_json(judged: Judged) -> dict[str, Any]:
    """Lay an evaluation out for other programs."""
    stamp = {key: judged.stamp[key] for key in (*SHOWN, "suites", "networks")}
    return {
        **stamp,
        "command": judged.stamp["command"],
        "environment": judged.environment,
        "table": [_row(row) for row in judged.rows],
        "details": [_row(row) for row in judged.details],
        "benchmarks": [dataclasses.asdict(benchmark) for benchmark in judged.benchmarks],
        "checks": judged.checks,
        "warnings": list(judged.warnings),
    }


def _row(row: ShiftRow) -> dict[str, Any]:
    severity = None if math.isnan(row.severity) else row.severity
    found = dataclasses.asdict(row)
    return {"suite": row.suite, "shift": row.shift or "mean", "severity": severity} | {
        key: found[key] for key in ("errors", "pairs") if found[key]
    }


def as_csv(judged: Judged) -> str:
    """Lay an evaluation out for a spreadsheet: a line for each network, shift and severity."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = ["data", "network", "suite", "shift", "severity", "n", "wrong", "error", "low", "high"]
    pair = ["difference", "difference_low", "difference_high", "p", "p_holm", "verdict"]
    header += pair * (len(judged.networks) > 1)
    writer.writerow(header)
    for row in judged.details:
        for name, error in row.errors.items():
            cells: list[Any] = [judged.stamp["data"], name, row.suite, row.shift, f"{row.severity:.6g}", judged.n]
            cells += [round(error.mean * judged.n), *(f"{v:.6f}" for v in (error.mean, error.low, error.high))]
            if found := row.pairs.get(name):
                difference = found.difference
                cells += [f"{v:.6f}" for v in (difference.mean, difference.low, difference.high)]
                cells += [f"{found.p:.6g}", f"{found.p_holm:.6g}", found.verdict]
            writer.writerow(cells + [""] * (len(header) - len(cells)))
    return stream.getvalue()


def robustbench(judged: Judged) -> dict[str, dict[str, Any]]:
    """Write entries in the manner of RobustBench's model_info files."""
    # Accuracies are text in percent with two decimals, as there. What is not known here is None; ``attack`` names what
    # was run where it is not AutoAttack.
    entries = {}
    for network in judged.stamp["networks"]:
        name = network["name"]
        error = {(row.suite, row.shift, row.severity): row.errors[name].mean for row in judged.details}
        shared = {
            "link": None, "name": name, "authors": None, "additional_data": None, "number_forward_passes": 1,
            "dataset": judged.stamp["data"], "venue": None, "architecture": network["architecture"],
            "n_examples": judged.n, "clean_acc": _accuracy(error["clean", "clean", 0.0]),
        }  # fmt: skip
        means = {row.suite: row.errors[name].mean for row in judged.rows if not row.shift}
        for suite in ("corruptions", "cifar10-c", "cifar100-c", "imagenet-c"):
            if suite in means:
                entry = shared | {"eps": None, "corruptions": suite, "corruptions_acc": _accuracy(means[suite])}
                entries[f"{file_name(name)}-{suite}"] = entry
        for (_, shift, radius), wrong in error.items():
            if shift in ATTACKS and radius:
                own = {"autoattack_acc": None, "attack": shift, f"{shift}_acc": _accuracy(wrong)}
                at = numbers.fraction(radius)
                entry = shared | {"threat_model": "Linf", "eps": at} | own
                entries[f"{file_name(name)}-Linf-{shift}-{at.replace('/', 'of')}"] = entry
    return entries


def _accuracy(error: float) -> str:
    return f"{100 * (1 - error):.2f}"


def draw_curves_of(judged: Judged) -> list[Picture]:
    """Draw error against severity, a panel for each shift; the vertical axis is shared."""
    shifts: dict[tuple[str, str], list[ShiftRow]] = {}
    for row in judged.details:
        if row.severity:
            shifts.setdefault((row.suite, row.shift), []).append(row)
    clean = [row for row in judged.details if row.suite == "clean"]
    curves = {place: clean + rows for place, rows in shifts.items() if len(rows) > 1}
    top = max((e.high for rows in curves.values() for row in rows for e in row.errors.values()), default=1.0)
    return [
        _draw(judged, place, sorted(rows, key=lambda row: row.severity), f"curve-{at}", top)
        for at, (place, rows) in enumerate(curves.items())
    ]


def _draw(judged: Judged, place: tuple[str, str], rows: list[ShiftRow], name: str, top: float) -> Picture:
    told, ends = [], {}
    x = [row.severity for row in rows]
    with figures.style():
        figure, axes = panel(216, left=36, right=margin(judged.networks))
        for at, network in enumerate(judged.networks):
            errors = [row.errors[network] for row in rows]
            y = [100 * e.mean for e in errors]
            axes.fill_between(
                x,
                [100 * e.low for e in errors],
                [100 * e.high for e in errors],
                color=mark(at),
                alpha=0.16,
                linewidth=0,
            )
            line(axes, x, y, at)
            ends[network] = (x[-1], y[-1], at)
            told.append(f"{network}: " + ", ".join(f"{v:.2f} % at {s:.4g}" for s, v in zip(x, y, strict=True)))
        axes.set(ylim=(0, 105 * top or 1), xlabel=UNITS.get(place[1], "severity"))
        axes.locator_params(nbins=5)
        axes.grid(visible=True, axis="y")
        label_ends(axes, ends)
        title = f"Error under {place[1]}"
        return Picture(place[1], f"{place[0]}; error, %", figures.render(figure, name, title, "; ".join(told)))


def render(judged: Judged) -> str:
    """Write the report as one HTML page that needs nothing else: no script, no font, no request."""
    return page.render(
        "evaluation.html",
        judged=judged,
        colours={name: figures.VARIABLES[mark(at)] for at, name in enumerate(judged.networks)},
        curves=draw_curves_of(judged),
        facts=facts(judged),
    )


def facts(judged: Judged) -> dict[str, list[tuple[str, Any]]]:
    """List how an evaluation was made."""
    own = [(name, judged.stamp[name]) for name in SHOWN]
    networks = [(f"{one['name']}, {one['architecture']}", one["sha256"][:16]) for one in judged.stamp["networks"]]
    return {"Evaluation": own + networks, "Machine and versions": list(judged.environment.items())}
