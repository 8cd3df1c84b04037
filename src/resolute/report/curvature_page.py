"""Write a survey's report.html and curvature.json from its other files, and lay its table out for the console."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from resolute.records import read_json, write_atomic, write_json
from resolute.report import formats, page, svg
from resolute.report.curvature import QUANTITIES, by_method, compare_methods, interval, load_survey, relate
from resolute.report.curvature_figures import draw_density, draw_eigenvalues, draw_norms, draw_surfaces
from resolute.report.panel import mark
from resolute.stats import mean_t

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rich.console import RenderableType
    from rich.table import Table

    from resolute.report.curvature import Comparison

ERRORS = "errors.json"
"""Network name to suite to error: what the records beside the checkpoints say; written by the survey."""


def write_curvature(folder: Path) -> dict[str, Any]:
    """Rebuild a survey's ``report.html`` and ``curvature.json`` from its other files.

    Args:
        folder: The folder of a survey.

    Returns:
        ``{"networks", "comparisons", "correlations", "stamp", "environment"}``.
    """
    found = load_survey(folder)
    path = folder / ERRORS
    comparisons = compare_methods(found["networks"])
    related = relate(found["networks"], read_json(path) if path.exists() else {})
    told = [dataclasses.asdict(row) for row in comparisons]
    result = found | {
        "comparisons": [row | {"ratio": {k: _finite(v) for k, v in row["ratio"].items()}} for row in told],
        "correlations": [dict(zip(("quantity", "suite", "rho", "p", "n"), row, strict=True)) for row in related],
    }
    write_json(folder / "curvature.json", result)
    write_atomic(folder / "report.html", render(found, comparisons, related))
    return result


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def render(found: Mapping[str, Any], comparisons: Sequence[Comparison], related: Sequence[Any]) -> str:
    """Write the survey as one HTML page that needs nothing else.

    Args:
        found: What `load_survey` returned.
        comparisons: Of methods over paired seeds.
        related: Correlations with errors.

    Returns:
        The page. Text from the files is escaped.
    """
    networks = found["networks"]
    drawn = _first_of_each(networks)
    methods = by_method(networks)
    colours = {network["name"]: svg.VARIABLES[mark(_colour(network, drawn, methods))] for network in networks}
    return page.render(
        "curvature.html",
        **found,
        quantities=QUANTITIES,
        cell=cell,
        comparisons=comparisons,
        related=related,
        first=next(iter(methods), ""),
        colours=colours,
        drawn=[network["name"] for network in drawn],
        sentence=sentence(networks, comparisons),
        effect=batch_effect(networks),
        missing=missing(found),
        panels=[draw_density(drawn), draw_eigenvalues(drawn), draw_norms(drawn)],
        surfaces=draw_surfaces(drawn),
        facts=facts(found),
    )


def facts(found: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """List how a survey was made.

    Args:
        found: What `load_survey` returned.

    Returns:
        For each heading the names and values.
    """
    plan = [(name.replace("_", " "), value) for name, value in found["stamp"]["plan"].items()]
    networks = [
        (f"{one['name']}, {one['architecture']}, {one['parameters']:,} parameters", one["sha256"][:16])
        for one in found["networks"]
    ]
    return {"Survey": plan + networks, "Machine and versions": list(found["environment"].items())}


def _first_of_each(networks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Take the first network of each method, and those that belong to no method."""
    methods = by_method(networks)
    firsts = {next(iter(cells.values()))["name"] for cells in methods.values()}
    inside = {cell["name"] for cells in methods.values() for cell in cells.values()}
    return [network for network in networks if network["name"] in firsts or network["name"] not in inside]


def _colour(network: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]], methods: Mapping[str, Any]) -> int:
    names = [one["name"] for one in drawn]
    if network["name"] in names:
        return names.index(network["name"])
    own = next(cells for cells in methods.values() if network["name"] in {c["name"] for c in cells.values()})
    return names.index(next(iter(own.values()))["name"])


def cell(network: Mapping[str, Any], key: str) -> str:
    """Write one quantity of one network.

    Args:
        network: The network.
        key: A key of `QUANTITIES`.

    Returns:
        Value and interval, or a dash where it was not found.
    """
    if key not in network["quantities"]:
        return formats.NONE
    bounds = interval(network["quantities"][key])
    text = f"{bounds.mean:.4g}"
    return text if math.isnan(bounds.low) else f"{text} ({bounds.low:.3g} to {bounds.high:.3g})"


