from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from resolute import cli, models
from resolute.data import load
from resolute.models import checkpoint

ANSWERS = """
import torch
from torch import nn

class Answers(nn.Module):
    def __init__(self, change, pixels=64, classes=10):
        super().__init__()
        self.network, self.change = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)), change

    def forward(self, x):
        return self.change(self.network(x))

def pair(): return Answers(lambda logits: (logits, logits))
def sure(): return Answers(lambda logits: logits.softmax(1))
def wide(): return Answers(lambda logits: logits, classes=11)
def flat(): return Answers(lambda logits: logits, pixels=192)
"""
"""A user's own networks, none of which can be judged."""


@pytest.fixture
def cells(tmp_path: Path) -> list[Path]:
    info = load("digits").info
    spec = {"name": "lenet", "classes": 10, "shape": info.shape, "class_names": list(info.class_names)}
    folders = [tmp_path / f"run/cells/base-seed{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        model = models.build("lenet", classes=10, shape=info.shape)
        checkpoint.save(model, folder, spec | {"method": "base", "seed": seed})
    return folders


def call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object, command: str = "evaluate"
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["resolute", command, *map(str, words)])
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
    (out / "report.html").unlink()
    (out / "results.csv").unlink()
    assert call(monkeypatch, capsys, out, command="report")[:2] == (0, shown)
    assert (out / "report.html").read_bytes() == written
    assert (out / "results.csv").exists()


def test_fifteen_corruptions_have_their_mean(
    cells: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (cells[0], "--suites", "corruptions", "--limit", 20, "--device", "cpu", "--out", "out")
    code, shown, _ = call(monkeypatch, capsys, *words)
    assert code == 0
    results = json.loads(Path("out/results.json").read_text())
    [benchmark] = results["benchmarks"]
    [mean] = [row for row in results["table"] if (row["suite"], row["shift"]) == ("corruptions", "mean")]
    figure = benchmark["figures"]["base-seed0"]["mean error"]["mean"]
    assert figure == pytest.approx(mean["errors"]["base-seed0"]["mean"])
    assert f"base-seed0: mean error {100 * figure:.2f} %" in " ".join(shown.split())
    assert f"mean error {100 * figure:.2f} %" in Path("out/report.html").read_text()


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
        (["--factory", "answers:pair"], "the model returns a tuple of 2; wanted is one tensor of logits"),
        (["--factory", "answers:sure"], "the model returns probabilities; wanted are logits"),
        (["--factory", "answers:wide"], "tells 11 classes apart, and digits has 10"),
        (["--factory", "answers:flat"], "the model cannot take images of 1x8x8 pixels"),
        (["CELL", "--device", "cuda"], "device is 'cuda', and torch sees no GPU here"),
    ],
)
def test_a_mistake_ends_with_its_message_and_code_2(
    cells: list[Path],
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("answers.py").write_text(ANSWERS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.syspath_prepend(".")
    monkeypatch.delitem(sys.modules, "answers", raising=False)
    code, _, told = call(monkeypatch, capsys, *[cells[0] if word == "CELL" else word for word in words])
    assert code == 2
    assert told.startswith("error: ")
    assert message in told
