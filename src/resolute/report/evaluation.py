"""The report of an evaluation: errors with intervals, networks compared on the same images, mCE, the page."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from resolute.errors import InputError
from resolute.evaluation.measure import RIGHT, not_finite, part_file
from resolute.report import figures
from resolute.report.comparison import how_tested, would_tell
from resolute.report.figures import draw_severities, mark
from resolute.report.numbers import bounds, flat, fraction, percent, points, severity, spreadsheet
from resolute.report.page import Written, render, terminal_table, verdict_text
from resolute.report.run import read_csv, read_number
from resolute.run_folder import file_name, read_bits, read_json, read_sealed, write_atomic, write_json
from resolute.safe_io import COUNT, NAME, Within, check_schema, inside
from resolute.shifts.released import ALEXNET, ALEXNET_CLEAN, SEVERITIES
from resolute.stats import Difference, Finding, Interval, Verdict, compare_paired, error_interval, find, from_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.console import RenderableType
    from rich.text import Text

    from resolute.run_folder import Key


COUNTED = Within(int, 1, 1e15)
IDENTITY = {
    "data": str, "split": str, "n": COUNTED, "total": COUNTED, "seed": COUNT, "images_sha256": str,
    "labels_sha256": str, "suites": [str], "keys": Within([(str, str, float)], 1),
    "networks": Within([{"name": str, "architecture": str, "sha256": str}], 1),
}  # fmt: skip
EVALUATION = {"identity": IDENTITY, "command": str}
EARLIER = {
    "data": str, "split": str, "n": COUNTED, "seed": COUNT, "keys": Within([(str, str, float)], 1),
    "networks": Within([{"name": NAME, "architecture": str, "sha256": str, "folder": NAME}], 1), "command?": str,
}  # fmt: skip
CHECKS = {str: {"sentence": str, "checks": [{"name": str, "result": {"passed", "failed", "not run"}, "found": str}]}}
EXAMPLES = [
    {
        "shift": str, "severity": float,
        "images": [{"index": COUNT, "truth": str, "png": str, "said": {str: str}}],
    }
]  # fmt: skip
"""What the report reads of evaluation.json, also of earlier versions, of checks.json and of examples.json."""

Z = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """What one suite of 15 corruptions at 5 severities comes to."""

    suite: str  # name of the suite
    figures: dict[str, dict[str, Interval]]  # for each network its figures by name

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
    half = Z * float(score.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return Interval(mean, mean - half, mean + half)


ATTACKS = ("fgsm", "pgd", "square", "autoattack")
"""Shifts whose severity is a radius: each has a line of its own in tables. Of others the mean is shown."""


@dataclass(frozen=True, slots=True)
class ShiftRow:
    """One line of a table."""

    suite: str  # name of the suite
    shift: str  # name of the shift, or "" for the mean over a suite
    severity: float  # the severity; NaN for a mean over several
    errors: dict[str, Interval]  # for each network its error and 95 % interval
    pairs: dict[str, Pair]  # for each network but the first how it compares with the first

    @property
    def label(self) -> str:
        """The row's name below its suite's."""
        if not self.shift:
            return "mean"
        if math.isnan(self.severity) or not self.severity:
            return self.shift
        return f"{self.shift} {fraction(self.severity) if self.shift in ATTACKS else severity(self.severity)}"


@dataclass(frozen=True, slots=True)
class Pair(Finding):
    """A network against the first one on the same images: what holds of these two for new images."""

    would_tell: str = ""  # how many images would show a difference of this size, where none was seen


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """An evaluation, read from its folder."""

    stamp: dict[str, Any]  # evaluation.json, or what results.csv says of it
    environment: dict[str, Any]  # the machine and the versions
    networks: tuple[str, ...]  # names, the first one to compare with
    rows: tuple[ShiftRow, ...]  # the table: each suite's shifts, then its mean
    details: tuple[ShiftRow, ...]  # a line for each shift and severity
    benchmarks: tuple[Benchmark, ...]  # the figures of each suite of 15 corruptions at 5 severities
    checks: dict[str, Any]  # what the sanity checks found; see `resolute.evaluation.sanity`
    examples: list[dict[str, Any]]  # images that were got wrong
    has_answers: bool = True  # whether the folder holds which image was got wrong, or counts alone
    warnings: tuple[str, ...] = ()  # what to know before the figures: how many answers were no numbers
    answers: Mapping[str, Mapping[Key, Any]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """How many images were shown."""
        return int(self.stamp["n"])

    @property
    def shown(self) -> str:
        """How many images of how many."""
        total = self.stamp.get("total", self.n)
        return f"{self.n:,} images" if total == self.n else f"{self.n:,} of {total:,} images, balanced by class"

    @property
    def about(self) -> str:
        """What was shown, on one line."""
        split, seed = self.stamp.get("split"), self.stamp.get("seed")
        parts = [self.stamp["data"], split, self.shown, None if seed is None else f"seed {seed}"]
        return " \N{MIDDLE DOT} ".join(part for part in parts if part)


def load_evaluation(folder: Path) -> Evaluation:
    """Read the folder of an evaluation: whole, or its results.csv alone."""
    path = folder / "evaluation.json"
    if not path.exists():
        return _load_counts(folder)
    stamp, answers = _answers(folder, read_json(path, dict))
    bits = {name: {key: codes == RIGHT for key, codes in own.items()} for name, own in answers.items()}
    keys: list[Key] = [(suite, shift, float(severity)) for suite, shift, severity in stamp["keys"]]
    missing = [key for key in keys for found in bits.values() if key not in found]
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} shifts: the evaluation is not finished. Run it again.")
    if ("clean", "clean", 0.0) not in keys or len(set(keys)) < len(keys):
        raise InputError(f"{path} lacks the clean images, or has a shift twice. Restore it, or run again elsewhere.")
    if len(bits) < len(stamp["networks"]) or {len(bits[name][key]) for name in bits for key in keys} != {stamp["n"]}:
        raise InputError(f"{path} names a network twice, or the networks did not meet its {stamp['n']:,} images.")
    return Evaluation(
        stamp=stamp,
        environment=read_json(folder / "environment.json", dict),
        networks=tuple(bits),
        rows=_compared(bits, _grouped(keys)),
        details=_compared(bits, [(*key, [key]) for key in keys]),
        benchmarks=benchmarks(bits, stamp["data"]),
        checks=_named(folder / "checks.json", CHECKS, bits),
        examples=_named(folder / "examples.json", EXAMPLES, bits) or [],
        warnings=tuple(sentence for name, own in answers.items() for sentence in not_finite(name, own)),
        answers=answers,
    )


_Answers = dict[str, dict["Key", Any]]


def _answers(folder: Path, stored: dict[str, Any]) -> tuple[dict[str, Any], _Answers]:
    """Read what evaluation.json says, and what each network answered."""
    path = folder / "evaluation.json"
    if "identity" in stored:
        identity = check_schema(read_sealed(path), EVALUATION, path)["identity"]
        names = [network["name"] for network in identity["networks"]]
        found = {name: part_file(folder, name, identity).load() for name in names}
        whole = {name: {k: c for k, c in own.items() if len(c) == identity["n"]} for name, own in found.items()}
        return {**identity, "command": stored["command"]}, whole
    stamp = check_schema(stored, EARLIER, path)
    return stamp, {one["name"]: _bits(inside(folder / "networks", one["folder"])) for one in stamp["networks"]}


def _named(path: Path, schema: Any, networks: Mapping[str, object]) -> Any:
    """Read what is beside the shifts' files, and refuse it where it speaks of other networks."""
    if not path.exists():
        return {}
    stored = read_json(path)
    whole = schema is EXAMPLES and isinstance(stored, dict)
    found = check_schema(stored.get("examples") if whole else stored, schema, path)
    groups = [found] if isinstance(found, dict) else [image["said"] for group in found for image in group["images"]]
    if strange := next((name for group in groups for name in group if name not in networks), None):
        raise InputError(f"{path} names a network {strange[:60]!r} that was not evaluated. Delete it and run again.")
    return found


