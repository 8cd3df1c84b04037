"""`resolute disturb`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from resolute.cli.evaluate import TEST_DATA
from resolute.cli.flags import of, takes, whole
from resolute.config import EvaluateConfig
from resolute.errors import InputError, located, shown, unknown
from resolute.progress import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from torch import Tensor

    from resolute.data.dataset import Images
    from resolute.shifts.shift import Shift

_FORMATS = (".png", ".svg", ".pdf")
DRAWABLE = ("noise", "disturbances", "disturbance-variants", "everyday", "corruptions", "corruptions-held-out")
"""The suites that need neither a network nor files."""
WIDEST = 6
"""Pictures in a row before a new row is begun."""


class Tile(NamedTuple):
    """One picture: float [C, H, W] in [0, 1], what it shows, and how strongly."""

    x: Tensor
    name: str
    note: str


@takes(TEST_DATA, of(EvaluateConfig, "suites", "seed", suites="disturbances"))
def disturb(
    *,
    images: Annotated[str, typer.Option(help="Positions of test images, separated by commas, from 0.")] = "0",
    levels: Annotated[
        str | None, typer.Option(help="Severities of each, separated by commas, 1 for the lowest; else the highest.")
    ] = None,
    out: Annotated[str, typer.Option(help="The picture: .png, .svg or .pdf; or a folder for it.")] = "disturbances.png",
    **given: Any,
) -> None:
    """Draw test images and each disturbance of them, side by side (Figure 1 of the paper).

    An image is disturbed exactly as an evaluation with the same seed disturbs it.
    """  # noqa: DOC501 the docstring is the command's help
    from resolute.data import load
    from resolute.experiment.recipe import set_name
    from resolute.run_folder import file_name, write_atomic

    path = located(out)
    if out.endswith("/") or path.is_dir() or not path.suffix:
        path /= file_name(f"{set_name(given['data'])}-{'-'.join(given['suites'])}") + ".png"
    if path.suffix.lower() not in _FORMATS:
        raise InputError(f"--out is {shown(out)}; it must end in {', '.join(_FORMATS)}, or name a folder.")
    for name in given["suites"]:
        if name not in DRAWABLE:
            raise InputError(f"{unknown('suite', name, DRAWABLE)} Only suites that need no network can be drawn.")
    resized = given.get("interpolation", "bilinear")
    loaded = load(given["data"], given.get("data_dir"), "test", given.get("size"), resized)
    chosen = _numbers(images, "--images", 0, len(loaded) - 1)
    severities = _numbers(levels, "--levels", 1, 5) if levels else None
    rows = picture_rows(loaded, chosen, given["suites"], severities, given["seed"])
    write_atomic(path, draw_picture(rows, path.suffix.lower()[1:]))
    say(f"picture: {path}")


def picture_rows(
    images: Images, chosen: Sequence[int], suites: Sequence[str], levels: Sequence[int] | None, seed: int
) -> list[list[Tile]]:
    """Disturb some images and lay the results out, the originals first: with several levels, a row a disturbance."""
    import torch

    from resolute.data.dataset import take
    from resolute.shifts import find_shifts

    shifts: dict[str, list[Shift]] = {}
    for shift in find_shifts(suites, images.info):
        shifts.setdefault(shift.name, []).append(shift)
    several = levels is not None and len(levels) > 1
    rows = []
    for index in chosen:
        pixels = take(images, torch.tensor([index])).float() / 255
        original = Tile(pixels[0], "original", "")
        bands = [
            [
                _tile(pixels, images.y[index], index, own[min(level or len(own), len(own)) - 1], seed)
                for level in levels or [0]
            ]
            for own in shifts.values()
        ]
        rows += (
            [[original, *band] for band in bands]
            if several
            else _wrapped([original, *(tile for band in bands for tile in band)])
        )
    return rows


def _tile(pixels: Tensor, y: Tensor, index: int, shift: Shift, seed: int) -> Tile:
    import torch
    from torch import nn

    from resolute.noise import signs
    from resolute.report.numbers import severity

    seeds = signs.fold(signs.key(seed, *shift.key), torch.tensor([index]))
    x = shift.apply(nn.Identity(), pixels, y[None], seeds)
    name = shift.name.replace("-", " ").replace("_", " ").replace("five crop", "five-crop")
    return Tile(x[0], name, f"severity {severity(shift.severity)}")


def _wrapped(tiles: list[Tile]) -> list[list[Tile]]:
    """As few rows as hold the tiles, as even as can be."""
    rows = -(-len(tiles) // WIDEST)
    width = -(-len(tiles) // rows)
    return [tiles[start : start + width] for start in range(0, len(tiles), width)]


def draw_picture(rows: Sequence[Sequence[Tile]], kind: str) -> bytes:
    """Draw rows of pictures with their names above, as the same bytes at each call."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    shape = rows[0][0].x.shape
    width, label = 1.75, 0.46
    height = width * shape[1] / shape[2] + label
    style: Any = {"svg.fonttype": "none", "svg.hashsalt": "resolute", "font.size": 8, "text.parse_math": False}
    with mpl.rc_context(style):
        figure = Figure(figsize=(columns * (width + 0.1) + 0.1, len(rows) * height + 0.02))
        grid = figure.subplots(len(rows), columns, squeeze=False)
        figure.subplots_adjust(
            left=0.1 / figure.get_figwidth(), right=1 - 0.1 / figure.get_figwidth(),
            bottom=0.1 / figure.get_figheight(), top=1 - (label - 0.08) / figure.get_figheight(),
            wspace=0.1 / width, hspace=label / (height - label),
        )  # fmt: skip
        for row, places in zip(rows, grid, strict=True):
            for number, place in enumerate(places):
                _show(place, row[number] if number < len(row) else None)
        stream = io.BytesIO()
        undated = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(stream, format=kind, dpi=200, metadata=undated)
    return stream.getvalue()


def _show(place: Axes, tile: Tile | None) -> None:
    place.set_axis_off()
    if tile is None:
        return
    pixels = tile.x.permute(1, 2, 0).numpy()
    place.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    place.set_title(tile.name, fontsize=9, pad=14)
    if tile.note:
        place.annotate(
            tile.note, (0.5, 1), (0, 3), xycoords="axes fraction", textcoords="offset points",
            ha="center", va="bottom", fontsize=7.5, color="#555555",
        )  # fmt: skip


def _numbers(text: str, flag: str, low: int, high: int) -> list[int]:
    try:
        found = [whole(part.strip()) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(low <= each <= high for each in found):
        raise InputError(f"{flag} got {shown(text)}; it takes whole numbers from {low} to {high}, separated by commas.")
    return found
