"""Write an evaluation's report.html, results.json, results.csv and RobustBench's entries from its other files."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from typing import TYPE_CHECKING, Any

from resolute.records import write_atomic, write_json
from resolute.report import formats, page, svg
from resolute.report.figures import UNITS, Picture
from resolute.report.judged import ATTACKS, load_judged
from resolute.report.panel import label_ends, line, margin, mark, panel

if TYPE_CHECKING:
    from pathlib import Path

    from resolute.report.judged import Judged, Row


def write_judged(folder: Path) -> Path:
    """Rebuild an evaluation's reports from its other files.

    Args:
        folder: The folder of an evaluation.

    Returns:
        The path of ``report.html``.
    """
    judged = load_judged(folder)
    write_json(folder / "results.json", as_json(judged))
    write_atomic(folder / "results.csv", as_csv(judged))
    for name, entry in robustbench(judged).items():
        write_json(folder / "robustbench" / f"{name}.json", entry)
    write_atomic(folder / "report.html", render(judged))
    return folder / "report.html"


def as_json(judged: Judged) -> dict[str, Any]:
    """Lay an evaluation out for other programs.

    Args:
        judged: The evaluation.

    Returns:
        Settings, a row for each line of the table and each severity, checks. Errors are shares in [0, 1]; what is not
        a number is None.
    """
    stamp = {key: judged.stamp[key] for key in ("data", "split", "n", "images_sha256", "suites", "seed", "networks")}
    return {
        **stamp,
        "command": judged.stamp["command"],
        "environment": judged.environment,
        "table": [_row(row) for row in judged.rows],
        "details": [_row(row) for row in judged.details],
        "benchmarks": [dataclasses.asdict(benchmark) for benchmark in judged.benchmarks],
        "checks": judged.checks,
    }


def _row(row: Row) -> dict[str, Any]:
    severity = None if math.isnan(row.severity) else row.severity
    found = dataclasses.asdict(row)
    return {"suite": row.suite, "shift": row.shift or "mean", "severity": severity} | {
        key: found[key] for key in ("errors", "pairs") if found[key]
    }


def as_csv(judged: Judged) -> str:
    """Lay an evaluation out for a spreadsheet: a line for each network, shift and severity.

    Args:
        judged: The evaluation.

    Returns:
        Lines with a header; errors are shares in [0, 1].
    """
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
    """Write entries in the manner of RobustBench's model_info files.

    Accuracies are text in percent with two decimals, as there. What is not known here is None; ``attack`` names what
    was run where it is not AutoAttack.

    Args:
        judged: The evaluation.

    Returns:
        For each network and threat that was measured, ``NETWORK-THREAT``, its entry.
    """
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
                entries[f"{network['folder']}-{suite}"] = entry
        for (_, shift, radius), wrong in error.items():
            if shift in ATTACKS and radius:
                own = {"autoattack_acc": None, "attack": shift, f"{shift}_acc": _accuracy(wrong)}
                at = formats.fraction(radius)
                entry = shared | {"threat_model": "Linf", "eps": at} | own
                entries[f"{network['folder']}-Linf-{shift}-{at.replace('/', 'of')}"] = entry
    return entries


def _accuracy(error: float) -> str:
    return f"{100 * (1 - error):.2f}"


def draw_curves_of(judged: Judged) -> list[Picture]:
    """Draw error against severity, a panel for each shift; the vertical axis is shared.

    Args:
        judged: The evaluation.

    Returns:
        A picture for each shift that has two severities or more.
    """
    shifts: dict[tuple[str, str], list[Row]] = {}
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


def _draw(judged: Judged, place: tuple[str, str], rows: list[Row], name: str, top: float) -> Picture:
    told, ends = [], {}
    x = [row.severity for row in rows]
    with svg.style():
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
        return Picture(place[1], f"{place[0]}; error, %", svg.render(figure, name, title, "; ".join(told)))


def render(judged: Judged) -> str:
    """Write the report as one HTML page that needs nothing else: no script, no font, no request.

    Args:
        judged: The evaluation.

    Returns:
        The page. Text from the run is escaped.
    """
    return page.render(
        "evaluation.html",
        judged=judged,
        colours={name: svg.VARIABLES[mark(at)] for at, name in enumerate(judged.networks)},
        curves=draw_curves_of(judged),
        facts=facts(judged),
    )


def facts(judged: Judged) -> dict[str, list[tuple[str, Any]]]:
    """List how an evaluation was made.

    Args:
        judged: The evaluation.

    Returns:
        For each heading the names and values.
    """
    own = [(name, judged.stamp[name]) for name in ("data", "split", "n", "seed", "images_sha256")]
    networks = [(f"{one['name']}, {one['architecture']}", one["sha256"][:16]) for one in judged.stamp["networks"]]
    return {"Evaluation": own + networks, "Machine and versions": list(judged.environment.items())}
