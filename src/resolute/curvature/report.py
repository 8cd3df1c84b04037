"""What a survey of curvature says: a row for each network, methods compared over paired seeds, relation to errors."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.errors import InputError
from resolute.report import figures, numbers, page
from resolute.report.figures import Picture, line, mark, panel
from resolute.run_folder import read_json, write_atomic, write_json
from resolute.stats import Interval, holm, mean_t, paired_t

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from rich.console import RenderableType
    from rich.table import Table


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


SURFACES = 6
"""Networks whose surface is drawn: the first of each method."""


def draw_density(networks: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the spectral densities by the parameters over a logarithmic axis, mean over probes.

    Args:
        networks: One network a curve.

    Returns:
        The picture.
    """
    ends = [(min(map(min, n["nodes"])), max(map(max, n["nodes"]))) for n in networks]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    width = 0.01 * (high - low) or 1e-12
    grid = np.linspace(low - 5 * width, high + 5 * width, 300)
    with figures.style():
        figure, axes = panel(216, left=44, right=12)
        for at, network in enumerate(networks):
            drawn = _density(network, grid, width)
            axes.plot(grid, np.maximum(drawn, 1e-12), color=mark(at), linewidth=1.5, label=network["name"])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        top = max(_density(network, grid, width).max() for network in networks)
        axes.set(ylim=(top * 1e-8, top * 3), xlabel="eigenvalue")
        axes.grid(visible=True, axis="y")
        told = "; ".join(
            f"{n['name']}: {min(map(min, n['nodes'])):.3g} to {max(map(max, n['nodes'])):.3g}" for n in networks
        )
        title = "Spectral density by the parameters"
        return Picture(
            title, f"share per unit, smoothed by {width:.2g}", figures.render(figure, "density", title, told)
        )


def _density(network: Mapping[str, Any], grid: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    nodes, weights = np.array(network["nodes"]), np.array(network["weights"])
    bells = np.exp(-0.5 * ((grid - nodes[..., None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    drawn: NDArray[np.float64] = (weights[..., None] * bells).sum(1).mean(0)
    return drawn


def draw_eigenvalues(networks: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the largest eigenvalues in order.

    Args:
        networks: One network a line.

    Returns:
        The picture.
    """
    with figures.style():
        figure, axes = panel(216, left=44, right=12)
        for at, network in enumerate(networks):
            line(axes, range(1, len(network["top"]) + 1), network["top"], at)
        axes.set(ylim=(0, None), xlabel="rank")
        axes.locator_params(nbins=5)
        axes.grid(visible=True, axis="y")
        told = "; ".join(f"{n['name']}: " + ", ".join(f"{v:.4g}" for v in n["top"]) for n in networks)
        title = "Largest eigenvalues by the parameters"
        return Picture(title, "of the mean loss", figures.render(figure, "eigenvalues", title, told))


def draw_norms(networks: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw how the images' Jacobian norms are spread, one outline for each network.

    Args:
        networks: One network an outline.

    Returns:
        The picture.
    """
    everything = np.concatenate([network["jacobian_norms"] for network in networks])
    low, high = (float(np.quantile(everything, q)) for q in (0, 0.995))
    bins = np.linspace(low, high, 41).tolist()
    with figures.style():
        figure, axes = panel(216, left=44, right=12)
        for at, network in enumerate(networks):
            axes.hist(network["jacobian_norms"], bins, histtype="step", color=mark(at), linewidth=1.5, density=True)
        axes.set(xlabel="norm, logits per pixel unit", xlim=(bins[0], bins[-1]))
        axes.grid(visible=True, axis="y")
        told = "; ".join(f"{n['name']}: mean {np.mean(n['jacobian_norms']):.4g}" for n in networks)
        title = "Input Jacobian of each image"
        note = "density of the images; the largest 0.5 % are cut off"
        return Picture(title, note, figures.render(figure, "norms", title, told))


def draw_surfaces(networks: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Draw the loss along the two leading directions, as filled contours and as a surface; one scale for all.

    Args:
        networks: The networks; those without a surface are left out.

    Returns:
        Two pictures for each network, at most `SURFACES` of them.
    """
    shown = [network for network in networks if network["surface"]][:SURFACES]
    if not shown:
        return []
    losses = [np.array(n["surface"]["loss"], dtype=np.float64) for n in shown]
    low = min(float(np.nanmin(loss)) for loss in losses)
    high = max(float(np.nanmedian(loss)) for loss in losses) * 3
    levels = np.linspace(low, max(high, low + 1e-9), 13)
    pictures = []
    for at, (network, loss) in enumerate(zip(shown, losses, strict=True)):
        radii, clipped = (
            np.array(network["surface"]["radii"]),
            np.clip(np.nan_to_num(loss, nan=levels[-1]), low, levels[-1]),
        )
        for kind in ("contour", "surface"):
            with figures.style():
                figure = _contour(radii, clipped, levels) if kind == "contour" else _surface(radii, clipped, levels)
                title = f"{network['name']}: {kind}"
                told = f"loss {loss[len(loss) // 2][len(loss) // 2]:.4g} at the network, {np.nanmax(loss):.4g} at most"
                note = f"cut at {levels[-1]:.3g}; distances in parameter space"
                pictures.append(Picture(title, note, figures.render(figure, f"{kind}-{at}", title, told)))
    return pictures


def _contour(radii: NDArray[np.float64], loss: NDArray[np.float64], levels: NDArray[np.float64]) -> Figure:
    figure, axes = panel(280, left=48, right=44, top=26)
    drawn = axes.contourf(radii, radii, loss.T, levels, cmap="viridis")
    axes.plot(0, 0, "o", color="#ffffff", markersize=5)
    axes.set(xlabel="first direction", ylabel="second direction")
    _few(axes)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.08, pad=0.03, format="%.2g")
    bar.ax.set_title("loss", fontsize=10)
    return figure


def _surface(radii: NDArray[np.float64], loss: NDArray[np.float64], levels: NDArray[np.float64]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 3.9), dpi=72)
    axes: Any = figure.add_axes((0.02, 0.04, 0.9, 0.94), projection="3d")
    first, second = np.meshgrid(radii, radii, indexing="ij")
    axes.plot_surface(
        first, second, loss, cmap="viridis", vmin=levels[0], vmax=levels[-1], linewidth=0.2, antialiased=True
    )
    axes.set(xlabel="first", ylabel="second", zlabel="loss")
    _few(axes)
    return figure


def _few(axes: Axes) -> None:
    axes.locator_params(nbins=4)
    axes.tick_params(labelsize=9)


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
    colours = {network["name"]: figures.VARIABLES[mark(_colour(network, drawn, methods))] for network in networks}
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
        return numbers.NONE
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
            table.add_row(QUANTITIES[row.quantity], ratio(row), numbers.p_value(row.p_holm), found)
        yield table


def _one(network: Mapping[str, Any]) -> Table:
    table = _plain(f"{network['name']} ({network['parameters']:,} parameters; value and 95 % interval)")
    for key, label in QUANTITIES.items():
        table.add_row(label, cell(network, key))
    return table