def _bits(folder: Path) -> dict[Key, NDArray[np.bool_]]:
    return {key: right for file in sorted(folder.glob("*.npz")) for key, right in read_bits(file).items()}


def _load_counts(folder: Path) -> Evaluation:
    """Read results.csv, which has each shift's comparison, and not what a mean over shifts needs to be tested."""
    path = folder / "results.csv"
    lines, details = read_csv(path), dict[Any, ShiftRow]()
    differences = dict[Any, dict[str, Difference]]()
    for line in lines:
        network, suite, shift, word = (line.get(name, "") for name in ("network", "suite", "shift", "verdict"))
        level, n, wrong = (read_number(path, line, name) for name in ("severity", "n", "wrong"))
        if not (network and suite and shift and n >= 1 and 0 <= wrong <= n and abs(level) < math.inf):
            raise InputError(f"{path} has a line that is no result: {', '.join(line.values())[:100]}. Restore it.")
        row = details.setdefault((suite, shift, level), ShiftRow(suite, shift, level, {}, {}))
        row.errors[network] = error_interval([wrong / n], int(n))
        if word in get_args(Verdict):
            columns = ("difference", "difference_low", "difference_high", "level")
            mean, low, high, confidence = (read_number(path, line, name) for name in columns)
            if not (math.isnan(confidence) or 0.5 <= confidence < 1):
                raise InputError(f"{path} has a level of confidence of {confidence}; wanted is 0.5 to 1. Restore it.")
            own = Interval(mean, low, high)
            differences.setdefault((suite, shift, level), {})[network] = from_interval(own, int(n), confidence)
    networks = tuple(dict.fromkeys(line["network"] for line in lines))
    sizes = {read_number(path, line, "n") for line in lines}
    if len(sizes) != 1 or len(lines) != len(details) * len(networks):
        raise InputError(f"{path} is empty, or its networks did not meet the same shifts and images. Restore it.")
    n = int(sizes.pop())
    for key, pairs in zip(differences, _paired(list(differences.values())), strict=True):
        details[key].pairs.update(pairs)
    return Evaluation(
        stamp={"data": lines[0].get("data", ""), "n": n},
        environment=read_json(folder / "environment.json", dict),
        networks=networks,
        rows=tuple(_mean_row(line, details, n) for line in _grouped(list(details))),
        details=tuple(details.values()),
        benchmarks=(),
        checks=_named(folder / "checks.json", CHECKS, dict.fromkeys(networks)),
        examples=[],
        has_answers=False,
    )