def sentence(networks: Sequence[Mapping[str, Any]], comparisons: Sequence[Comparison]) -> str:
    """Say what the survey found of the largest eigenvalue by the parameters.

    Args:
        networks: The networks.
        comparisons: Of methods over paired seeds.

    Returns:
        A sentence over all methods that are compared, or one that names the values.
    """
    rows = [row for row in comparisons if row.quantity == "parameter-top"]
    if not rows:
        return "; ".join(
            f"{n['name']}: largest eigenvalue {n['quantities']['parameter-top']['value']:.3g}" for n in networks
        )
    told = [
        f"{row.method} {ratio(row)}, {'a difference' if row.p_holm <= 0.05 else 'no difference seen'}" for row in rows
    ]
    return f"Largest eigenvalue by the parameters, times that of {next(iter(by_method(networks)))}: {'; '.join(told)}."


def ratio(row: Comparison) -> str:
    """Write a ratio and its interval.

    Args:
        row: Of a method to the first.

    Returns:
        Three digits each.
    """
    return f"{row.ratio.mean:.3g} ({row.ratio.low:.3g} to {row.ratio.high:.3g})"


def batch_effect(networks: Sequence[Mapping[str, Any]]) -> str:
    """Say how much the number of images matters for the largest eigenvalue.

    Args:
        networks: The networks.

    Returns:
        A sentence.
    """
    ratios = [
        n["quantities"]["parameter-top-of-a-part"]["value"] / n["quantities"]["parameter-top"]["value"]
        for n in networks
        if n["quantities"]["parameter-top"]["value"] > 0
    ]
    if not ratios:
        return ""
    low, high = min(ratios), max(ratios)
    shown = f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
    return (
        f"On a quarter of the images the largest eigenvalue is {shown} times that on all of them: so much does the "
        "number of images matter. The size of the micro-batches changes nothing."
    )


def console_curvature(result: Mapping[str, Any]) -> Iterator[RenderableType]:
    """Lay the survey out for a terminal of 80 columns.

    Args:
        result: What `write_curvature` returned.

    Yields:
        Where methods are compared a table for the first and one for each other, else one for each network; then the
        sentences.
    """
    networks, comparisons = result["networks"], compare_methods(result["networks"])
    if comparisons:
        yield from _compared(by_method(networks), comparisons)
        yield sentence(networks, comparisons)
    else:
        yield from map(_one, networks)
    yield batch_effect(networks)
    if unfinished := missing(result):
        yield unfinished


def missing(found: Mapping[str, Any]) -> str:
    """Say how many networks of a survey are not measured yet.

    Args:
        found: What `load_survey` returned.

    Returns:
        A sentence; "" where all are.
    """
    asked, measured = len(found["stamp"]["networks"]), len(found["networks"])
    if measured == asked:
        return ""
    return f"{measured} of {asked} networks are measured; the survey goes on by the command that began it."


def _plain(title: str) -> Table:
    from rich.table import Table

    return Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)


def _compared(groups: Mapping[str, Mapping[int, Any]], comparisons: Sequence[Comparison]) -> Iterator[Table]:
    first = next(iter(groups))
    table = _plain(f"{first}, mean of {len(groups[first])} networks (95 % interval over them)")
    for key, label in QUANTITIES.items():
        values = [own["quantities"][key]["value"] for own in groups[first].values() if key in own["quantities"]]
        if len(values) > 1:
            mean = mean_t(values)
            table.add_row(label, f"{mean.mean:.4g} ({mean.low:.3g} to {mean.high:.3g})")
    yield table
    for method in dict.fromkeys(row.method for row in comparisons):
        rows = [row for row in comparisons if row.method == method]
        counts = " to ".join(str(n) for n in sorted({row.seeds for row in rows}))
        table = _plain(f"{method}, times {first} (95 % interval over {counts} paired seeds; p after Holm)")
        for row in rows:
            found = "difference" if row.p_holm <= 0.05 else "none seen"
            table.add_row(QUANTITIES[row.quantity], ratio(row), formats.p_value(row.p_holm), found)
        yield table


def _one(network: Mapping[str, Any]) -> Table:
    table = _plain(f"{network['name']} ({network['parameters']:,} parameters; value and 95 % interval)")
    for key, label in QUANTITIES.items():
        table.add_row(label, cell(network, key))
    return table
