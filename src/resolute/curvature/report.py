"""The report of a curvature run: a row for each network, methods compared over paired seeds, pictures, the page."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.errors import InputError
from resolute.report import figures
from resolute.report.figures import Curve, Picture, mark, panel
from resolute.report.numbers import NONE, estimate, flat, p_value, significant
from resolute.report.page import Written, render, terminal_table
from resolute.run_folder import read_json, write_atomic, write_json
from resolute.safe_io import COUNT, NAME, SHARE, Maybe, Within, inside
from resolute.stats import Interval, compare_seeds, find, mean_t

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from rich.console import RenderableType


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

ERRORS = "errors.json"
"""Network name to suite to error: what the records beside the checkpoints say."""

_NUMBER = Within(float, -1e30, 1e30)
_ROWS = Within([Within([_NUMBER], 1)], 1)
NETWORK = {
    "name": NAME, "architecture": str, "sha256": str, "parameters": COUNT, "top": Within([_NUMBER], 1),
    "quantities": {str: {"value": _NUMBER, "se": Maybe(Within(float, 0, 1e30))}}, "nodes?": _ROWS, "weights?": _ROWS,
    "jacobian_norms?": Within([Within(float, 0, 1e30)], 1),
    "surface?": Maybe({"radii": Within([_NUMBER], 2), "loss": Within([Within([Maybe(_NUMBER)], 2)], 2)}),
}  # fmt: skip
STAMP = {
    "data": str, "split": str, "n": COUNT, "plan": {"eps": SHARE, "draws": COUNT}, "command?": str,
    "networks": [{"name": NAME, "file": NAME}],
}  # fmt: skip
WHOLE = {
    "stamp": STAMP, "environment?": dict, "networks": Within([NETWORK], 1),
    "correlations": [{"quantity": str, "suite": str, "rho": float, "p": SHARE, "n": COUNT}],
}  # fmt: skip
"""What the report reads of networks/NAME.json, survey.json and curvature.json."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A method against the first one in a quantity, over paired seeds."""

    method: str  # its name
    quantity: str  # a key of `QUANTITIES`
    ratio: Interval  # geometric mean of its value over the first method's; its interval excludes 1 where p_holm <= 0.05
    seeds: int  # pairs
    level: float  # confidence of the interval: 0.95, or more as one of several
    p: float  # of the paired t test on logarithms, for new seeds on these images
    p_holm: float  # adjusted for all comparisons of the run


@dataclass(frozen=True, slots=True)
class Curvature:
    """A curvature run, read: survey.json, the networks' files, and what was computed of them."""

    stamp: Mapping[str, Any]
    environment: Mapping[str, Any]
    networks: Sequence[Mapping[str, Any]]
    comparisons: Sequence[Ratio]
    correlations: Sequence[Mapping[str, Any]]

    @property
    def missing(self) -> str:
        """How many networks are not measured yet, in words."""
        wanted, measured = len(self.stamp["networks"]), len(self.networks)
        if measured == wanted:
            return ""
        return f"{measured} of {wanted} networks are measured; the same command measures the others."


def load_curvature(folder: Path) -> Curvature:
    """Read the folder of a curvature run: whole, or its curvature.json alone."""
    if not (folder / "survey.json").exists():
        path = folder / "curvature.json"
        whole = read_json(path, WHOLE)
        environment = whole.get("environment") or read_json(folder / "environment.json", dict)
        return _compared(path, whole["stamp"], environment, whole["networks"], whole["correlations"])
    stamp = _without_identity(read_json(folder / "survey.json", STAMP))
    files = [inside(folder / "networks", f"{network['file']}.json") for network in stamp["networks"]]
    networks = [_without_identity(read_json(file, NETWORK)) for file in files if file.exists()]
    if not networks:
        raise InputError(f"{folder} holds no measured network yet. Run its `resolute curvature` again.")
    path = folder / ERRORS
    related = relate(networks, read_json(path, {str: {str: SHARE}}) if path.exists() else {})
    return _compared(folder, stamp, read_json(folder / "environment.json", dict), networks, related)


def _without_identity(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stored.items() if key != "identity"}


def _compared(
    path: Path, stamp: Any, environment: Any, networks: Sequence[Mapping[str, Any]], related: Sequence[Any]
) -> Curvature:
    for network in networks:
        surface = network.get("surface") or {"radii": [], "loss": []}
        nodes, weights, loss = (
            _shape(rows) for rows in (network.get("nodes"), network.get("weights"), surface["loss"])
        )
        side = len(surface["radii"])
        if nodes != weights or -1 in nodes or loss != (side, side):
            raise InputError(f"{path}: nodes, weights or surface of {network['name']} differ in length. Restore it.")
    if len({network["name"] for network in networks}) < len(networks):
        raise InputError(f"{path} has two networks of one name. Restore it, or run again into an empty folder.")
    return Curvature(stamp, environment, networks, compare_methods(networks), related)


