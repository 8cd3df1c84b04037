"""The pictures of a survey of curvature: densities, Jacobian norms, the loss along two directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from resolute.report import svg
from resolute.report.figures import Picture
from resolute.report.panel import line, mark, panel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

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
    with svg.style():
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
        return Picture(title, f"share per unit, smoothed by {width:.2g}", svg.render(figure, "density", title, told))


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
    with svg.style():
        figure, axes = panel(216, left=44, right=12)
        for at, network in enumerate(networks):
            line(axes, range(1, len(network["top"]) + 1), network["top"], at)
        axes.set(ylim=(0, None), xlabel="rank")
        axes.locator_params(nbins=5)
        axes.grid(visible=True, axis="y")
        told = "; ".join(f"{n['name']}: " + ", ".join(f"{v:.4g}" for v in n["top"]) for n in networks)
        title = "Largest eigenvalues by the parameters"
        return Picture(title, "of the mean loss", svg.render(figure, "eigenvalues", title, told))


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
    with svg.style():
        figure, axes = panel(216, left=44, right=12)
        for at, network in enumerate(networks):
            axes.hist(network["jacobian_norms"], bins, histtype="step", color=mark(at), linewidth=1.5, density=True)
        axes.set(xlabel="norm, logits per pixel unit", xlim=(bins[0], bins[-1]))
        axes.grid(visible=True, axis="y")
        told = "; ".join(f"{n['name']}: mean {np.mean(n['jacobian_norms']):.4g}" for n in networks)
        title = "Input Jacobian of each image"
        note = "density of the images; the largest 0.5 % are cut off"
        return Picture(title, note, svg.render(figure, "norms", title, told))


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
            with svg.style():
                figure = _contour(radii, clipped, levels) if kind == "contour" else _surface(radii, clipped, levels)
                title = f"{network['name']}: {kind}"
                told = f"loss {loss[len(loss) // 2][len(loss) // 2]:.4g} at the network, {np.nanmax(loss):.4g} at most"
                note = f"cut at {levels[-1]:.3g}; distances in parameter space"
                pictures.append(Picture(title, note, svg.render(figure, f"{kind}-{at}", title, told)))
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