def _mean_row(line: _Group, details: Mapping[Any, ShiftRow], n: int) -> ShiftRow:
    suite, shift, level, keys = line
    if len(keys) == 1:
        return details[keys[0]]
    means = {name: np.mean([details[key].errors[name].mean for key in keys]) for name in details[keys[0]].errors}
    return ShiftRow(suite, shift, level, {name: error_interval([mean], n) for name, mean in means.items()}, {})


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
    pairs = _paired([{name: compare_paired(own[name][None], own[first][None]) for name in others} for own in wrong])
    return tuple(
        ShiftRow(suite, shift, level, {name: bounded(array) for name, array in own.items()}, pair)
        for (suite, shift, level, _), own, pair in zip(lines, wrong, pairs, strict=True)
    )


def _paired(rows: Sequence[Mapping[str, Difference]]) -> list[dict[str, Pair]]:
    """Decide on all differences of a table together."""
    differences = [each for row in rows for each in row.values()]
    found = iter(zip(differences, find(differences, "images"), strict=True))
    return [{name: _pair(*next(found)) for name in row} for row in rows]


def _pair(difference: Difference, found: Finding | None) -> Pair:
    assert found is not None, "there is a difference"
    told = would_tell(difference, found.level, "images") if found.verdict == "no difference seen" else ""
    return Pair(found.difference, found.level, found.p, found.p_holm, found.verdict, told)


def _wrong(found: Mapping[Key, NDArray[np.bool_]], keys: Sequence[Key]) -> NDArray[np.bool_]:
    return ~np.stack([found[key] for key in keys])


def bounded(wrong: NDArray[np.bool_]) -> Interval:
    """Bound the mean error over some shifts of the same images."""
    # The images are the independent units: the interval is Wilson's for the mean error and n images, which is exact for
    # one shift and wider than needed for several.
    return error_interval([wrong.mean()], wrong.shape[1])


