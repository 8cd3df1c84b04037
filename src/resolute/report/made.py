"""How a run was made: everything that its files say about it, as names and values to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resolute.report.run import Run

LONG = 20
TITLES = {"train": "Training", "data_info": "Data"}


def facts(run: Run) -> dict[str, list[tuple[str, str]]]:
    """List the recipe, the machine and the hash of the records.

    Args:
        run: The run.

    Returns:
        For each heading the names and values. Sections of the recipe that are not known here are listed as well.
    """
    recipe = {key: value for key, value in run.recipe.items() if key != "command"}
    sections = {key: recipe.pop(key) for key in TITLES if isinstance(recipe.get(key), dict)}
    cells = run.cells.values()
    network = {"parameters": ", ".join(f"{number:,}" for number in sorted({cell.parameters for cell in cells}))}
    network |= {f"sites, {cell.method}": str(cell.sites) for cell in cells}
    return {
        "Recipe": list(_flat(recipe)),
        **{TITLES[key]: list(_flat(value)) for key, value in sections.items()},
        "Network": list(network.items()),
        "Machine and versions": list(_flat(run.environment)),
        "Files": [("records.jsonl, SHA-256", run.sha256 or "not written yet")],
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", _shown(value)


def _shown(value: Any) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        more = f" and {len(value) - LONG} more" if len(value) > LONG else ""
        return ", ".join(_shown(item) for item in value[:LONG]) + more
    return str(value)
