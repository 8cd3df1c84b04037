"""Every field of a run folder's JSON set to what it must not be: the report is written, or refuses; nothing else."""

from __future__ import annotations

import contextlib
import json
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from resolute.curvature.report import console_curvature, curvature_sentence, load_curvature
from resolute.errors import InputError
from resolute.report.comparison import summarise
from resolute.report.evaluation import as_csv, as_json, console_evaluation, load_evaluation, robustbench
from resolute.report.page import console_table, render_markdown
from resolute.report.run import load_run
from resolute.run_folder import write_bits, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WRONG: tuple[Any, ...] = (None, "../../x", -1, 1e300, [], {}, True, [[[{"a": 1}]]], "y" * 5000)
TEXTS = ("NaN", "1e400", "-Infinity")
MOST = 120
"""Variants of a file."""


def comparison(folder: Path) -> None:
    summary = summarise(load_run(folder))
    assert render_markdown(summary)
    assert console_table(summary).row_count


def evaluation(folder: Path) -> None:
    found = load_evaluation(folder)
    for name in robustbench(found):
        assert "/" not in name
    assert json.dumps(as_json(found), allow_nan=False)
    assert as_csv(found)
    assert list(console_evaluation(found))


def curvature(folder: Path) -> None:
    found = load_curvature(folder)
    assert curvature_sentence(found.networks, found.comparisons)
    assert list(console_curvature(found))


def make_evaluation(folder: Path) -> Path:
    keys = [("clean", "clean", 0.0), ("fgsm", "fgsm", 0.1), ("fgsm", "fgsm", 0.2)]
    networks = [{"name": n, "architecture": "lenet", "sha256": "0", "folder": n} for n in ("a", "b")]
    for at, network in enumerate(networks):
        for key in keys:
            right = np.random.default_rng(at).random(30) < 0.7
            write_bits(folder / "networks" / network["folder"] / f"{key[1]}-{key[2]}.npz", {key: right})
    shared = {"data": "digits", "split": "test", "n": 30, "seed": 0, "suites": ["clean", "fgsm"], "command": "x"}
    write_json(folder / "evaluation.json", shared | {"keys": keys, "networks": networks})
    checks = [{"name": "one", "result": "passed", "found": "it"}]
    write_json(folder / "checks.json", {"a": {"sentence": "Robust.", "n": 30, "checks": checks}})
    images = [{"index": 1, "png": "", "truth": "3", "said": {"a": "4", "b": "3"}}]
    write_json(folder / "examples.json", [{"suite": "clean", "shift": "clean", "severity": 0.0, "images": images}])
    write_json(folder / "environment.json", {"cpu": "one"})
    return folder


def make_curvature(folder: Path) -> Path:
    quantity = {"value": 2.0, "se": 0.1, "n": 5}
    for name in ("base-seed0", "base-seed1", "r-seed0", "r-seed1"):
        measured = {
            "name": name, "architecture": "lenet", "sha256": "0", "parameters": 10, "top": [3.0, 1.0],
            "quantities": {"input-top": quantity, "parameter-top": quantity}, "nodes": [[-1.0, 3.0]],
            "weights": [[0.5, 0.5]], "jacobian_norms": [1.0, 2.0],
            "surface": {"radii": [-1.0, 1.0], "loss": [[1.0, None], [0.4, 0.1]]},
        }  # fmt: skip
        write_json(folder / "networks" / f"{name}.json", measured)
    networks = [{"name": path.stem, "file": path.stem} for path in sorted((folder / "networks").iterdir())]
    plan = {"eps": 0.1, "draws": 2}
    write_json(folder / "survey.json", {"data": "d", "split": "train", "n": 3, "plan": plan, "networks": networks})
    write_json(folder / "errors.json", {"base-seed0": {"clean": 0.1}})
    write_json(folder / "environment.json", {"cpu": "one"})
    return folder


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field of a nested value, and the value itself."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, own in inner:
        yield from places(own, (*path, key))


def damaged(text: str) -> Iterator[str]:
    """Give the file with each field removed, and set to each wrong value."""
    for path in places(json.loads(text)):
        for wrong in (*WRONG, *(f"@@{said}@@" for said in TEXTS), "@@removed@@"):
            whole = [json.loads(text)]
            inner: Any = whole
            *way, last = (0, *path)
            for key in way:
                inner = inner[key]
            inner[last] = wrong
            if wrong == "@@removed@@":
                del inner[last]
            yield "".join(json.dumps(one) for one in whole).replace('"@@', "").replace('@@"', "")


@pytest.mark.parametrize("kind", ["comparison", "evaluation", "curvature"])
def test_a_wrong_field_is_refused_or_shown(kind: str, tmp_path: Path, build: Callable[..., Path]) -> None:
    makers: dict[str, tuple[Callable[[Path], object], Callable[[Path], None]]] = {
        "comparison": (lambda path: build(path, seeds=(0, 1), n=20, epochs=1), comparison),
        "evaluation": (make_evaluation, evaluation),
        "curvature": (make_curvature, curvature),
    }
    make, read = makers[kind]
    folder = tmp_path / "inside" / "run"
    make(folder)
    read(folder)
    files = [path for path in sorted(folder.rglob("*.json")) if "-seed1" not in path.name and "seed1" not in str(path)]
    refused = 0
    for file in files:
        good = file.read_text(encoding="utf-8")
        variants = list(damaged(good))
        for text in random.Random(0).sample(variants, min(len(variants), MOST)):
            file.write_text(text, encoding="utf-8")
            with contextlib.suppress(InputError):
                read(folder)
                refused -= 1
            refused += 1
        file.write_text(good, encoding="utf-8")
    assert refused > 100
    assert [path.name for path in tmp_path.iterdir()] == ["inside"], "nothing is written outside"
