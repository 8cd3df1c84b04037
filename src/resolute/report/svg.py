"""Turn a matplotlib figure into SVG for one HTML page: coloured by its style sheet, same bytes each time."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from matplotlib.figure import Figure

INK, MUTED, GRID = "#010101", "#020202", "#030303"
MARKS = ("#040404", "#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c")
"""Stand-ins for the style sheet's colours: the baseline's, then those of up to eight methods, over again after that."""
LABELS = ("#141414", "#151515", "#161616", "#171717", "#181818", "#191919", "#1a1a1a", "#1b1b1b", "#1c1c1c")
"""The same for text, which needs more contrast than a mark."""
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    **{colour: f"var(--mark{i})" for i, colour in enumerate(MARKS)},
    **{colour: f"var(--label{i})" for i, colour in enumerate(LABELS)},
}
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "resolute",
    "text.parse_math": False,
    "axes.xmargin": 0.03,
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "xtick.major.size": 3,
}


def style() -> AbstractContextManager[None]:
    """Draw within this: the look of every figure, undone at its end.

    Returns:
        A context manager.
    """
    import matplotlib as mpl

    return mpl.rc_context(STYLE)


def render(figure: Figure, name: str, title: str, description: str) -> str:
    """Write a figure as an ``<svg>`` element to stand inside a page. Call it within `style`.

    Colours become the page's CSS variables, fonts the page's font, ids start with ``name``; matplotlib's metadata,
    style sheet and namespaces go.

    Args:
        figure: What to write.
        name: Unique in the page; letters, digits and hyphens.
        title: For screen readers, and the tooltip.
        description: What is to be seen, for screen readers.

    Returns:
        The element. All text in it is escaped.
    """
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # the reader's fonts draw the text
        figure.savefig(stream, format="svg", transparent=True)
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314 (matplotlib's own output)
    for element in list(root.iter()):
        _plain(element)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag in {"metadata", "style"}]:
            parent.remove(child)
    _name_ids(root, name)
    view = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": view, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"})
    for position, (tag, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(tag, id=f"{name}-{tag}")
        child.text = text
        root.insert(position, child)
    return ElementTree.tostring(root, encoding="unicode")


def _plain(element: ElementTree.Element) -> None:
    element.tag = element.tag.rpartition("}")[2]
    for key in list(element.attrib):
        element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
    if "style" in element.attrib:
        element.attrib["style"] = _restyle(element.attrib["style"])
    if re.fullmatch(r"rotate\(-?0 .*\)", element.attrib.get("transform", "")):
        del element.attrib["transform"]
    if "d" in element.attrib:
        element.attrib["d"] = " ".join(element.attrib["d"].split())
    if element.tag != "text":
        element.text = None
    element.tail = None


def _restyle(text: str) -> str:
    kept = "; ".join(part for part in text.split("; ") if not part.startswith("font-family"))
    for colour, variable in VARIABLES.items():
        kept = kept.replace(colour, variable)
    return kept


def _name_ids(root: ElementTree.Element, name: str) -> None:
    """Keep the ids that something refers to, and number them below ``name``."""
    pattern = re.compile(r"#([\w.-]+)")
    used = dict.fromkeys(match for _, value in _references(root) for match in pattern.findall(value))
    new = {old: f"{name}-{number}" for number, old in enumerate(used)}
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in new:
            element.attrib["id"] = new[identity]
    for element, value in list(_references(root)):
        for key, found in list(element.attrib.items()):
            if found == value:
                element.attrib[key] = pattern.sub(lambda match: f"#{new[match[1]]}", value)


def _references(root: ElementTree.Element) -> Iterator[tuple[ElementTree.Element, str]]:
    for element in root.iter():
        for key, value in element.attrib.items():
            if (key == "href" and value.startswith("#")) or value.startswith("url(#"):
                yield element, value