WITHOUT_ANSWERS = (
    "The answers image by image are not in this folder: differences are those of results.csv, Holm-corrected over its "
    "lines, and means over several severities are not compared."
)
RESULTS = {"passed": "green", "failed": "red", "not run": "dim"}


def console_evaluation(evaluation: Evaluation) -> Iterator[RenderableType]:
    """Lay an evaluation out for a terminal: errors, then what the attacks and their checks show."""
    from rich.text import Text

    yield Text(f"error in % on {evaluation.stamp['data']} ({evaluation.shown}), 95 % intervals")
    yield _table(evaluation)
    for sentence in evaluation.warnings:
        yield Text(f"warning: {sentence}", "bold yellow")
    if not evaluation.has_answers:
        yield WITHOUT_ANSWERS
    yield from (f"To tell {name} from {evaluation.networks[0]} on {row.suite} images takes about {pair.would_tell}."
                for row in evaluation.rows[:1] for name, pair in row.pairs.items() if pair.would_tell)  # fmt: skip
    for benchmark in evaluation.benchmarks:
        for name in evaluation.networks:
            yield f"{benchmark.suite}, 15 at 5 severities, {name}: {benchmark.told(name)}"
    for name, found in evaluation.checks.items():
        yield Text(f"{name}: {found['sentence']}", "bold")
        for check in found["checks"]:
            result = Text(f"  {check['result']:8}", RESULTS[check["result"]])
            yield result + Text(f" {check['name']}. {check['found']}", "")


def _table(evaluation: Evaluation) -> RenderableType:
    first, *others = evaluation.networks
    columns = {"": "left", "network": "left", "error": "right", "interval": "left"}
    columns |= {"points": "right", "verdict": "left"} if others else {}
    caption = f"points: difference to {first}; verdicts: these networks on new images, paired by image, Holm-corrected"
    table = terminal_table(columns, caption if others else "")
    table.columns[0].min_width = 22
    for column in table.columns[2:]:
        column.no_wrap = True
    for row, following in zip(evaluation.rows, [*evaluation.rows[1:], None], strict=True):
        for name in evaluation.networks:
            last = name == evaluation.networks[-1] and (following is None or following.suite != row.suite)
            table.add_row(*_line(row, name, first, paired=bool(others)), end_section=last)
    return table


def _line(row: ShiftRow, name: str, first: str, *, paired: bool) -> list[Text]:
    from rich.text import Text

    label = Text(row.label if row.shift else f"{row.suite}: mean", "" if row.shift else "bold")
    error, pair = row.errors[name], row.pairs.get(name)
    cells = [label if name == first else Text(""), Text(name), Text(percent(error.mean)), Text(bounds(error), "dim")]
    if not paired:
        return cells
    if pair is None:
        return [*cells, Text(""), Text("")]
    return [*cells, Text(points(pair.difference.mean)), verdict_text(pair.verdict)]


def write_evaluation(folder: Path) -> Written[Evaluation]:
    """Rebuild an evaluation's reports from its other files, and give what they say."""
    evaluation = load_evaluation(folder)
    if evaluation.has_answers:
        write_json(folder / "results.json", as_json(evaluation))
        write_atomic(folder / "results.csv", as_csv(evaluation))
        for name, entry in robustbench(evaluation).items():
            write_json(inside(folder / "robustbench", f"{name}.json"), entry)
    write_atomic(folder / "report.html", render_evaluation(evaluation))
    return Written(folder / "report.html", evaluation)


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Lay an evaluation out for other programs."""
    stamp = {key: value for key, value in evaluation.stamp.items() if key not in ("keys", "info", "command")}
    return {
        **stamp,
        "command": evaluation.stamp.get("command", ""),
        "environment": evaluation.environment,
        "table": [_row(row) for row in evaluation.rows],
        "details": [_row(row) for row in evaluation.details],
        "benchmarks": [dataclasses.asdict(benchmark) for benchmark in evaluation.benchmarks],
        "checks": evaluation.checks,
        "warnings": list(evaluation.warnings),
    }


def _row(row: ShiftRow) -> dict[str, Any]:
    severity = None if math.isnan(row.severity) else row.severity
    found = dataclasses.asdict(row)
    return {"suite": row.suite, "shift": row.shift or "mean", "severity": severity} | {
        key: found[key] for key in ("errors", "pairs") if found[key]
    }


def as_csv(evaluation: Evaluation) -> str:
    """Lay an evaluation out for a spreadsheet: a line for each network, shift and severity."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    header = ["data", "network", "suite", "shift", "severity", "n", "wrong", "error", "low", "high"]
    pair = ["difference", "difference_low", "difference_high", "p", "p_holm", "verdict", "level"]
    header += pair * (len(evaluation.networks) > 1)
    writer.writerow(header)
    for row in evaluation.details:
        for name, error in row.errors.items():
            n = evaluation.n
            names = map(spreadsheet, (evaluation.stamp["data"], name, row.suite, row.shift))
            cells: list[Any] = [*names, f"{row.severity:.6g}", n]
            cells += [round(error.mean * n), *(f"{v:.6f}" for v in (error.mean, error.low, error.high))]
            if found := row.pairs.get(name):
                difference = found.difference
                cells += [f"{v:.6f}" for v in (difference.mean, difference.low, difference.high)]
                cells += [f"{found.p:.6g}", f"{found.p_holm:.6g}", found.verdict, f"{found.level:.9g}"]
            writer.writerow(cells + [""] * (len(header) - len(cells)))
    return stream.getvalue()