def _shape(rows: Sequence[Sequence[Any]] | None) -> tuple[int, int]:
    """Tell how many rows there are of how many numbers: -1 where they differ."""
    lengths = {len(row) for row in rows or ()} or {0}
    return len(rows or ()), lengths.pop() if len(lengths) == 1 else -1


def interval(quantity: Mapping[str, Any]) -> Interval:
    """Bound a quantity by 1.96 standard errors."""
    half = math.nan if quantity["se"] is None else 1.96 * quantity["se"]
    return Interval(quantity["value"], quantity["value"] - half, quantity["value"] + half)


def by_method(networks: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """Group networks that are called METHOD-seedN."""
    groups: dict[str, dict[int, Mapping[str, Any]]] = {}
    for network in networks:
        if match := re.fullmatch(r"(.+)-seed(\d{1,18})", network["name"], re.ASCII):
            groups.setdefault(match[1], {})[int(match[2])] = network
    return groups


def compare_methods(networks: Sequence[Mapping[str, Any]]) -> list[Ratio]:
    """Compare each method with the first over the seeds that both have, by the ratio of each quantity."""
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
            if min(ratios) <= 0 or math.isinf(max(ratios)):
                continue
            found.append((method, quantity, compare_seeds([math.log(ratio) for ratio in ratios])))
    rows = zip(found, find([change for *_, change in found], "seeds"), strict=True)
    return [
        Ratio(method, quantity, _exponential(own.difference), change.seeds, own.level, own.p, own.p_holm)
        for (method, quantity, change), own in rows
        if own
    ]


def _exponential(logarithm: Interval) -> Interval:
    return Interval(*(math.exp(min(v, 700)) for v in (logarithm.mean, logarithm.low, logarithm.high)))


def relate(networks: Sequence[Mapping[str, Any]], errors: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Correlate each quantity with the errors of the same networks under each suite, by Spearman's rank correlation."""
    from scipy.stats import spearmanr

    rows = []
    for quantity in OUTCOMES:
        for suite in sorted({suite for own in errors.values() for suite in own}):
            pairs = [
                (network["quantities"][quantity]["value"], errors[network["name"]][suite])
                for network in networks
                if quantity in network["quantities"] and suite in errors.get(network["name"], {})
            ]
            if len(pairs) < 5 or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
                continue
            values, shares = zip(*pairs, strict=True)
            rho, p = spearmanr(list(values), list(shares))
            rows.append({"quantity": quantity, "suite": suite, "rho": float(rho), "p": float(p), "n": len(pairs)})
    return rows


def write_curvature(folder: Path) -> Written[Curvature]:
    """Rebuild ``report.html`` and ``curvature.json`` of a curvature run, and give what they say."""
    found = load_curvature(folder)
    if (folder / "survey.json").exists():
        told = [dataclasses.asdict(row) for row in found.comparisons]
        comparisons = [
            {**row, "ratio": {k: _finite(v) for k, v in row["ratio"].items()}}
            | {k: _finite(row[k]) for k in ("p", "p_holm")}
            for row in told
        ]
        names = ("stamp", "environment", "networks", "correlations")
        whole = {name: getattr(found, name) for name in names} | {"comparisons": comparisons}
        write_json(folder / "curvature.json", whole)
    write_atomic(folder / "report.html", render_curvature(found))
    return Written(folder / "report.html", found)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def render_curvature(found: Curvature) -> str:
    """Write the run as one HTML page that needs nothing else."""
    methods, plan = by_method(found.networks), found.stamp["plan"]
    drawn = first_of_each(found.networks)
    colours = {network["name"]: figures.VARIABLES[mark(_colour(network, drawn, methods))] for network in found.networks}
    facts = flat({key.replace("_", " "): value for key, value in plan.items()})
    networks = [
        (f"{one['name']}, {one['architecture']}, {one['parameters']:,} parameters", one["sha256"][:16])
        for one in found.networks
    ]
    return render(
        "curvature.html",
        stamp=found.stamp, networks=found.networks, quantities=QUANTITIES, cell=cell, comparisons=found.comparisons,
        related=found.correlations, first=next(iter(methods), ""), colours=colours, missing=found.missing,
        noise=f"with sign noise, eps {plan['eps']}, mean of {plan['draws']} draws" if plan["eps"] else "without noise",
        sentence=curvature_sentence(found.networks, found.comparisons), effect=batch_effect(found.networks),
        panels=draw_panels(drawn), surfaces=draw_surfaces(drawn), write=significant,
        facts={"Run": [*facts, *networks], "Machine and versions": list(flat(found.environment))},
    )  # fmt: skip


def first_of_each(networks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Take the first network of each method, and those that belong to no method."""
    methods = by_method(networks)
    firsts = {next(iter(cells.values()))["name"] for cells in methods.values()}
    others = {cell["name"] for cells in methods.values() for cell in cells.values()} - firsts
    return [network for network in networks if network["name"] not in others]


def _colour(network: Mapping[str, Any], drawn: Sequence[Mapping[str, Any]], methods: Mapping[str, Any]) -> int:
    names = [one["name"] for one in drawn]
    if network["name"] in names:
        return names.index(network["name"])
    own = next(cells for cells in methods.values() if network["name"] in {c["name"] for c in cells.values()})
    return names.index(next(iter(own.values()))["name"])


def cell(network: Mapping[str, Any], key: str) -> str:
    """Write one quantity of one network."""
    own = network["quantities"].get(key)
    return estimate(interval(own), significant) if own else NONE


def curvature_sentence(networks: Sequence[Mapping[str, Any]], comparisons: Sequence[Ratio]) -> str:
    """Say what was found of the largest eigenvalue by the parameters."""
    rows = [row for row in comparisons if row.quantity == "parameter-top"]
    if not rows:
        tops = [(n["name"], cell(n, "parameter-top").partition(" (")[0]) for n in networks]
        return "; ".join(f"{name}: largest eigenvalue {top}" for name, top in tops)
    told = [
        f"{row.method} {estimate(row.ratio, significant)}, {'' if row.p_holm <= 0.05 else 'not '}significant at 5 %"
        for row in rows
    ]
    first = next(iter(by_method(networks)))
    return f"Largest eigenvalue of the parameter Hessian as a multiple of that of {first}: {'; '.join(told)}."


def batch_effect(networks: Sequence[Mapping[str, Any]]) -> str:
    """Say how much the number of images matters for the largest eigenvalue."""
    keys = ("parameter-top-of-a-part", "parameter-top")
    pairs = [[n["quantities"][key]["value"] for key in keys] for n in networks if {*keys} <= n["quantities"].keys()]
    ratios = [part / whole for part, whole in pairs if whole > 0]
    if not ratios:
        return ""
    low, high = significant(min(ratios)), significant(max(ratios))
    return (
        f"On a quarter of the images the largest eigenvalue is {low if low == high else f'{low} to {high}'} times that "
        "on all of them: this is how much the number of images matters. The size of the micro-batches has no effect."
    )


def console_curvature(found: Curvature) -> Iterator[RenderableType]:
    """Lay a run out for a terminal of 80 columns."""
    if found.comparisons:
        yield from _console_ratios(by_method(found.networks), found.comparisons)
        yield curvature_sentence(found.networks, found.comparisons)
    for network in () if found.comparisons else found.networks:
        yield f"{network['name']} ({network['parameters']:,} parameters; value and 95 % interval)"
        yield _plain([(label, cell(network, key)) for key, label in QUANTITIES.items()])
    yield from filter(None, (batch_effect(found.networks), found.missing))


def _console_ratios(groups: Mapping[str, Mapping[int, Any]], comparisons: Sequence[Ratio]) -> Iterator[RenderableType]:
    first, rows = next(iter(groups)), []
    for key, label in QUANTITIES.items():
        values = [own["quantities"][key]["value"] for own in groups[first].values() if key in own["quantities"]]
        if len(values) > 1:
            rows.append((label, estimate(mean_t(values), significant)))
    yield f"{first}, mean of {len(groups[first])} networks (95 % interval over them)"
    yield _plain(rows)
    for method in dict.fromkeys(row.method for row in comparisons):
        own = [row for row in comparisons if row.method == method]
        counts = " to ".join(str(n) for n in sorted({row.seeds for row in own}))
        yield f"{method} as a multiple of {first} (over {counts} paired seeds; interval and p Holm-corrected)"
        yield _plain([
            (QUANTITIES[row.quantity], estimate(row.ratio, significant), p_value(row.p_holm, "p"),
             "significant" if row.p_holm <= 0.05 else "not significant") for row in own
        ])  # fmt: skip


def _plain(rows: Sequence[tuple[str, ...]]) -> RenderableType:
    table = terminal_table({" " * at: "left" for at in range(len(rows[0]) if rows else 1)})
    for row in rows:
        table.add_row(*row)
    return table


def draw_panels(networks: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Draw spectral densities, largest eigenvalues and Jacobian norms, of what the networks' files hold."""
    dense, normed = ([n for n in networks if key in n] for key in ("nodes", "jacobian_norms"))
    pictures = [draw_density(dense)] if dense else []
    pictures += [draw_eigenvalues(networks)]
    return pictures + ([draw_norms(normed)] if normed else [])


def _draw(curves: Sequence[Curve], name: str, title: str, note: str, told: str, **how: Any) -> Picture:
    with figures.style():
        figure, axes = figures.plot(curves, how.pop("xlabel"), height=216, **how)
        if "y" in how.get("log", ""):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}")
        return figures.picture(figure, name, title, note, told)


def draw_density(networks: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the spectral densities by the parameters over a logarithmic axis, mean over probes."""
    ends = [(min(map(min, n["nodes"])), max(map(max, n["nodes"]))) for n in networks]
    low, high = min(e[0] for e in ends), max(e[1] for e in ends)
    width = 0.01 * (high - low) or 1e-12
    grid = np.linspace(low - 5 * width, high + 5 * width, 300)
    curves, told = [], []
    for at, (network, end) in enumerate(zip(networks, ends, strict=True)):
        drawn = np.maximum(_density(network, grid, width), 1e-12)
        curves.append(Curve(network["name"], at, grid.tolist(), drawn.tolist(), marked=False))
        told.append(f"{network['name']}: {significant(end[0])} to {significant(end[1])}")
    top = max(max(curve.y) for curve in curves)
    note = f"share per unit, smoothed by {significant(width)}"
    how = {"xlabel": "eigenvalue", "limits": (top * 1e-8, top * 3), "log": "y"}
    return _draw(curves, "density", "Spectral density, parameter Hessian", note, "; ".join(told), **how)


def _density(network: Mapping[str, Any], grid: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    nodes, weights = np.array(network["nodes"]), np.array(network["weights"])
    bells = np.exp(-0.5 * ((grid - nodes[..., None]) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    drawn: NDArray[np.float64] = (weights[..., None] * bells).sum(1).mean(0)
    return drawn


def draw_eigenvalues(networks: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw the largest eigenvalues in order."""
    curves = [Curve(n["name"], at, range(1, len(n["top"]) + 1), n["top"]) for at, n in enumerate(networks)]
    told = "; ".join(curve.told for curve in curves)
    title = "Largest eigenvalues, parameter Hessian"
    return _draw(curves, "eigenvalues", title, "of the mean loss", told, xlabel="rank", limits=(0, None))


def draw_norms(networks: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw how the images' Jacobian norms are spread, one outline for each network."""
    everything = np.concatenate([network["jacobian_norms"] for network in networks])
    low, high = (float(np.quantile(everything, q)) for q in (0, 0.995))
    bins = min(40, max(8, len(everything) // (5 * len(networks))))
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    centres, curves = ((edges[1:] + edges[:-1]) / 2).tolist(), []
    for at, network in enumerate(networks):
        shares = np.histogram(network["jacobian_norms"], edges)[0] / (len(network["jacobian_norms"]) * np.diff(edges))
        curves.append(Curve(network["name"], at, centres, shares.tolist(), marked=False))
    told = "; ".join(f"{n['name']}: mean {significant(np.mean(n['jacobian_norms']))}" for n in networks)
    note = "density of the images; the largest 0.5 % are cut off"
    label = "norm, logits per pixel unit"
    return _draw(curves, "norms", "Input Jacobian of each image", note, told, xlabel=label, limits=(0, None))


SURFACES = 6
"""Networks whose surface is drawn: the first of each method."""


def draw_surfaces(networks: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Draw the loss along the two leading directions, as filled contours and as a surface; one scale for all."""
    shown = [network for network in networks if network.get("surface")][:SURFACES]
    losses = [np.array(n["surface"]["loss"], dtype=np.float64) for n in shown]
    losses = [np.where(np.isfinite(loss), loss, np.nan) for loss in losses]
    seen = [loss for loss in losses if np.isfinite(loss).any()]
    if not seen:
        return []
    low = min(float(np.nanmin(loss)) for loss in seen)
    high = max(float(np.nanmedian(loss)) for loss in seen) * 3
    levels = np.linspace(low, max(high, low + 1e-9 + 1e-9 * abs(low)), 13)
    pictures = []
    for at, (network, loss) in enumerate(zip(shown, losses, strict=True)):
        radii = np.array(network["surface"]["radii"])
        clipped = np.clip(np.nan_to_num(loss, nan=levels[-1]), low, levels[-1])
        for kind, drawn in (("contour", _contour), ("surface", _surface)):
            with figures.style():
                figure, middle = drawn(radii, clipped, levels), loss[len(loss) // 2][len(loss) // 2]
                title = f"{network['name']}: {kind}"
                told = f"loss {middle:.4g} at the network, {np.nanmax(loss, initial=low):.4g} at most"
                note = f"cut at {significant(levels[-1])}; distances in parameter space"
                pictures.append(figures.picture(figure, f"{kind}-{at}", title, note, told))
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
