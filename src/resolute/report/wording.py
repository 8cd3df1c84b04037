"""The sentences of the report: the verdict, and what the run does not show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from resolute.report.formats import count, listing, percent, points, signed_bounds, times

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resolute.report.run import Run
    from resolute.report.summary import Comparison, Cost, Entry

    Table = Mapping[tuple[str, str], Entry]

ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "autoattack": "AutoAttack", "square": "black-box attacks"}
BENCHMARKS = {
    "disturbances": "everyday disturbances (crops, flips, colour, lighting)",
    "corruptions": "the corruption benchmark (blur, weather, compression)",
}
CONTROLS = ("gaussian", "additive", "dropout")


def headline(run: Run) -> tuple[str, str]:
    """Choose what the verdict speaks of: R on clean images, or what comes nearest to it in this run.

    Args:
        run: The run.

    Returns:
        Method and suite.
    """
    others = [method for method in run.methods if method != run.baseline]
    noisy = [method for method in others if _plain(method) == "r"]
    method = next(iter([*noisy, *others]), run.baseline)
    return method, "clean" if "clean" in run.suites else run.suites[0]


def _plain(method: str) -> str:
    """A variant's method: ``r`` of ``r@eps=0.3``."""
    return method.partition("@")[0]


def sentence(run: Run, table: Table, costs: Mapping[str, Cost]) -> str:
    """Say in one sentence what the run showed.

    Args:
        run: The run.
        table: Errors and comparisons by method and suite.
        costs: Costs by method.

    Returns:
        Plain text.
    """
    method, suite = headline(run)
    entry = table[method, suite]
    if entry.comparison is None:
        return _alone(run, entry)
    comparison, ratio = entry.comparison, costs[method].ratio
    cost = "" if math.isnan(ratio) else f" costs {times(ratio)} times a step of {run.baseline}"
    if comparison.verdict == "no difference seen":
        text = (
            f"no difference seen between {method} and {run.baseline} in the {suite} error: "
            f"{percent(comparison.error)} against {percent(comparison.baseline)} % ({_evidence(comparison)})"
        )
        text += f"; {method}{cost}." if cost else "."
    else:
        verb = "lowers" if comparison.verdict == "better" else "raises"
        text = (
            f"{method} {verb} the {suite} error from {percent(comparison.baseline)} to {percent(comparison.error)} % "
            f"({_evidence(comparison)})"
        )
        text += f" and{cost}." if cost else "."
    return text[0].upper() + text[1:]


def _evidence(comparison: Comparison) -> str:
    difference, p = comparison.paired.difference, comparison.p_holm
    if comparison.seeds == 1:
        return f"{points(difference.mean)} points with 1 seed, which says nothing about the next"
    relation = "p < 0.001" if p < 0.001 else f"p = {p:.3f}".rstrip("0").rstrip(".")
    return (
        f"{points(difference.mean)} points, 95 % interval {signed_bounds(difference)}, "
        f"{comparison.seeds} paired seeds, {relation} after Holm"
    )


def _alone(run: Run, entry: Entry) -> str:
    if not entry.seeds:
        return f"Nothing to say yet: no seed of {entry.method} is finished."
    reason = (
        "nothing to compare it with" if entry.method == run.baseline else f"no seed of {run.baseline} to pair it with"
    )
    return f"{entry.method} has a {entry.suite} error of {percent(entry.error.mean)} % and there is {reason}."


def limits(run: Run, table: Table) -> tuple[str, ...]:
    """List what the run does not show, from what was and was not run.

    Args:
        run: The run.
        table: Errors and comparisons by method and suite.

    Returns:
        Plain text, a paragraph each.
    """
    data, model = run.recipe.get("data", "one data set"), run.recipe.get("model", "one network")
    found = [
        _unfinished(run),
        f"One data set ({data}, {count(run.n, 'image')} of its {run.recipe.get('split', 'test')} split) and one "
        f"network ({model}): nothing here speaks of other data or networks.",
        _intervals(run),
        _p_values(table),
        _attacks(run),
        _benchmarks(run),
        _controls(run),
        "All methods were trained with the same hyper-parameters; one tuned for itself could do better.",
        "Step times were measured on this machine while the run trained. Other networks, batch sizes and devices give "
        "other ratios.",
    ]
    return tuple(text for text in found if text)


def _unfinished(run: Run) -> str:
    if not run.missing:
        return ""
    cells = count(len(run.missing) + len(run.cells), "cell")
    open_cells = [cell for cell in run.missing if cell not in run.diverged]
    texts = []
    if open_cells:
        texts.append(f"The run is not finished: {len(open_cells)} of {cells} are missing ({_named(open_cells)}).")
    if run.diverged:
        texts.append(
            f"Training diverged in {len(run.diverged)} of {cells} ({_named(run.diverged)}), which count in no mean: a "
            "lower learning rate may help."
        )
    return " ".join(texts)


def _named(cells: Iterable[tuple[str, int]]) -> str:
    return listing([f"{method} seed {seed}" for method, seed in cells])


def _intervals(run: Run) -> str:
    finished = {method: len(run.finished(method)) for method in run.methods if run.finished(method)}
    single = [method for method, seeds in finished.items() if seeds == 1]
    if len(single) == len(finished):
        return (
            "One seed each: the intervals (Wilson) speak of new images, not of new seeds, and no difference can be "
            "called one. Differences between seeds are often as large as those between methods."
        )
    text = (
        f"The intervals (Student's t over {max(finished.values())} seeds) speak of new seeds on the same images, not "
        "of new images."
    )
    return (
        f"{text} {listing(single)}: one seed only, so the interval (Wilson) speaks of new images." if single else text
    )


def _p_values(table: Table) -> str:
    tested = [entry.comparison for entry in table.values() if entry.comparison]
    seeds = max((comparison.seeds for comparison in tested), default=0)
    if seeds < 2:
        return ""
    return (
        "p is the largest of three: a paired t test over seeds, a McNemar test over images (each counted once over all "
        "seeds), and Clark's min F' over both at once. It is adjusted by Holm over the "
        f"{count(len(tested), 'comparison')} of the table; 0.05 or below is called a difference. "
        "\N{LEFT DOUBLE QUOTATION MARK}No difference seen\N{RIGHT DOUBLE QUOTATION MARK} does not mean that there is "
        f"none. With {seeds} seeds the exact sign-flip p cannot fall below {2 / 2**seeds:.3g}; it decides nothing."
    )


def _attacks(run: Run) -> str:
    names = {name.lower() for suite, shift, _ in run.keys for name in (suite, shift)}
    ran = [title for key, title in ATTACKS.items() if key in names]
    absent = [title for key, title in ATTACKS.items() if key not in names]
    if "autoattack" in names or not absent:
        return ""
    start = f"Of attacks only {listing(ran)} was run" if ran else "No attack was run"
    if ran == ["FGSM"]:
        start += ", one step of the gradient, which stronger attacks often undo"
    return f"{start}. Not run: {listing(absent)}. This is no proof of adversarial robustness."


def _benchmarks(run: Run) -> str:
    absent = [title for key, title in BENCHMARKS.items() if key not in run.suites]
    return f"Not run: {listing(absent)}." if absent else ""


def _controls(run: Run) -> str:
    plain = {_plain(method) for method in run.methods}
    if "r" not in plain or plain.intersection(CONTROLS):
        return ""
    return (
        f"No control of equal power ({', '.join(CONTROLS)}) was trained: what r does, any noise of its strength might "
        "do as well."
    )