def robustbench(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Write entries in the manner of RobustBench's model_info files."""
    # Accuracies are text in percent with two decimals, as there. What is not known here is None; ``attack`` names what
    # was run where it is not AutoAttack.
    entries = {}
    for network in evaluation.stamp["networks"]:
        name = network["name"]
        error = {(row.suite, row.shift, row.severity): row.errors[name].mean for row in evaluation.details}
        shared = {
            "link": None, "name": name, "authors": None, "additional_data": None, "number_forward_passes": 1,
            "dataset": evaluation.stamp["data"], "venue": None, "architecture": network["architecture"],
            "n_examples": evaluation.n, "clean_acc": _accuracy(error["clean", "clean", 0.0]),
        }  # fmt: skip
        means = {row.suite: row.errors[name].mean for row in evaluation.rows if not row.shift}
        for suite in ("corruptions", "cifar10-c", "cifar100-c", "imagenet-c"):
            if suite in means:
                entry = shared | {"eps": None, "corruptions": suite, "corruptions_acc": _accuracy(means[suite])}
                entries[f"{file_name(name)}-{suite}"] = entry
        for (_, shift, radius), wrong in error.items():
            if shift in ATTACKS and radius:
                own = {"autoattack_acc": None, "attack": shift, f"{shift}_acc": _accuracy(wrong)}
                at = fraction(radius)
                entry = shared | {"threat_model": "Linf", "eps": at} | own
                entries[f"{file_name(name)}-Linf-{shift}-{at.replace('/', 'of')}"] = entry
    return entries


def _accuracy(error: float) -> str:
    return f"{100 * (1 - error):.2f}"


def render_evaluation(evaluation: Evaluation) -> str:
    """Write the report as one HTML page that needs nothing else: no script, no font, no request."""
    errors = [
        (name, at, (row.suite, row.shift, row.severity), row.errors[name])
        for row in evaluation.details
        for at, name in enumerate(evaluation.networks)
    ]
    pairs = [pair for row in evaluation.rows for pair in row.pairs.values()]
    return render(
        "evaluation.html",
        evaluation=evaluation,
        colours={name: figures.VARIABLES[mark(at)] for at, name in enumerate(evaluation.networks)},
        curves=draw_severities(errors),
        facts=evaluation_facts(evaluation),
        counts_alone="" if evaluation.has_answers else WITHOUT_ANSWERS,
        how_tested=how_tested("new images, for these very networks", pairs),
    )


def evaluation_facts(evaluation: Evaluation) -> dict[str, list[tuple[str, str]]]:
    """List how an evaluation was made."""
    own = {key: value for key, value in evaluation.stamp.items() if isinstance(value, (str, int)) and key != "command"}
    networks = [(f"{e['name']}, {e['architecture']}", e["sha256"][:16]) for e in evaluation.stamp.get("networks", [])]
    return {"Evaluation": [*flat(own), *networks], "Machine and versions": list(flat(evaluation.environment))}
