"""`resolute report` opens every folder that is kept, from what it holds alone, and refuses damaged ones."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pictures import flipped
from resolute.run_folder import read_records
from resolute.stats import compare_seeds

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.conftest import Answer

    Call = Callable[..., Answer]

KEPT = Path(__file__).parents[2] / "experiments/results"
FOLDERS = sorted(path.parent.relative_to(KEPT) for path in KEPT.glob("*/*/environment.json"))


@pytest.fixture
def copy(tmp_path: Path) -> Callable[[str | Path], Path]:
    def make(name: str | Path) -> Path:
        [kept] = KEPT.glob(f"{name}" if Path(name).parent.name else f"{name}/*")
        return Path(shutil.copytree(kept, tmp_path / "kept"))

    return make


@pytest.mark.parametrize("name", FOLDERS, ids=str)
def test_every_kept_folder_opens(name: Path, resolute: Call, copy: Callable[..., Path]) -> None:
    folder = copy(name)
    answer = resolute("report", folder)
    assert answer.code == 0, answer.message
    assert not re.search(r"\bnan\b|\binf\b|None(?! of these methods)", answer.out)
    if (folder / "recipe.json").exists():
        assert "differences are told for new seeds on these images, not for new images." in answer.out
    if not name.parts[0].startswith(("inference", "saddle", "sharpness")):
        assert "<h1>" in (folder / "report.html").read_text(encoding="utf-8")
        assert f"report: {folder / 'report.html'}" in answer.out


def test_records_alone_give_errors_and_tests_over_seeds(resolute: Call, copy: Callable[..., Path]) -> None:
    folder = copy("digits")
    errors: dict[str, dict[int, float]] = {}
    for row in read_records(folder / "records.jsonl"):
        if row.suite == "clean":
            errors.setdefault(row.method, {})[row.seed] = 100 * row.error
    found = compare_seeds([errors["fgsm"][seed] - errors["base"][seed] for seed in errors["base"]])
    p = found.p("seeds")
    line = next(line for line in resolute("report", folder).out.splitlines() if line.split()[:2] == ["fgsm", "*"])
    assert line.split()[2] == f"{np.mean(list(errors['fgsm'].values())):.2f}"
    holm = float(line.split()[-1])
    assert p < holm <= 6 * p + 0.001
    change = found.interval(1 - 0.05 / round(holm / p), "seeds")
    assert f"{change.mean:+.2f} ({change.low:+.2f} to {change.high:+.2f})" in line
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "cover new seeds on these images, not new images" in page
    assert "verdict, these images" not in page


def test_results_alone_give_the_comparisons_that_they_hold(resolute: Call, copy: Callable[..., Path]) -> None:
    folder = copy("evaluation-mnist-lenet")
    rows = list(csv.DictReader((folder / "results.csv").read_text().splitlines()))
    answer = resolute("report", folder)
    [row] = [row for row in rows if (row["network"], row["shift"], row["severity"]) == ("r-seed0", "fgsm", "0.2")]
    words = next(line.split() for line in answer.out.splitlines() if line.split()[:2] == ["r-seed0", "59.02"])
    assert words[-2:] == [f"{100 * float(row['difference']):.2f}", row["verdict"]]
    assert f"{100 * float(row['error']):.2f}" == words[1]
    mean = np.mean([float(r["error"]) for r in rows if r["network"] == "r-seed0" and r["suite"] == "disturbances"])
    assert re.search(rf"r-seed0 +{100 * mean:.2f} +[\d.]+ to [\d.]+ *\n", answer.out)
    assert "differences are those of results.csv" in answer.out
    before = (KEPT / "evaluation-mnist-lenet").glob("*/results.csv")
    assert (folder / "results.csv").read_bytes() == next(before).read_bytes()


def test_curvature_alone_gives_the_same_ratios(resolute: Call, copy: Callable[..., Path]) -> None:
    folder = copy("curvature-mnist")
    stored = json.loads((folder / "curvature.json").read_text())
    answer = resolute("report", folder)
    for row in stored["comparisons"]:
        assert f"{row['ratio']['mean']:#.3g}".removesuffix(".") in answer.out
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1, "of what is drawn only the eigenvalues are kept"
    assert json.loads((folder / "curvature.json").read_text()) == stored


@pytest.mark.parametrize(
    ("name", "file", "change", "told"),
    [
        ("digits", "recipe.json", {"seeds": ["x"]}, "seeds[0] is 'x'; wanted is a whole number"),
        ("digits", "recipe.json", {"methods": ["../../x"], "baseline": "../../x"}, "records of base seed 0"),
        ("digits", "environment.json", [], "its content is []; wanted is an object"),
        ("curvature-digits", "curvature.json", {"networks": [{}]}, "networks[0].name is missing"),
        ("evaluation-mnist-lenet", "checks.json", {"other": {"sentence": "", "checks": []}}, "names a network 'other'"),
    ],
)
def test_a_damaged_folder_is_refused(
    name: str, file: str, change: Any, told: str, resolute: Call, copy: Callable[..., Path]
) -> None:
    folder = copy(name)
    stored = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(stored | change if isinstance(change, dict) else change))
    answer = resolute("report", folder)
    assert answer.code == 2
    assert told in answer.message
    assert file in answer.message or "records.jsonl" in answer.message


def test_what_is_no_run_folder_is_refused(resolute: Call, tmp_path: Path) -> None:
    for folder, message in (
        (tmp_path, "Is this a run folder of `resolute`?"),
        (tmp_path / "none", "there is no folder"),
    ):
        answer = resolute("report", folder)
        assert answer.code == 2
        assert message in answer.message


def test_a_damaged_folder_is_refused_by_its_report(resolute: Call, finished: Path) -> None:
    run = shutil.copytree(finished, Path("run"))
    for name in ("bits.npz", "records.jsonl", "cost.json", "train.csv", "weights.safetensors", "checksums.json"):
        file = run / "cells/r-seed1" / name
        whole = file.read_bytes()
        file.write_bytes(flipped(whole, len(whole) // 2, 3))
        answer = resolute("report", run)
        assert answer.code == 2
        assert f"cells/r-seed1/{name} is " in answer.message
        file.write_bytes(whole)
    shutil.rmtree(run / "cells/r-seed1")
    shutil.copytree(run / "cells/r-seed0", run / "cells/r-seed1")
    answer = resolute("report", run)
    assert answer.code == 2
    assert "cells/r-seed1 belongs to other work: seed is 0 there and 1 here" in answer.message
