from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from resolute import cli, models
from resolute.data import load
from resolute.models import checkpoint

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cells(tmp_path: Path) -> list[Path]:
    info = load("digits").info
    spec = {"name": "lenet", "classes": 10, "shape": info.shape, "class_names": list(info.class_names)}
    folders = [tmp_path / f"run/cells/base-seed{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        model = models.build("lenet", classes=10, shape=info.shape)
        checkpoint.save(model, folder, spec | {"method": "base", "seed": seed})
    return folders


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["resolute", "evaluate", *map(str, words)])
    code: object = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code or 0
    assert isinstance(code, int)
    out, err = capsys.readouterr()
    return code, out, " ".join(err.split())


def test_two_checkpoints_are_judged_and_compared(
    cells: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = (*cells, "--suites", "clean,disturbances,fgsm", "--limit", 50, "--device", "cpu", "--out", out)
    code, shown, told = call(monkeypatch, capsys, *words)
    assert code == 0
    lines = shown.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"report: {out / 'report.html'}"
    assert {"base-seed0", "base-seed1", "random-crop", "fgsm"} <= set(shown.split())
    assert "s left" in told
    assert "passed" in shown
    results = json.loads((out / "results.json").read_text())
    assert results["command"].startswith("resolute evaluate ")
    assert results["n"] == 50
    assert set(results["details"][0]["pairs"]) == {"base-seed1"}
    written = (out / "report.html").read_bytes()
    assert call(monkeypatch, capsys, *words)[:2] == (0, shown)
    assert (out / "report.html").read_bytes() == written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to judge: give a CHECKPOINT"),
        (["--model", "lenet"], "--model NAME and --weights FILE belong together"),
        (["CELL", "--suites", "clean,atacks"], "unknown suite 'atacks': did you mean 'attacks'"),
        (["CELL", "--device", "gpu"], "unknown device 'gpu'"),
        (["CELL", "--limit", "0"], "--limit is 0"),
        (["CELL", "--data", "nowhere"], "unknown data set 'nowhere'"),
        (["--factory", "nothing"], "it is package.module:function"),
        (["/nowhere"], "holds no model.json"),
    ],
)
def test_a_mistake_ends_with_its_message_and_code_2(
    cells: list[Path],
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _, told = call(monkeypatch, capsys, *[cells[0] if word == "CELL" else word for word in words])
    assert code == 2
    assert told.startswith("error: ")
    assert message in told
